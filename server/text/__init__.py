"""Text and meaning: templates, stop strings, UTF-8; no I/O."""

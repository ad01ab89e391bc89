"""The model store: what GGUF files exist and what they are."""

"""The child side: one process that owns one loaded model."""

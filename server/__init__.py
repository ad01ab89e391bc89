"""Cloister: an offline-first local inference server on llama.cpp."""

__version__ = "0.1.0"

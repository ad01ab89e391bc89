"""Novice: the model that the project trains itself, and how it is made."""

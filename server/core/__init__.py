"""The internal language: requests, events and errors, free of any framework."""

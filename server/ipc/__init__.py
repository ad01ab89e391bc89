"""The messages between the API process and a worker, and their framing."""

"""The public protocols: each turns bytes into requests and events into bytes."""

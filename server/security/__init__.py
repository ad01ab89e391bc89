"""Who may ask this server for what, and how much of it."""

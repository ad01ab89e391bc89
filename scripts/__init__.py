"""Development tools of the project; nothing that ships imports them."""

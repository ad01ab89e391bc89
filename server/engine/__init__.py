"""The parent side: which instances live, and how requests reach them."""

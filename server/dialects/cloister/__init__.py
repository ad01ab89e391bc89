"""Endpoints of this server's own, under `/cloister`."""

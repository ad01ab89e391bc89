"""The command line: `cloister`, one file for each group of commands."""

from server.cli.program import main

__all__ = ["main"]

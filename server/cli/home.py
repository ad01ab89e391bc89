"""Which home folder a command works on."""

import os
from pathlib import Path

import click

from server.config import load_settings


def home_of(ctx: click.Context) -> Path:
    """Find the home folder by the server's own rules.

    A command's own `--home` goes before `CLOISTER_HOME`, that before
    ~/.cloister.

    Raises:
        ConfigError: A setting of the environment or the file is wrong.
    """
    flags = {"home": ctx.params.get("home")}
    return load_settings(flags, os.environ, cwd=Path.cwd()).home

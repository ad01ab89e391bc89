"""Whether a command may use the network: as the server, so its commands."""

import os
from pathlib import Path

from model_store.hub_errors import BadHubSetting
from server.config import load_settings


def require_network() -> None:
    """Check that no settings file says `offline`.

    What the environment says is looked at where a hub is opened
    (`model_store.remote.read_access`); it goes before the file, as it does for
    the server.

    Raises:
        BadHubSetting: The settings are offline, at whatever level.
        ConfigError: A setting of the environment or the file is wrong.
    """
    level = load_settings({}, os.environ, cwd=Path.cwd()).offline
    if level != "off" and not os.environ.get("CLOISTER_OFFLINE"):
        raise BadHubSetting(
            "offline by policy: the settings file says offline",
            "Carry the file in: cloister import FILE, or set CLOISTER_OFFLINE=0 for "
            "this command.",
        )

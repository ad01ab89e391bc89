"""`cloister serve`: its options and help come from the settings."""

import subprocess
import sys

import pytest

from server.cli.serve import serve_command
from server.config import list_settings


def run(*args, cwd=None, env=None):
    """Run the real program."""
    return subprocess.run(
        [sys.executable, "-m", "server", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=30,
        check=False,
    )


@pytest.fixture(scope="module")
def help_text():
    """Return the help as one line, so that line breaks do not matter."""
    return " ".join(run("serve", "--help").stdout.split())


@pytest.mark.parametrize("setting", list_settings(), ids=lambda s: s.key)
def test_help_tells_every_option_with_placeholder_text_and_default(help_text, setting):
    expected = f"{setting.usage} {setting.help} [{setting.default}]"
    assert expected in help_text


def test_help_shows_groups_in_order_and_an_example(help_text):
    places = [help_text.index(f" {g}: ") for g in ("Models", "Network", "Engine")]
    assert sorted(places) == places
    assert "cloister serve --port 8080 --models-dir ~/.lmstudio/models" in help_text


def test_every_setting_is_an_option():
    options = {param.name for param in serve_command.params}
    assert {s.key for s in list_settings()} | {"config_file"} == options

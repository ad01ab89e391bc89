"""Which home folder a command works on."""

from pathlib import Path

import click
import pytest

from server.cli.home import home_of
from server.config import ConfigError


def find(**params):
    ctx = click.Context(click.Command("x"))
    ctx.params = params
    return home_of(ctx)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLOISTER_HOME", raising=False)


def test_the_usual_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".cloister" == find()


def test_the_environment_and_then_the_option_go_first(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOISTER_HOME", "/srv/cloister")
    assert Path("/srv/cloister") == find()
    assert tmp_path / "here" == find(home="here")


def test_a_wrong_setting_is_told(monkeypatch):
    monkeypatch.setenv("CLOISTER_HOEM", "x")
    with pytest.raises(ConfigError, match="Did you mean CLOISTER_HOME"):
        find()

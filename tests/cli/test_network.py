"""`server.cli.network`: what the server may not, its commands may not either."""

import pytest

from model_store.hub_errors import BadHubSetting
from server.cli.network import require_network


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.delenv("CLOISTER_OFFLINE", raising=False)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write_file(text):
        (tmp_path / "cloister.toml").write_text(text, encoding="utf-8")

    return write_file


@pytest.mark.parametrize("value", ["true", '"process"'])
def test_offline_in_the_file_forbids_at_every_level(write, value):
    write(f"offline = {value}")
    with pytest.raises(BadHubSetting, match=r"Offline by policy: .*cloister import"):
        require_network()


def test_without_it_nothing_is_forbidden(write):
    require_network()
    write("offline = false")
    require_network()


def test_the_environment_goes_before_the_file(write, monkeypatch):
    write("offline = true")
    monkeypatch.setenv("CLOISTER_OFFLINE", "0")
    require_network()

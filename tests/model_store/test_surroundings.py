"""What a download takes from its surroundings."""

import os

import pytest

from model_store.hub_errors import BadHubSetting
from model_store.surroundings import load_certificates, pinned_environment


def test_variables_of_the_library_are_hidden_for_a_moment_only(monkeypatch):
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "soon")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("UNRELATED", "1")
    before = dict(os.environ)
    with pinned_environment():
        assert "HF_HUB_ETAG_TIMEOUT" not in os.environ
        assert ("1", os.devnull, "1") == (
            os.environ["HF_HUB_DISABLE_TELEMETRY"],
            os.environ["HF_HOME"],
            os.environ["UNRELATED"],
        )
    assert before == dict(os.environ)


def test_the_systems_certificates_are_used_where_none_are_named(tmp_path):
    assert load_certificates(None) is True
    with pytest.raises(BadHubSetting, match=r"cannot be read: .*No such file"):
        load_certificates(str(tmp_path / "ca.pem"))

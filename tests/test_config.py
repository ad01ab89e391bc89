"""`server.config`: where settings come from, and who wins."""

import os
from pathlib import Path

import pytest

from server.config import ConfigError, Setting, Settings, list_settings, load_settings
from server.setting_kinds import File, Secret, Switch, Words


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Stand in for the user's folder, so that no real settings are met."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "user"


def load(tmp_path, *, flags=None, env=None, file=None):
    if file is not None:
        (tmp_path / "cloister.toml").write_text(file, encoding="utf-8")
    return load_settings(flags or {}, env or {}, cwd=tmp_path)


def fail(tmp_path, **sources):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, **sources)
    return str(raised.value)


def test_without_any_source_the_defaults_hold(tmp_path, home):
    expected = Settings(
        home=home / ".cloister",
        models_dir=(home / ".cloister" / "models",),
        builtin=True,
        host="127.0.0.1",
        port=1234,
        parallel=4,
        context_length=None,
        gpu_layers=None,
        threads=None,
        ttl_s=3600.0,
        shutdown_grace_s=10.0,
        max_body_bytes=134_217_728,
        memory_limit_bytes=None,
        log_level="info",
    )
    assert expected == load(tmp_path)


@pytest.mark.parametrize(
    ("flags", "env", "file", "expected"),
    [
        ({"port": "1"}, {"CLOISTER_PORT": "2"}, "port = 3", 1),
        ({}, {"CLOISTER_PORT": "2"}, "port = 3", 2),
        ({"port": None}, {"CLOISTER_PORT": ""}, "port = 3", 3),
        ({}, {}, None, 1234),
    ],
)
def test_flags_win_over_environment_over_file_over_default(
    tmp_path, home, flags, env, file, expected
):
    assert expected == load(tmp_path, flags=flags, env=env, file=file).port


BY_KIND = {
    File: ("/f", Path("/f")),
    Secret: ("a-secret", "a-secret"),
    Words: ("word", ("word",)),
}


def example(setting: Setting) -> tuple[str, object]:
    """Give a text that is not the default, and what it means."""
    match setting.field:
        case "models_dir":
            return "/m", (Path("/m"),)
        case "home":
            return "/h", Path("/h")
        case "host" | "log_level" | "offline" | "verify" as field:
            text = {
                "host": "0.0.0.0",  # noqa: S104
                "log_level": "debug",
                "offline": "process",
                "verify": "load",
            }[field]
            return text, text
        case "max_body_bytes" | "memory_limit_bytes":
            return "2MiB", 2 * 2**20
        case _ if isinstance(setting.kind, Switch):
            is_on = setting.kind.default
            return setting.kind.format(not is_on), not is_on
        case _:
            return BY_KIND.get(type(setting.kind), ("32", 32))


@pytest.mark.parametrize("setting", list_settings(), ids=lambda s: s.key)
@pytest.mark.parametrize("source", ["flag", "env", "file"])
def test_every_setting_can_come_from_every_source(tmp_path, home, setting, source):
    text, expected = example(setting)
    settings = load(
        tmp_path,
        flags={setting.key: text} if source == "flag" else {},
        env={setting.env: text} if source == "env" else {},
        file=f'{setting.key} = "{text}"' if source == "file" else None,
    )
    assert expected == getattr(settings, setting.field)


def test_several_model_folders_keep_their_order(tmp_path, home):
    expected = (Path("/b"), Path("/a"))
    flags = {"models_dir": ("/b", "/a")}
    env = {"CLOISTER_MODELS_DIR": os.pathsep.join(["/b", "/a"])}
    assert expected == load(tmp_path, flags=flags).models_dir
    assert expected == load(tmp_path, env=env).models_dir
    assert expected == load(tmp_path, file='models_dir = ["/b", "/a"]').models_dir


def test_models_lie_in_the_home_folder_unless_said_otherwise(tmp_path, home):
    assert (Path("/h/models"),) == load(tmp_path, flags={"home": "/h"}).models_dir


def test_relative_paths_start_where_they_were_written(tmp_path, home):
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "mine.toml"
    file.write_text('models_dir = "near"', encoding="utf-8")
    from_file = load_settings({}, {}, cwd=tmp_path, config_file=Path("etc/mine.toml"))
    assert (tmp_path / "etc" / "near",) == from_file.models_dir
    assert (tmp_path / "near",) == load(
        tmp_path, flags={"models_dir": "near"}
    ).models_dir


def test_a_tilde_is_the_users_folder(tmp_path, home):
    env = {"CLOISTER_MODELS_DIR": "~/models"}
    assert (home / "models",) == load(tmp_path, env=env).models_dir


def test_the_file_in_the_current_folder_hides_the_one_in_the_home_folder(
    tmp_path, home
):
    folder = tmp_path / "h"
    folder.mkdir()
    (folder / "cloister.toml").write_text("port = 7\nparallel = 7", encoding="utf-8")
    env = {"CLOISTER_HOME": str(folder)}
    assert 7 == load(tmp_path, env=env).port
    both = load(tmp_path, env=env, file="port = 8")
    assert (8, 4) == (both.port, both.parallel)


def test_a_named_file_is_the_only_one_read(tmp_path, home):
    (tmp_path / "cloister.toml").write_text("port = 1", encoding="utf-8")
    named = tmp_path / "named.toml"
    named.write_text("parallel = 2", encoding="utf-8")
    by_env = load(tmp_path, env={"CLOISTER_CONFIG": str(named)})
    by_flag = load_settings({}, {}, cwd=tmp_path, config_file=named)
    assert (1234, 2) == (by_env.port, by_env.parallel)
    assert by_env == by_flag


def test_a_named_file_that_is_missing_is_an_error(tmp_path, home):
    with pytest.raises(ConfigError, match=r"mine\.toml does not exist\. Create it, or"):
        load_settings({}, {}, cwd=tmp_path, config_file=Path("mine.toml"))


def test_a_broken_file_is_named_with_the_place(tmp_path, home):
    message = fail(tmp_path, file="port = = 3")
    assert f"The settings file {tmp_path}/cloister.toml cannot be read:" in message
    assert "(at line 1, column 8)" in message


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (
            {"env": {"CLOISTER_PROT": "1"}},
            (
                "The environment variable CLOISTER_PROT is not a setting. "
                "Did you mean CLOISTER_PORT?"
            ),
        ),
        (
            {"env": {"CLOISTER_CONTEXT_LENGHT": "1"}},
            (
                "The environment variable CLOISTER_CONTEXT_LENGHT is not a setting. "
                "Did you mean CLOISTER_CONTEXT_LENGTH?"
            ),
        ),
        (
            {"file": "models-dir = 3"},
            "'models-dir' is not a setting. Did you mean models_dir?",
        ),
        (
            {"file": "xyzzy = 3"},
            (
                "'xyzzy' is not a setting. Known are: "
                "allowed_hosts, api_key, api_key_file, body_timeout,"
            ),
        ),
    ],
)
def test_an_unknown_key_stops_the_start_and_names_the_nearest(
    tmp_path, home, sources, expected
):
    assert expected in fail(tmp_path, **sources)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (
            {"flags": {"port": "70000"}},
            "--port 70000 is not valid: expected a whole number from 0 to 65535.",
        ),
        (
            {"env": {"CLOISTER_PARALLEL": "0"}},
            "CLOISTER_PARALLEL=0 is not valid: expected a whole number from 1 to 64.",
        ),
        (
            {"file": "port = true"},
            "port = True is not valid: expected a whole number from 0 to 65535.",
        ),
        (
            {"flags": {"models_dir": ("", "x")}},
            (
                "--models-dir  x is not valid: expected the path of a folder, "
                "or a list of them."
            ),
        ),
        (
            {"env": {"CLOISTER_LOG_LEVEL": "loud"}},
            (
                "CLOISTER_LOG_LEVEL=loud is not valid: expected one of debug, info, "
                "warning, error."
            ),
        ),
    ],
)
def test_a_bad_value_names_source_value_and_what_is_expected(
    tmp_path, home, sources, expected
):
    assert fail(tmp_path, **sources).endswith(expected)


def test_variables_of_the_projects_scripts_are_ignored(tmp_path, home):
    env = {
        "CLOISTER_WHEEL_CACHE": "x",
        "CLOISTER_ENGINE_WHEEL": "x",
        "CLOISTER_TEST_MODELS": "x",
        "PORT": "99",
    }
    assert load(tmp_path) == load(tmp_path, env=env)


def test_keys_flags_and_variables_are_unique():
    settings = list_settings()
    assert len(settings) == len({s.flag for s in settings})
    assert len(settings) == len({s.env for s in settings})
    assert ("--ttl", "CLOISTER_TTL") == next(
        (s.flag, s.env) for s in settings if s.field == "ttl_s"
    )


@pytest.mark.parametrize(
    "sources",
    [
        {"flags": {"api_key": "has blanks"}},
        {"env": {"CLOISTER_API_KEY": "has blanks"}},
        {"file": 'api_key = "has blanks"'},
        {"file": "api_key = 123456"},
    ],
)
def test_no_message_shows_a_secret(tmp_path, home, sources):
    message = fail(tmp_path, **sources)
    assert "(secret)" in message
    assert "blanks" not in message.split("expected")[0]
    assert "123456" not in message


def test_a_secret_is_not_in_the_settings_text(tmp_path, home):
    settings = load(tmp_path, env={"CLOISTER_API_KEY": "the-key"})
    assert "the-key" == settings.api_key
    assert "the-key" not in repr(settings)


def test_several_words_of_a_variable_are_separated_by_commas(tmp_path, home):
    env = {"CLOISTER_CORS": "http://a.example:1, https://b.example,"}
    assert ("http://a.example:1", "https://b.example") == load(tmp_path, env=env).cors

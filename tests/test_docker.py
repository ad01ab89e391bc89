"""The files of docker/ are compared with the program.

No container is built here; what an engine would read is read and checked.
"""

import json
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread

import click
import pytest
import yaml

from server.cli.program import program
from server.config import list_settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
README = (DOCKER / "README.md").read_text(encoding="utf-8")
HEALTHCHECK = DOCKER / "healthcheck.py"


def read_instructions():
    """Yield (instruction, the rest) of the Dockerfile, lines joined."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [tuple(re.split(r"\s+", line, maxsplit=1)) for line in lines]


INSTRUCTIONS = read_instructions()
LAST_STAGE = max(i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
FINAL = INSTRUCTIONS[LAST_STAGE:]
COPIES = [shlex.split(rest) for name, rest in INSTRUCTIONS if name == "COPY"]
FROM_CONTEXT = [words for words in COPIES if not words[0].startswith("--from=")]
ENVIRONMENT = dict(
    word.split("=", 1)
    for name, rest in FINAL
    if name == "ENV"
    for word in shlex.split(rest)
)
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICE = COMPOSE["services"]["cloister"]


def is_let_in(path):
    """Tell whether .dockerignore lets a path into the build; the last match counts.

    Source: docs.docker.com, "Build context", .dockerignore files.
    """
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    inside = True
    places = [path, *(str(p) for p in PurePosixPath(path).parents if str(p) != ".")]
    for line in lines:
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        wanted = {pattern, pattern.removeprefix("**/")}
        if any(fnmatch(place, each) for place in places for each in wanted) or any(
            fnmatch(place, "*/" + pattern.removeprefix("**/"))
            for place in places
            if pattern.startswith("**/")
        ):
            inside = line.startswith("!")
    return inside


def parse(words):
    """Parse a command line as `cloister` would, without running it."""
    context, command = program.make_context("cloister", list(words)), program
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def find(name):
    return [rest for key, rest in FINAL if key == name]


def test_everything_that_is_copied_exists_and_is_let_in():
    sources = [source for words in FROM_CONTEXT for source in words[:-1]]
    assert "server" in sources
    assert [] == [s for s in sources if not (ROOT / s).exists()]
    assert [] == [s for s in sources if not is_let_in(s)]


def test_all_that_an_installation_needs_is_copied():
    sources = {source for words in FROM_CONTEXT for source in words[:-1]}
    needed = {"pyproject.toml", "README.md", "LICENSE", "server", "model_store"}
    assert needed <= sources
    assert is_let_in("model_store/builtin/novice.gguf")
    assert is_let_in("server/static/SOURCES.toml")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "models/publisher/repository/model.gguf",
        "cloister.toml",
        "key.pem",
        "build/cloister.cdx.json",
        "docker/compose.yaml",
        "server/__pycache__/app.cpython-311.pyc",
        "scripts/novice/x.pyc",
        "tests/conftest.py",
    ],
)
def test_nothing_else_gets_into_an_image(path):
    assert not is_let_in(path)


def test_the_image_is_sealed_and_listens_where_a_port_can_be_published(tmp_path):
    settings = load_settings({}, ENVIRONMENT, cwd=tmp_path)
    assert "1" == ENVIRONMENT["CLOISTER_OFFLINE"]
    assert "kernel" == settings.offline
    assert "0.0.0.0" == settings.host  # noqa: S104 - of the container
    assert Path("/data") == settings.home
    assert (Path("/data/models"), Path("/models")) == settings.models_dir
    assert not settings.insecure_no_auth
    assert settings.api_key is None
    assert [str(settings.port)] == find("EXPOSE")


def test_it_does_not_run_as_root_and_owns_its_home():
    (user,) = find("USER")
    number, group = user.split(":")
    assert int(number) > 0
    assert int(group) > 0
    (made,) = [rest for rest in find("RUN") if "/data" in rest]
    assert f"-o {number} -g {group} /data" in made
    assert ['["/data"]'] == find("VOLUME")


def test_all_its_commands_are_commands_of_the_program():
    (entry,) = find("ENTRYPOINT")
    (command,) = find("CMD")
    assert ["cloister"] == json.loads(entry)
    assert "serve" == parse(json.loads(command)).info_name
    runs = [json.loads(rest) for rest in find("RUN") if rest.startswith("[")]
    assert ["selftest"] == [parse(words[1:]).info_name for words in runs]


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(click.UsageError, match="No such option"):
        parse(["serve", "--no-such-option"])
    with pytest.raises(click.UsageError, match="No such command"):
        parse(["launch"])


def test_the_health_check_runs_what_was_copied():
    (line,) = find("HEALTHCHECK")
    command = json.loads(line.partition("CMD")[2])
    targets = [words[-1] for words in FROM_CONTEXT]
    assert "python" == command[0]
    assert command[1] in targets


def test_the_engine_is_built_for_other_cpus_than_the_builders():
    arguments = dict(
        word.split("=", 1)
        for name, rest in INSTRUCTIONS
        if name == "ARG"
        for word in shlex.split(rest)
    )
    assert "-DGGML_NATIVE=OFF" in arguments["CMAKE_ARGS"]
    scripts = [
        word
        for name, rest in INSTRUCTIONS
        if name == "RUN"
        for word in rest.split()
        if word.startswith("scripts/")
    ]
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)


def test_compose_keeps_the_container_small_and_its_port_local(tmp_path):
    assert SERVICE["read_only"] is True
    assert ["ALL"] == SERVICE["cap_drop"]
    assert "cap_add" not in SERVICE
    assert "privileged" not in SERVICE
    assert ["no-new-privileges:true"] == SERVICE["security_opt"]
    (port,) = SERVICE["ports"]
    assert "127.0.0.1:1234:1234" == port
    assert all("noexec" in each for each in SERVICE["tmpfs"])
    settings = load_settings({}, SERVICE["environment"], cwd=tmp_path)
    assert "kernel" == settings.offline
    assert ("cloister",) == settings.allowed_hosts
    assert settings.shutdown_grace_s < int(SERVICE["stop_grace_period"].rstrip("s"))


def test_compose_names_what_exists():
    build = SERVICE["build"]
    context = (DOCKER / build["context"]).resolve()
    assert ROOT == context
    assert (context / build["dockerfile"]).is_file()
    assert any(volume.endswith(":/models:ro") for volume in SERVICE["volumes"])
    assert "data:/data" in SERVICE["volumes"]
    assert {"data"} == set(COMPOSE["volumes"])
    assert SERVICE["networks"] == list(COMPOSE["networks"])
    options = COMPOSE["networks"]["inward"]["driver_opts"]
    assert {"com.docker.network.bridge.enable_ip_masquerade": "false"} == options


def test_the_commands_of_the_readme_are_commands_of_the_program():
    found = []
    text = README.replace("`", "\n")
    for line in re.findall(r"\bdocker .*\brun .*$", text, re.MULTILINE):
        words = shlex.split(line)
        last = len(words) - 1 - words[::-1].index("cloister")
        found.append(words[last + 1 :])
    assert len(found) >= 6
    for words in found:
        if words:
            parse(words)
    assert {"token", "selftest", "doctor", "serve"} <= {w[0] for w in found if w}


def test_every_setting_that_the_readme_names_exists():
    known = {setting.env for setting in list_settings()}
    own = {"CLOISTER_MODELS"}  # of compose.yaml
    assert own == set(
        re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    )
    assert set(re.findall(r"CLOISTER_[A-Z_]*[A-Z]", README)) <= known | own


def ask(**environment):
    return subprocess.run(
        [sys.executable, HEALTHCHECK],
        capture_output=True,
        check=False,
        env={key: str(value) for key, value in environment.items()},
        text=True,
        timeout=30,
    )


@pytest.fixture
def answering():
    """Serve the status of a test's choice; give the port and where it is kept."""
    chosen = {"status": 200, "paths": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            chosen["paths"].append(self.path)
            self.send_response(chosen["status"])
            self.end_headers()

        def log_message(self, *_):
            pass

        protocol_version = "HTTP/1.1"

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, chosen
        server.shutdown()


def test_the_health_check_tells_a_server_that_accepts_from_others(answering):
    port, chosen = answering
    assert 0 == ask(CLOISTER_PORT=port).returncode
    chosen["status"] = 503
    done = ask(CLOISTER_PORT=port)
    assert 1 == done.returncode
    assert "the server answers b'HTTP/1.1 503" in done.stderr
    assert ["/health"] * 2 == chosen["paths"]


def test_the_health_check_tells_that_nobody_answers(tmp_path):
    done = ask(CLOISTER_UNIX_SOCKET=tmp_path / "none")
    assert 1 == done.returncode
    assert "the server does not answer: " in done.stderr

"""`cloister`: exit codes and error lines of the real program."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from server import __version__
from server.cli import main
from server.cli.program import _COMMANDS, program

ROOT = Path(__file__).resolve().parents[2]


def run(*args, cwd=ROOT, **env):
    """Run the real program with an environment free of settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
    return subprocess.run(
        [sys.executable, "-m", "server", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        timeout=30,
        check=False,
    )


def test_version_is_the_packages():
    result = run("--version")
    assert (0, f"cloister {__version__}\n") == (result.returncode, result.stdout)


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        (["serve", "--prot", "1"], {}, "No such option '--prot'"),
        (["sevre"], {}, "No such command 'sevre'"),
        (
            ["serve", "--port", "x"],
            {},
            "cloister: --port x is not valid: expected a whole number",
        ),
        (
            ["serve"],
            {"CLOISTER_PROT": "1"},
            (
                "cloister: The environment variable CLOISTER_PROT is not a setting. "
                "Did you mean CLOISTER_PORT?"
            ),
        ),
        (
            ["serve", "--config", "/no/such.toml"],
            {},
            "cloister: The settings file /no/such.toml does not exist.",
        ),
    ],
)
def test_a_wrong_command_or_setting_ends_with_2_and_no_traceback(args, env, expected):
    result = run(*args, **env)
    assert 2 == result.returncode
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert "" == result.stdout


def test_a_wrong_setting_is_told_in_one_line():
    assert 1 == len(run("serve", "--ttl", "-1").stderr.splitlines())


def test_a_failed_start_ends_with_1(tmp_path):
    missing = tmp_path / "none"
    result = run("serve", "--home", str(tmp_path), "--models-dir", str(missing))
    assert 1 == result.returncode
    assert str(missing) in result.stderr
    assert "Traceback" not in result.stderr


def test_main_returns_the_exit_code(capsys):
    assert 0 == main(["--version"])
    assert f"cloister {__version__}\n" == capsys.readouterr().out


def test_help_needs_neither_web_framework_nor_engine():
    code = (
        "import sys; from server.cli import main; main(['serve', '--help']); "
        "sys.exit(bool({'fastapi', 'uvicorn', 'llama_cpp', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert 0 == done.returncode


def test_a_command_loads_only_what_it_needs():
    """What can reach a network, or takes long to load, waits until it is called."""
    script = (
        "import sys; from server.cli import main; "
        "assert 0 == main(['serve', '--help']); "
        "slow = {'huggingface_hub', 'httpx2', 'cryptography', 'fastapi', 'llama_cpp'}; "
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    assert "[]\n" == result.stderr


def test_the_list_of_commands_is_whole():
    result = run("--help")
    listed = result.stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    names = [line.split()[0] for line in listed]
    assert list(_COMMANDS) == names
    for name in names:
        command = program.get_command(click.Context(program), name)
        assert name == command.name
        assert command.get_short_help_str(200)

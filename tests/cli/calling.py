"""Runs one command in this process, with a home of its own."""

from dataclasses import dataclass

from click.testing import CliRunner


@dataclass
class Outcome:
    """What a command gave; `error` is what it raised."""

    code: int | None
    out: str
    err: str
    error: BaseException | None


def call(command, *args, home, answers=None, **env):
    """Run a command; settings come from `home` and `env` alone."""
    result = CliRunner().invoke(
        command,
        [str(each) for each in args],
        input=answers,
        env={"CLOISTER_HOME": str(home), "CLOISTER_BUILTIN": "false"} | env,
        standalone_mode=False,
    )
    return Outcome(result.return_value, result.stdout, result.stderr, result.exception)

"""`scripts.engine_build`: a build is logged whole and its progress shown."""

import io
import os
import sys
import time

import pytest

from scripts.engine_build import Progress, build_wheel, format_progress, run_logged
from scripts.wheel_cache import InstallError


class Terminal(io.StringIO):
    """Text that claims to be shown on a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("elapsed_s", "step", "expected"),
    [
        (3.4, None, "building llama.cpp: preparing, 3 s"),
        (31, (0, 193), f"building llama.cpp [{'.' * 30}] 0/193, 31 s"),
        (31, (100, 200), f"building llama.cpp [{'#' * 15 + '.' * 15}] 100/200, 31 s"),
        (540, (193, 193), f"building llama.cpp [{'#' * 30}] 193/193, 540 s"),
        (1, (0, 0), f"building llama.cpp [{'.' * 30}] 0/0, 1 s"),
    ],
)
def test_a_line_tells_steps_and_seconds(elapsed_s, step, expected):
    assert expected == format_progress(elapsed_s, step)


def test_without_a_terminal_a_line_comes_now_and_then():
    text = io.StringIO()
    progress = Progress(text, every_s=10)
    for elapsed_s in (0, 1, 9, 10, 11, 25):
        progress.show(elapsed_s, None)
    progress.close()
    seconds = [line.split(", ")[1] for line in text.getvalue().splitlines()]
    assert ["0 s", "10 s", "25 s"] == seconds


def test_on_a_terminal_one_line_is_overwritten():
    text = Terminal()
    progress = Progress(text)
    progress.show(0, None)
    progress.show(1, (1, 2))
    progress.close()
    assert 2 == text.getvalue().count("\r\x1b[K")
    assert text.getvalue().endswith(" 1/2, 1 s\n")


def test_output_goes_into_the_log_and_steps_into_the_progress(tmp_path):
    code = (
        "import sys, time\n"
        "print('  [3/12] cc', flush=True)\n"
        "print('see [9/9]', file=sys.stderr, flush=True)\n"
        "time.sleep(1.5); sys.exit(7)"
    )
    text = io.StringIO()
    status = run_logged(
        [sys.executable, "-c", code],
        os.environ,
        tmp_path / "log",
        Progress(text, every_s=0),
    )
    assert 7 == status
    assert "  [3/12] cc\nsee [9/9]\n" == (tmp_path / "log").read_text(encoding="utf-8")
    assert " 3/12, 1 s" in text.getvalue()


def test_an_interrupt_ends_the_command(tmp_path):
    class Interrupted(Progress):
        def show(self, *_progress):
            raise KeyboardInterrupt

    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_logged(
            [sys.executable, "-c", "import time; time.sleep(30)"],
            os.environ,
            tmp_path / "log",
            Interrupted(io.StringIO()),
        )
    assert time.monotonic() - started_s < 20


def fake_pip(tmp_path, code):
    """Make a program that stands in for a Python whose pip builds."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_a_failed_build_shows_the_end_of_its_log_and_the_next_step(tmp_path, capsys):
    program = fake_pip(tmp_path, "seq 1 100; echo no such header; exit 1")
    with pytest.raises(InstallError) as raised:
        build_wheel(program, "1.2", os.environ, tmp_path)
    message = str(raised.value)
    assert "\n100\nno such header\n\nllama.cpp could not be built" in message
    assert 20 == len(message.partition("\n\n")[0].splitlines())
    assert f"the whole log is {tmp_path / 'build.log'}." in message
    assert "CLOISTER_ENGINE_WHEEL=FILE.whl make install" in message
    assert "preparing, 0 s" in capsys.readouterr().out


def test_a_build_that_was_killed_is_not_blamed_on_the_compiler(tmp_path):
    program = fake_pip(tmp_path, "kill -9 $$")
    with pytest.raises(InstallError, match="The build was ended by signal 9"):
        build_wheel(program, "1.2", os.environ, tmp_path)


def test_pip_is_asked_for_this_version_from_source_without_its_cache(tmp_path):
    wheel = tmp_path / "llama_cpp_python-1.2-any.whl"
    program = fake_pip(tmp_path, f'echo "$@"; echo "$CMAKE_ARGS"; : > {wheel}')
    env = {**os.environ, "CMAKE_ARGS": "-DX=1"}
    assert wheel == build_wheel(program, "1.2", env, tmp_path)
    command, args = (tmp_path / "build.log").read_text(encoding="utf-8").splitlines()
    assert command == (
        "-m pip wheel --verbose --no-deps --no-cache-dir --no-binary llama-cpp-python "
        f"--wheel-dir {tmp_path} llama-cpp-python==1.2"
    )
    assert args == "-DX=1"

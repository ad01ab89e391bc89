"""SECURITY.md is compared with the program: tests, limits and settings it names."""

import re
from pathlib import Path

import pytest

from server.config import list_settings

TESTS = Path(__file__).resolve().parents[1]
TEXT = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]*test_[\w*]+\.py)`", TEXT)))
TABLES = [line for line in TEXT.splitlines() if line.startswith("| ")]
ROWS = [line for line in TABLES if line.count("|") in (4, 5) and "test_" in line]


def test_the_tables_are_seen():
    assert len(NAMED) > 25
    assert len(ROWS) > 35


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists_and_asserts(name):
    found = list(TESTS.glob(name))
    assert found
    for path in found:
        source = path.read_text(encoding="utf-8")
        assert "def test_" in source
        assert "assert" in source or "pytest.raises" in source


def test_every_row_about_a_weakness_names_a_test():
    begin = TEXT.index("## Classes of weaknesses")
    rows = [
        line
        for line in TEXT[begin:].splitlines()
        if line.startswith("| ") and not line.startswith("| Class")
    ]
    assert len(rows) >= 25
    assert [] == [row for row in rows if "test_" not in row]


def test_limits_have_the_defaults_of_the_settings():
    flags = {setting.flag: setting.default for setting in list_settings()}
    for flag in re.findall(r"`(--[a-z-]+)`", TEXT):
        assert flag in flags or flag in {"--version", "--offline"}, flag
    for flag, words in {
        "--max-body-bytes": "128 MiB",
        "--max-json-depth": "128 levels",
        "--header-timeout": "10 s",
        "--body-timeout": "30 s",
        "--idle-timeout": "60 s",
        "--write-timeout": "120 s",
        "--max-connections": "512",
        "--max-concurrent-requests": "512",
        "--max-queue": "256",
    }.items():
        (row,) = [line for line in TABLES if f"`{flag}`" in line]
        assert words in row
        assert words.split()[0] == re.sub(r"\D", "", flags[flag])

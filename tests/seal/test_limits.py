"""Limits of sealed processes."""

from tests.seal.sealed_child import run_child


def test_no_core_and_few_files_and_never_more_than_before():
    out = run_child(
        """
import resource
from server.seal.limits import limit_core, limit_files
limit_core()
limit_files()
print(resource.getrlimit(resource.RLIMIT_CORE)[1] <= 1)
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1024))
limit_files(64)
limit_files(1024)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    )
    assert ["True", "True", "(64, 64)"] == out.splitlines()

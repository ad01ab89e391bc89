"""Limits of sealed processes."""

from tests.seal.sealed_child import run_child


def test_no_core_and_few_files_and_never_more_than_before():
    out = run_child(
        """
import resource
from server.seal.limits import limit_core, limit_files
limit_core()
limit_files()
print(max(resource.getrlimit(resource.RLIMIT_CORE)) in (0, 1))
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1024))
limit_files(64)
limit_files(1024)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    )
    assert ["True", "True", "(64, 64)"] == out.splitlines()


def test_where_no_core_is_allowed_already_an_ordinary_user_goes_on():
    out = run_child(
        """
import contextlib, os, resource
from server.seal.limits import limit_core
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with contextlib.suppress(OSError):
    os.seteuid(65534)  # root could raise it
limit_core()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    )
    assert "(0, 0)" == out

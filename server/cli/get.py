"""`cloister get`: fetch a model from a hub into the store."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
import psutil

from model_store.choice import Memory, Offer, choose, estimate_need, list_offers
from model_store.hub_errors import NothingFits
from model_store.layout import Store
from model_store.names import printable
from model_store.remote import RemoteRepository, Wanted, parse_wanted, read_access
from server.cli.home import home_of
from server.cli.network import require_network
from server.cli.progress import Bar, format_bytes
from server.setting_kinds import Bytes

if TYPE_CHECKING:
    from model_store.admission import Admitted
    from model_store.download import Plan

_HELP: Final = """Fetch a model from a hub into the store.

WANTED is publisher/name; a quantisation that fits this machine's memory is
chosen. publisher/name:Q5_K_M names one, publisher/name/file.gguf one file. All
parts of a split model are fetched, and its multimodal projector.

This command and `cloister repair` from a hub are the only ones that use the
network. A download that was cut off goes on where it stopped; every file is
compared with the SHA-256 that the hub announces.
"""
_EPILOG: Final = """\b
Examples:
  cloister get unsloth/Qwen3-4B-GGUF
  cloister get unsloth/Qwen3-4B-GGUF:Q8_0 --dry-run
  cloister get unsloth/Qwen3-4B-GGUF --memory 16GiB

\b
Environment:
  HF_ENDPOINT     another hub or mirror, as --endpoint
  HF_TOKEN        token for gated repositories; sent to the endpoint alone
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                  proxies, written http://host:port
  SSL_CERT_FILE   own CA certificates in PEM form, in place of the system's;
                  REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are read as well
"""
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_SHORT_COMMIT: Final = 12
_MEMORY: Final = Bytes(2**20, 2**50)


@click.command(
    "get",
    help=_HELP,
    epilog=_EPILOG,
    short_help="Fetch a model from a hub into the store.",
)
@click.argument("wanted", metavar="WANTED")
@click.option(
    "--revision",
    metavar="REV",
    help="Branch, tag or commit; the main branch without it. The commit is recorded.",
)
@click.option(
    "--endpoint", metavar="URL", help="Address of the hub.  [https://huggingface.co]"
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Choose for a machine with this memory, like 16GiB.  [this machine's]",
)
@click.option("--list", "is_list", is_flag=True, help="List the models and stop.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and stop.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
@click.pass_context
def get_command(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    *,
    wanted: str,
    revision: str | None,
    endpoint: str | None,
    memory: str | None,
    is_list: bool,
    dry_run: bool,
    is_json: bool,
) -> int:
    """Fetch a model; the help text is `_HELP`."""
    # Nothing that can reach the network is loaded by other commands.
    from model_store.download import download, plan_download  # noqa: PLC0415
    from model_store.fetch import Hub  # noqa: PLC0415

    words = parse_wanted(wanted, revision)
    size = read_memory(memory)
    require_network()
    store = Store(home_of(ctx))
    tell = _silence if is_json else click.echo
    with Hub(read_access(os.environ, endpoint), tell=_warn) as hub:
        repository = hub.look_up(words.repository, words.revision)
        tell(_describe_repository(repository))
        if is_list:
            _show_offers(repository, words, size, tell)
            return _finish(is_json, _list_json(repository, words, size))
        plan = plan_download(repository, store, words, size)
        tell(_describe_plan(plan))
        if dry_run:
            return _finish(is_json, _plan_json(plan, "planned"))
        admitted = _download_or_tell(
            lambda: download(
                hub, store, plan, lambda label, n: _watch(label, n, is_quiet=is_json)
            )
        )
    for note in admitted.notes:
        _warn(note)
    tell(_describe_result(admitted))
    state = "already_there" if admitted.was_there else "admitted"
    paths = {"paths": [str(path) for path in admitted.paths]}
    return _finish(is_json, _plan_json(plan, state) | paths)


def read_memory(text: str | None) -> Memory:
    """Read the memory to choose for; None is this machine's, or its container's.

    Raises:
        click.BadParameter: The text is no size.

    Source: cgroup v2 file memory.max (kernel docs, admin-guide/cgroup-v2).
    """
    if text is not None:
        try:
            value = _MEMORY.parse(text, Path())
        except ValueError:
            raise click.BadParameter(
                f"'{text}' is not valid: expected {_MEMORY.expected}.",
                param_hint="--memory",
            ) from None
        if value is not None:
            return Memory(value, owner="the machine of --memory")
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return Memory(total)


@contextlib.contextmanager
def _watch(
    label: str, n_bytes: int, *, is_quiet: bool
) -> Iterator[Callable[[int], None]]:
    with Bar(label, n_bytes, quiet=is_quiet) as bar:
        yield bar.advance


def _download_or_tell(run: "Callable[[], Admitted]") -> "Admitted":
    try:
        return run()
    except KeyboardInterrupt:
        _warn("What was fetched is kept; run the same command again to go on.")
        raise


def _silence(text: str) -> None:
    del text


def _warn(text: str) -> None:
    click.echo(f"cloister: {text}", err=True)


def _finish(is_json: bool, document: dict[str, Any]) -> int:  # noqa: FBT001 - the flag
    if is_json:
        click.echo(msgspec.json.encode(document).decode())
    return 0


def _describe_repository(repository: RemoteRepository) -> str:
    licence = printable(repository.licence) if repository.licence else "not named"
    return (
        f"{repository.id} at {repository.commit[:_SHORT_COMMIT]} of "
        f"{repository.endpoint}, licence: {licence}"
    )


def _describe_plan(plan: "Plan") -> str:
    lines = [plan.choice.reason]
    lines += [
        f"  {format_bytes(file.size_bytes):>10}  {file.path}"
        for file in plan.choice.files
    ]
    if plan.stored:
        return "\n".join(lines)
    left = f"To fetch: {format_bytes(plan.left_bytes)}"
    if plan.partial_bytes:
        left += f"; {format_bytes(plan.partial_bytes)} are here from an earlier try"
    return "\n".join([*lines, left])


def _describe_result(admitted: "Admitted") -> str:
    head = "Already there:" if admitted.was_there else "Verified and in the store:"
    return "\n".join([head, *(f"  {path}" for path in admitted.paths)])


def _show_offers(
    repository: RemoteRepository,
    wanted: Wanted,
    memory: Memory,
    tell: Callable[[str], None],
) -> None:
    """List the models, the one that would be taken marked by a star."""
    chosen, reason = _try_choice(repository, wanted, memory)
    for offer in list_offers(repository):
        need = estimate_need(offer.size_bytes)
        fits = "fits" if need <= memory.usable_bytes else "does not fit"
        mark = "*" if offer == chosen else " "
        parts = f", {len(offer.files)} parts" if len(offer.files) > 1 else ""
        tell(
            f"{mark} {offer.title:<14} {format_bytes(offer.size_bytes):>10}  "
            f"{fits:<12}  {offer.files[0].path}{parts}"
        )
    tell(reason)


def _try_choice(
    repository: RemoteRepository, wanted: Wanted, memory: Memory
) -> tuple[Offer | None, str]:
    try:
        choice = choose(repository, wanted, memory)
    except NothingFits as error:
        return None, error.message
    return choice.offer, choice.reason


def _repository_json(repository: RemoteRepository, state: str) -> dict[str, Any]:
    return {
        "state": state,
        "repository": repository.id,
        "revision": repository.asked_revision,
        "commit": repository.commit,
        "endpoint": repository.endpoint,
        "licence": repository.licence,
        "gated": repository.is_gated,
    }


def _list_json(
    repository: RemoteRepository, wanted: Wanted, memory: Memory
) -> dict[str, Any]:
    chosen, reason = _try_choice(repository, wanted, memory)
    offers = [
        {
            "label": offer.label or None,
            "size_bytes": offer.size_bytes,
            "need_bytes": estimate_need(offer.size_bytes),
            "complete": offer.is_complete,
            "chosen": offer == chosen,
            "files": [file.path for file in offer.files],
        }
        for offer in list_offers(repository)
    ]
    return _repository_json(repository, "listed") | {
        "reason": reason,
        "models": offers,
    }


def _plan_json(plan: "Plan", state: str) -> dict[str, Any]:
    choice = plan.choice
    return _repository_json(plan.repository, state) | {
        "quantization": choice.offer.quantization,
        "reason": choice.reason,
        "size_bytes": choice.size_bytes,
        "need_bytes": choice.need_bytes,
        "partial_bytes": plan.partial_bytes,
        "files": [msgspec.to_builtins(file) for file in choice.files],
        "paths": [str(path) for path in plan.stored],
    }

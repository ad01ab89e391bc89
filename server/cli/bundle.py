"""`cloister bundle`: carry models to a machine without a network.

Sizes and digests come as text on stdout or, with --json, as one document;
progress and warnings go to stderr.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec

from model_store import bundle_plan, bundle_writer, signature, ssh_keys
from model_store.bundle import Manifest
from model_store.bundle_import import import_bundle
from model_store.bundle_reader import Bundle, open_bundle
from model_store.catalog import BrokenModel, Catalog, StoredModel
from model_store.errors import NotInStore, StoreUnwritable
from model_store.layout import Store
from model_store.record import write_atomically
from model_store.signature import Policy, Signer, Verdict
from model_store.sizes import format_bytes
from server.cli.home import home_of
from server.cli.progress import Bar
from server.config import load_settings
from server.setting_kinds import Bytes

POLICY_ENV: Final = "CLOISTER_BUNDLE_POLICY"
_SPLIT: Final = Bytes(2**20, 2**50)
_KEY_SUFFIX: Final = ".pub"
_F = TypeVar("_F", bound=Callable[..., object])

_CREATE_HELP = """Write models into one tar file, or into parts of it.

The file can be checked and unpacked without this program: tar xf FILE, then
sha256sum -c SHA256SUMS; parts are joined by cat FILE.001 FILE.002 ... | tar x.
"""
_CREATE_EPILOG = """\b
Example, for a FAT32 disk and signed:
  ssh-keygen -t ed25519 -f bundle-key
  cloister bundle create qwen3-8b --out /media/usb/qwen.tar --split 4GiB
    --sign bundle-key
"""
_VERIFY_HELP = """Check a bundle: its form, its signature and every byte in it.

FILE is the file, its first part, or the name that all parts have in common.
Nothing is written.
"""
_IMPORT_HELP = """Take the models of a bundle into the store, all of them or none.

Everything is checked before any of them is visible. Models that the store has
already are fine.
"""


def _size(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return _SPLIT.parse(value, Path())
    except ValueError:
        raise click.BadParameter(f"expected {_SPLIT.expected}.") from None


def _add_check_options(function: _F) -> _F:
    policy = click.option(
        "--policy",
        type=click.Choice([each.value for each in Policy]),
        envvar=POLICY_ENV,
        help="What is asked of the signature: off = it is not looked at, warn = a "
        "bundle without a trusted one is taken with a warning, require = it is "
        "refused.  [require if the trust folder has a key, else warn]",
    )
    trust = click.option(
        "--trust",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        metavar="DIR",
        help="Folder with the public keys (*.pub) that are trusted.  "
        "[trust in the home folder]",
    )
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document."
    )
    return policy(trust(as_json(function)))


@click.group("bundle", short_help="Carry models to a machine without a network.")
def bundle_group() -> None:
    """Carry models, with checksums and signatures, to where no network is."""


@bundle_group.command("create", help=_CREATE_HELP, epilog=_CREATE_EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The tar file to write; must not exist.",
)
@click.option(
    "--split",
    "split_bytes",
    callback=_size,
    metavar="SIZE",
    help="Write parts FILE.001, FILE.002, ... that are smaller than this, e.g. 4GiB.",
)
@click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign with this private key (OpenSSH, Ed25519).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def create_command(
    ctx: click.Context,
    *,
    models: tuple[str, ...],
    out: Path,
    split_bytes: int | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Write a bundle; the help text is `_CREATE_HELP`."""
    signer = None if key is None else _load_signer(key)
    found = _find_models(ctx, models)
    unrecorded = bundle_plan.count_unrecorded(found)
    with Bar("computing checksums", unrecorded, quiet=unrecorded == 0) as bar:
        plan = bundle_plan.plan_bundle(found, bar.advance)
    with Bar(f"writing {out.name}", plan.content_bytes) as bar:
        written = bundle_writer.write_bundle(
            plan, out, split_bytes=split_bytes, signer=signer, progress=bar.advance
        )
    files = [
        {"path": str(path), "sha256": digest}
        for path, digest in zip(written.paths, written.digests, strict=True)
    ]
    signed_by = None if signer is None else signer.key.fingerprint
    if as_json:
        _print_json(
            {
                "files": files,
                "sha256sums": _optional(written.sums_path),
                "size_bytes": written.size_bytes,
                "signed_by": signed_by,
                "models": _list_models(plan.manifest),
            }
        )
        return
    for entry in files:
        click.echo(f"{entry['sha256']}  {entry['path']}")
    _print_models(plan.manifest, written.size_bytes)
    click.echo(f"signed by {signed_by}" if signed_by else "not signed")


@bundle_group.command("verify", help=_VERIFY_HELP)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@_add_check_options
@click.pass_context
def verify_command(
    ctx: click.Context,
    *,
    file: Path,
    policy: str | None,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Check a bundle; the help text is `_VERIFY_HELP`."""
    with open_bundle(file) as bundle:
        verdict = _judge(ctx, bundle, policy, trust)
        with Bar(f"checking {bundle.name}", bundle.content_bytes) as bar:
            bundle.check_contents(bar.advance)
        if as_json:
            _print_json(
                {
                    "files": [str(path) for path in bundle.paths],
                    "size_bytes": bundle.size_bytes,
                    "signature": _describe(verdict),
                    "models": _list_models(bundle.manifest),
                    "contents": bundle.manifest.files,
                }
            )
            return
        _print_models(bundle.manifest, bundle.size_bytes)
        click.echo(_tell(verdict))


@bundle_group.command("import", help=_IMPORT_HELP)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@_add_check_options
@click.pass_context
def import_command(
    ctx: click.Context,
    *,
    file: Path,
    policy: str | None,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Import a bundle; the help text is `_IMPORT_HELP`."""
    store = Store(home_of(ctx))
    with open_bundle(file) as bundle:
        verdict = _judge(ctx, bundle, policy, trust)
        with Bar(f"importing {bundle.name}", bundle.content_bytes) as bar:
            imported = import_bundle(store, bundle, verdict, bar.advance)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        _print_json(
            {
                "signature": _describe(verdict),
                "models": [
                    {
                        "name": model.name,
                        "paths": [str(path) for path in model.paths],
                        "was_there": model.was_there,
                    }
                    for model in imported.models
                ],
                "notes": imported.notes,
            }
        )
        return
    for model in imported.models:
        state = "already there" if model.was_there else "imported"
        click.echo(f"{state}: {model.name}")
    click.echo(_tell(verdict))


@bundle_group.group("key")
def key_group() -> None:
    """Make, show and trust the keys that sign bundles."""


@key_group.command("create")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--passphrase", is_flag=True, help="Ask for one that protects the key.")
def create_key_command(file: Path, *, passphrase: bool) -> None:
    """Make a key: FILE stays secret, FILE.pub is given to others.

    The same as ssh-keygen -t ed25519 -f FILE.
    """
    text = None
    if passphrase:
        text = click.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    content, signer = signature.create_key(text)
    public = file.with_name(file.name + _KEY_SUFFIX)
    _write_new(file, content, mode=0o600)
    _write_new(public, f"{signer.key.line}\n".encode(), mode=0o644)
    click.echo(f"{signer.key.fingerprint}  {public}")


@key_group.command("show")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
@click.pass_context
def show_key_command(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Print the fingerprints of public keys; without FILE of those trusted here."""
    paths = files or tuple(
        each.path for each in ssh_keys.load_trusted(_trust_folder(ctx))
    )
    for path in paths:
        key = ssh_keys.read_public_key(path)
        click.echo(f"{key.fingerprint}  {path}  {key.comment}".rstrip())


@key_group.command("trust")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.pub")
@click.pass_context
def trust_key_command(ctx: click.Context, file: Path) -> None:
    """Trust a public key: compare its fingerprint with its owner's first."""
    key = ssh_keys.read_public_key(file)
    folder = _trust_folder(ctx)
    name = file.name if file.suffix == _KEY_SUFFIX else file.name + _KEY_SUFFIX
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnwritable(folder, error.strerror or str(error)) from error
    target = folder / name
    if target.exists() and ssh_keys.read_public_key(target).raw != key.raw:
        raise click.UsageError(
            f"{target} is another key; remove it first, or rename {file}."
        )
    write_atomically(target, f"{key.line}\n".encode())
    click.echo(f"trusted: {key.fingerprint}  {target}")


def _load_signer(path: Path) -> Signer:
    def ask() -> str:
        text: str = click.prompt(f"Passphrase of {path}", hide_input=True, err=True)
        return text

    return signature.load_signer(path, ask)


def _find_models(ctx: click.Context, names: Sequence[str]) -> list[StoredModel]:
    store = Store(home_of(ctx))
    folders = load_settings({}, os.environ, cwd=Path.cwd()).models_dir
    catalog = Catalog([*dict.fromkeys((store.models_dir, *folders))])
    catalog.refresh()
    found = []
    for name in names:
        model = catalog.find(name)
        if model is None:
            raise NotInStore(name)
        if isinstance(model, BrokenModel):
            raise bundle_plan.CannotBundle(
                model.path, "it cannot be loaded", model.reason
            )
        found.append(model)
    return found


def _trust_folder(ctx: click.Context) -> Path:
    return home_of(ctx) / "trust"


def _judge(
    ctx: click.Context, bundle: Bundle, policy: str | None, trust: Path | None
) -> Verdict:
    """Check the signature; print the warning if there is one."""
    trusted: tuple[ssh_keys.TrustedKey, ...] = ()
    if policy != Policy.OFF:
        trusted = ssh_keys.load_trusted(trust or _trust_folder(ctx))
    chosen = Policy(policy) if policy else signature.default_policy(trusted)
    verdict = bundle.judge(chosen, trusted)
    if verdict.warning is not None:
        click.echo(f"warning: {verdict.warning}", err=True)
    return verdict


def _describe(verdict: Verdict) -> dict[str, str | None]:
    key = verdict.key
    return {
        "policy": verdict.policy.value,
        "fingerprint": None if key is None else key.fingerprint,
        "trusted_as": verdict.trusted_as,
        "warning": verdict.warning,
    }


def _tell(verdict: Verdict) -> str:
    key = verdict.key
    if key is not None and verdict.trusted_as is not None:
        return f"signed by {key.fingerprint} ({verdict.trusted_as})"
    if verdict.policy is Policy.OFF:
        return "signature not looked at"
    return "not signed" if key is None else f"signed by {key.fingerprint}, not trusted"


def _list_models(manifest: Manifest) -> list[dict[str, object]]:
    return [{"name": model.name, "files": model.files} for model in manifest.models]


def _print_models(manifest: Manifest, size_bytes: int) -> None:
    for model in manifest.models:
        click.echo(f"model {model.name}")
    click.echo(f"{len(manifest.files)} files, {format_bytes(size_bytes)}")


def _print_json(document: object) -> None:
    raw = msgspec.json.format(msgspec.json.encode(document), indent=2)
    click.echo(raw.decode())


def _optional(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise click.ClickException(
            f"The key file {path} cannot be written: {error.strerror}. "
            "Choose another name or folder."
        ) from error

"""`cloister token`: make, list and end the tokens that clients show."""

import re
import time
from datetime import UTC, datetime

import click

from server.cli.home import home_of
from server.cli.known_models import print_json
from server.security.permissions import MEANINGS, Permission
from server.security.tokens import (
    STATE_NAME,
    TokenError,
    TokenRecord,
    TokenStore,
)

_PERIOD = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_HOUR_S = 3600
_PERIODS_S = {"h": _HOUR_S, "d": 24 * _HOUR_S, "w": 7 * 24 * _HOUR_S}
_NEVER = "never"

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_home = click.option("--home", metavar="DIR", help="The home folder.")


@click.group("token", short_help="Make, list and end API tokens.")
def token_command() -> None:
    """Make, list and end the API tokens that clients must show.

    Once there is a token, a server of this home folder asks for one, also a server
    that runs already. Ending the last token does not open it again.
    """


@token_command.command("create", short_help="Make a token and show it once.")
@click.argument("name")
@click.option(
    "--permission",
    "permissions",
    type=click.Choice([str(permission) for permission in Permission]),
    multiple=True,
    default=[str(Permission.INFER)],
    show_default=True,
    help="What it may be used for: "
    + ", ".join(f"{p} = {text}" for p, text in MEANINGS.items())
    + ". May be given several times.",
)
@click.option(
    "--expires",
    default=_NEVER,
    show_default=True,
    metavar="WHEN",
    help="When it ends: a period such as 12h, 30d or 4w, a date such as 2027-01-31 "
    "(its first moment in UTC), or never.",
)
@_json
@_home
@click.pass_context
def create_command(
    ctx: click.Context,
    *,
    name: str,
    permissions: tuple[str, ...],
    expires: str,
    as_json: bool,
    home: str | None,
) -> int:
    """Make a token and show it, this once and never again."""
    del home
    expires_s = parse_expiry(expires, time.time())
    wanted = {Permission(permission) for permission in permissions}
    try:
        token, record = _store(ctx).create(name, wanted, expires_s=expires_s)
    except TokenError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(_as_row(record) | {"token": token})
        return 0
    click.echo(token)
    click.echo(
        f"The token '{record.name}' ({', '.join(record.permissions)}; ends: "
        f"{_tell_time(record.expires_s)}). Keep it now: it cannot be shown again.",
        err=True,
    )
    return 0


@token_command.command("list", short_help="List all tokens, without their secrets.")
@_json
@_home
@click.pass_context
def list_command(ctx: click.Context, *, as_json: bool, home: str | None) -> int:
    """List all tokens there ever were, without their secrets."""
    del home
    try:
        records = _store(ctx).records()
    except TokenError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"tokens": [_as_row(record) for record in records]})
        return 0
    if not records:
        click.echo("There is no token. `cloister token create NAME` makes one.")
    for record in records:
        click.echo(
            f"{record.id}  {record.state(time.time()):<8} "
            f"{','.join(record.permissions)}  ends {_tell_time(record.expires_s)}  "
            f"{record.name}"
        )
    return 0


@token_command.command("revoke", short_help="End a token at once.")
@click.argument("token")
@_json
@_home
@click.pass_context
def revoke_command(
    ctx: click.Context, *, token: str, as_json: bool, home: str | None
) -> int:
    """End a token at once, by its id or name; running servers notice."""
    del home
    store = _store(ctx)
    try:
        record = store.revoke(token)
        others = [r for r in store.records() if r.state(time.time()) == "active"]
    except TokenError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(_as_row(record))
        return 0
    click.echo(f"Revoked {record.id} ({record.name}).")
    if not others:
        click.echo(
            "That was the last one: servers of this home let nobody in until you make "
            "another, or start with --insecure-no-auth.",
            err=True,
        )
    return 0


def parse_expiry(text: str, now_s: float) -> int | None:
    """Read when a token ends.

    Args:
        text: A period, a date, or `never`.
        now_s: Unix time in s from which periods count.

    Returns:
        Unix time in s; None for never.

    Raises:
        click.BadParameter: It is none of these, or has passed.
    """
    if text == _NEVER:
        return None
    match = _PERIOD.fullmatch(text)
    if match is not None:
        ends_s = int(now_s) + int(match[1]) * _PERIODS_S[match[2]]
    else:
        try:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise click.BadParameter(
                f"'{text}' is neither a period (12h, 30d, 4w) nor a date (2027-01-31) "
                "nor 'never'.",
                param_hint="--expires",
            ) from None
        ends_s = int(day.timestamp())
    if ends_s <= now_s:
        raise click.BadParameter(
            f"'{text}' has passed already.", param_hint="--expires"
        )
    return ends_s


def _store(ctx: click.Context) -> TokenStore:
    return TokenStore(home_of(ctx) / STATE_NAME)


def _as_row(record: TokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "permissions": list(record.permissions),
        "state": record.state(time.time()),
        "created": _tell_time(record.created_s),
        "expires": None if record.expires_s is None else _tell_time(record.expires_s),
    }


def _tell_time(time_s: int | None) -> str:
    if time_s is None:
        return _NEVER
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

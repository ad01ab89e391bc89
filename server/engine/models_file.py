"""What the operator says about single models: `models.toml` in the home folder.

    ["qwen2.5-0.5b-instruct".sampling]
    temperature = 0.6
    top_p = 0.95

A table for each model, by its id or an alias, and in it a table for each
subject; so far there is `sampling`. The file lies in the home folder and not
beside the models: those folders may be read-only, and what comes with a
downloaded model is not the operator's word.

It is read anew for each load, so a change counts from the next load on. A
mistake keeps the model it is about from loading, with an error that names the
file, the line and what to do; a file that cannot be read at all keeps every
model from loading. Mistakes about other models are only told.

Order: what a request asks, then this file, then the model's own metadata
`general.sampling.*`, then the server's defaults.
"""

import difflib
import logging
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from model_store.catalog import StoredModel
from model_store.names import fold, printable, quoted
from server.core.errors import ModelLoadFailed
from server.core.sampling import FIELDS, UnfitSetting, check_field, read_gguf_sampling

_log = logging.getLogger(__name__)

FILE_NAME: Final = "models.toml"
MAX_BYTES: Final = 2**20

_SAMPLING: Final = "sampling"
_SUBJECTS: Final = (_SAMPLING,)
_MAX_SHOWN_CHARS: Final = 80


class _Document(Struct, frozen=True):
    """The file's text and what it means."""

    path: Path
    text: str
    tables: dict[str, Any]


class _Mistake(Exception):
    """Something in the file is wrong; the text is a sentence and what to do."""


def read_defaults(model: StoredModel, path: Path | None) -> dict[str, Any]:
    """Collect a model's own sampling defaults, checked.

    Args:
        model: Which; its metadata is told in the log where it is of no use.
        path: The operator's file; None, or a file that is not there, says
            nothing.

    Returns:
        Values by the names of `SamplerSettings`.

    Raises:
        ModelLoadFailed: The file cannot be read, or is wrong about this model.
    """
    defaults, wrong = read_gguf_sampling(model.summary.sampling)
    for error in wrong:
        _log.warning("%s: its file's %s It is not used.", model.id, error)
    try:
        document = None if path is None else _read(path)
        if document is not None:
            defaults |= _read_own_table(document, {model.id, *model.aliases})
    except _Mistake as error:
        raise ModelLoadFailed(str(error), param="model") from error
    return defaults


def check_models_file(path: Path, names: Collection[str]) -> tuple[str, ...]:
    """Look for mistakes in the whole file.

    Args:
        path: The file; it need not be there.
        names: Ids and aliases of all models.

    Returns:
        A sentence with advice for each mistake, and for each name that no
        model has.
    """
    try:
        document = _read(path)
    except _Mistake as error:
        return (str(error),)
    if document is None:
        return ()
    known = {fold(name): name for name in names}
    found: list[str] = []
    for name, table in document.tables.items():
        try:
            _read_table(document, name, table)
        except _Mistake as error:
            found.append(str(error))
            continue
        if fold(name) not in known:
            close = difflib.get_close_matches(fold(name), known, n=1)
            advice = (
                f"Did you mean {quoted(known[close[0]])}?"
                if close
                else "cloister ls shows the names."
            )
            where = _tell_place(document, (name,))
            found.append(f"{where}: no model is called {_show(name)}. {advice}")
    return tuple(found)


def _read(path: Path) -> _Document | None:
    """Read and parse the file; None where there is none."""
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise _Mistake(f"{printable(str(path))} is not a file. Move it away.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _Mistake(
                f"{printable(str(path))} has more than {MAX_BYTES} bytes. Make it "
                "smaller."
            )
        text = content.decode("utf-8-sig")
        return _Document(path, text, tomllib.loads(text))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _Mistake(
            f"The file {printable(str(path))} cannot be read: {reason}. Repair it, or "
            "move it away to do without."
        ) from error
    except RecursionError as error:
        raise _Mistake(
            f"The file {printable(str(path))} is nested too deep. Repair it."
        ) from error


def _read_own_table(document: _Document, names: Collection[str]) -> dict[str, Any]:
    """Read the table of a model; tell of mistakes about other ones."""
    own = {fold(name) for name in names}
    mine = [name for name in document.tables if fold(name) in own]
    if len(mine) > 1:
        shown = " and ".join(_show(name) for name in mine)
        where = _tell_place(document, (mine[1],))
        raise _Mistake(f"{where}: {shown} are the same model. Keep one of the tables.")
    for name, table in document.tables.items():
        if name not in mine:
            try:
                _read_table(document, name, table)
            except _Mistake as error:
                _log.warning("%s", error)
    return _read_table(document, mine[0], document.tables[mine[0]]) if mine else {}


def _read_table(document: _Document, name: str, table: object) -> dict[str, Any]:
    """Check all that is said about one model."""
    if not isinstance(table, dict):
        where = _tell_place(document, (name,))
        raise _Mistake(
            f"{where}: {_show(name)} stands outside of a model's table. Write it "
            'below a line like ["name of the model".sampling].'
        )
    for key in table:
        if key not in _SUBJECTS:
            advice = _advise(key, _SUBJECTS)
            if isinstance(table[key], dict):
                advice += (
                    " If it belongs to the model's name, put the name in quotes: "
                    '["qwen2.5-0.5b".sampling].'
                )
            where = _tell_place(document, (name, key))
            raise _Mistake(
                f"{where}: {_show(key)} is nothing that can be set for a model. "
                f"{advice}"
            )
    fields = table.get(_SAMPLING, {})
    if not isinstance(fields, dict):
        where = _tell_place(document, (name, _SAMPLING))
        raise _Mistake(f"{where}: {_SAMPLING} is not a table. Make it one.")
    return {key: _check(document, name, key, fields[key]) for key in fields}


def _check(document: _Document, name: str, key: str, value: object) -> Any:  # noqa: ANN401
    where = _tell_place(document, (name, key))
    if key not in FIELDS:
        raise _Mistake(
            f"{where}: {_show(key)} is no sampling field. {_advise(key, FIELDS)}"
        )
    try:
        return check_field(key, value)
    except UnfitSetting as error:
        raise _Mistake(
            f"{where}: {_show(name)} cannot have this {error.field}: {error.reason} "
            "Change or remove it."
        ) from error


def _tell_place(document: _Document, words: tuple[str, ...]) -> str:
    """Name the file and, where it can be found, the line.

    The parser does not tell lines: the words are looked for, one after the
    other.
    """
    place = printable(str(document.path))
    words_left = list(words)
    for number, line in enumerate(document.text.splitlines(), start=1):
        while words_left and words_left[0] in line:
            words_left.pop(0)
        if not words_left:
            return f"{place}, line {number}"
    return place


def _advise(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return "Known are: " + ", ".join(sorted(known)) + "."


def _show(text: str) -> str:
    return quoted(text[:_MAX_SHOWN_CHARS])

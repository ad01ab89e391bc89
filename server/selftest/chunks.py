"""A streamed chat, folded into what the whole answer would have been.

Source: OpenAI API reference, "The chat completion chunk object": deltas of text
are joined; those of a tool call are joined by its `index`, where `id`, `type` and
`function.name` come once and `function.arguments` in pieces.
"""

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from server.selftest.comparison import INSTALL_AGAIN
from server.selftest.report import CheckFailed

END = "[DONE]"


class Folded(Struct, frozen=True):
    """The one choice of a stream.

    `texts` and `n_arguments` tell in how many pieces text and arguments came;
    `calls` are as in `message.tool_calls`, ordered by their index.
    """

    texts: tuple[str, ...]
    calls: tuple[dict[str, Any], ...]
    n_arguments: int
    reason: str

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.texts)


def fold_chunks(data: Sequence[str]) -> Folded:
    """Fold the data of a stream's events, its end among them.

    Raises:
        CheckFailed: The stream has no end.
        LookupError: A chunk lacks something.
        ValueError: A chunk is no JSON.
    """
    if list(data[-1:]) != [END]:
        raise CheckFailed(
            expected=f"{END} at the end of the stream",
            actual=repr(list(data[-1:])),
            advice=INSTALL_AGAIN,
        )
    choices = [choice for each in data[:-1] for choice in json.loads(each)["choices"]]
    deltas = [choice["delta"] for choice in choices]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls") or ()]
    return Folded(
        texts=tuple(delta["content"] for delta in deltas if delta.get("content")),
        calls=_fold_calls(pieces),
        n_arguments=sum(bool(piece["function"].get("arguments")) for piece in pieces),
        reason="".join(choice["finish_reason"] or "" for choice in choices),
    )


def _fold_calls(pieces: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        new = {"id": "", "type": "", "function": {"name": "", "arguments": ""}}
        call = calls.setdefault(piece["index"], new)
        for name in ("id", "type"):
            call[name] += piece.get(name) or ""
        for name in ("name", "arguments"):
            call["function"][name] += piece["function"].get(name) or ""
    return tuple(call for _, call in sorted(calls.items()))

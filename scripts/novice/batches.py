"""Training batches: what one optimiser step reads.

Dialogues are sorted by length into shelves, one for each of `WIDTHS`; a shelf
that is full becomes a rectangle of tokens, and a step takes the next few
rectangles and adds up their gradients. There are few shapes on purpose: for
every new one the matrix library makes itself a new program, which took longer
than the multiplication. Every dialogue begins at position 0 and sees no other
one; padding comes last, where no real token looks.

Only what the assistant says is learnt. One word in `1 / P_SPELL` of the rest
is given as its letters, so that a word the vocabulary lacks in a question is
something the model has seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from scripts.novice.dialogues import DialogueStream
from scripts.novice.rendering import Dialogue, Renderer
from scripts.novice.tokenizer import Codec

P_SPELL: Final = 0.04
WIDTHS: Final = (
    *(32, 48, 64, 80, 96, 128, 160, 192),
    *(256, 320, 384, 512, 768, 1024, 1536, 2048),
)
"""Tokens of a row; longer dialogues are left out."""
TOKENS_PER_RECTANGLE: Final = 4096
TARGETS_PER_BLOCK: Final = 256
"""The number of predictions of a rectangle is filled up to a multiple of this."""
IGNORED: Final = -100
"""A target that costs nothing. Source: `ignore_index` of torch's cross_entropy."""


@dataclass(frozen=True)
class Example:
    """A dialogue as tokens; `learnt` are the indices that are predicted."""

    tokens: list[int]
    learnt: list[int]


@dataclass(frozen=True)
class Rectangle:
    """Rows of about the same length.

    `tokens` is `[row, time]` int64, `n_tokens` of them no padding; `places` are
    the flat indices from which the `targets` are predicted, `n_learnt` of them
    real and the rest `IGNORED`.
    """

    tokens: Tensor
    places: Tensor
    targets: Tensor
    n_tokens: int
    n_learnt: int


class Batches:
    """Draws training batches without end.

    Args:
        codec: The tokenizer.
        seed: Of the dialogues and their spelling.
        tokens_per_step: About how many tokens a step reads.
    """

    def __init__(self, codec: Codec, *, seed: int, tokens_per_step: int) -> None:
        self.stream = DialogueStream(seed)
        self._dialogues = iter(self.stream)
        self._codec = codec
        self._renderer = Renderer()
        self._tokens_per_step = tokens_per_step
        self.shelves: dict[int, list[Example]] = {width: [] for width in WIDTHS}
        self._opening = codec.encode("<|im_start|>assistant\n")

    def state(self) -> dict[str, object]:
        """Return the state of chance and what lies on the shelves, for `restore`."""
        shelves = {
            width: [(each.tokens, each.learnt) for each in shelf]
            for width, shelf in self.shelves.items()
        }
        return {"rng": self.stream.rng.getstate(), "shelves": shelves}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        version, inner, gauss = state["rng"]
        self.stream.rng.setstate((version, tuple(inner), gauss))
        for width, shelf in state["shelves"].items():
            self.shelves[width] = [Example(*each) for each in shelf]

    def __iter__(self) -> Iterator[list[Rectangle]]:
        """Yield the rectangles of each step."""
        while True:
            rectangles: list[Rectangle] = []
            while sum(each.n_tokens for each in rectangles) < self._tokens_per_step:
                rectangles.append(self._fill_rectangle())
            yield rectangles

    def _fill_rectangle(self) -> Rectangle:
        """Draw dialogues until a shelf is full, and empty it."""
        while True:
            example = self.make_example(next(self._dialogues))
            width = next((w for w in WIDTHS if len(example.tokens) <= w), None)
            if width is None:
                continue
            shelf = self.shelves[width]
            shelf.append(example)
            if len(shelf) == TOKENS_PER_RECTANGLE // width:
                self.shelves[width] = []
                return lay(shelf, width, pad=self._codec.end_of_text)

    def make_example(self, dialogue: Dialogue) -> Example:
        """Tokenize a dialogue, find what is learnt, spell some of the rest."""
        tokens = self._codec.encode(self._renderer.render(dialogue))
        spans = self._find_answers(tokens)
        if dialogue.thinks:
            # Earlier answers have lost their thoughts; they teach nothing.
            last = max(i for i, t in enumerate(dialogue.turns) if t["role"] == "user")
            n = sum(t["role"] == "assistant" for t in dialogue.turns[last:])
            spans = spans[-n:]
        return self._spell(tokens, spans)

    def _find_answers(self, tokens: list[int]) -> list[tuple[int, int]]:
        spans = []
        begin, n = self._codec.turn_begin, len(self._opening)
        for i, token in enumerate(tokens):
            if token == begin and tokens[i : i + n] == self._opening:
                end = tokens.index(self._codec.turn_end, i) + 1
                spans.append((i + n, end))
        return spans

    def _spell(self, tokens: list[int], spans: list[tuple[int, int]]) -> Example:
        rng, spellings = self.stream.rng, self._codec.spellings
        result: list[int] = []
        learnt: list[int] = []
        position = 0
        for begin, end in [*spans, (len(tokens), len(tokens))]:
            for token in tokens[position:begin]:
                if rng.random() < P_SPELL and token < len(spellings):
                    result.extend(spellings[token])
                else:
                    result.append(token)
            learnt.extend(range(len(result), len(result) + end - begin))
            result.extend(tokens[begin:end])
            position = end
        return Example(result, learnt)


def lay(rows: Sequence[Example], width: int, *, pad: int) -> Rectangle:
    """Lay examples into a rectangle of this width."""
    tokens = torch.full((len(rows), width), pad, dtype=torch.int64)
    places: list[int] = []
    targets: list[int] = []
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        places += [i * width + k - 1 for k in row.learnt]
        targets += [row.tokens[k] for k in row.learnt]
    n_learnt = len(places)
    n_empty = -n_learnt % TARGETS_PER_BLOCK
    return Rectangle(
        tokens,
        torch.tensor(places + [0] * n_empty),
        torch.tensor(targets + [IGNORED] * n_empty),
        sum(len(row.tokens) for row in rows),
        n_learnt,
    )

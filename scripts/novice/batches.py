"""Training batches: what one optimiser step reads.

A step takes dialogues from the stream as they come, so each step has its share
of everything. Sorted by length they are cut into a few rectangles with little
padding, and their gradients are added up. Every dialogue begins at position 0
and sees no other one; padding comes last, where no real token looks.

Only what the assistant says is learnt. One word in `1 / P_SPELL` of the rest
is given as its letters, so that a word the vocabulary lacks in a question is
something the model has seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from scripts.novice.dialogues import DialogueStream
from scripts.novice.rendering import Dialogue, Renderer
from scripts.novice.tokenizer import Codec

P_SPELL: Final = 0.04
MAX_TOKENS: Final = 2048
TOKENS_PER_RECTANGLE: Final = 3072
MAX_STRETCH: Final = 1.3
"""The longest row of a rectangle compared with its shortest."""


@dataclass(frozen=True)
class Example:
    """A dialogue as tokens; `learnt` are the indices that are predicted."""

    tokens: list[int]
    learnt: list[int]


@dataclass(frozen=True)
class Rectangle:
    """Rows of about the same length.

    `tokens` is `[row, time]` int64, `n_tokens` of them no padding; `places` are
    the flat indices from which the `targets` are predicted.
    """

    tokens: Tensor
    places: Tensor
    targets: Tensor
    n_tokens: int


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
        self._opening = codec.encode("<|im_start|>assistant\n")

    def state(self) -> tuple[object, ...]:
        """Return the state of chance, for `restore`."""
        return self.stream.rng.getstate()

    def restore(self, state: tuple[object, ...]) -> None:
        """Go on where `state` was taken."""
        version, inner, gauss = state
        self.stream.rng.setstate((version, tuple(inner), gauss))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Rectangle]]:
        """Yield the rectangles of each step."""
        while True:
            examples: list[Example] = []
            n = 0
            while n < self._tokens_per_step:
                example = self.make_example(next(self._dialogues))
                if len(example.tokens) <= MAX_TOKENS:
                    examples.append(example)
                    n += len(example.tokens)
            yield cut(examples, pad=self._codec.end_of_text)

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


def cut(examples: list[Example], *, pad: int) -> list[Rectangle]:
    """Sort examples by length and lay them into rectangles."""
    rectangles = []
    rows: list[Example] = []
    for example in sorted(examples, key=lambda each: len(each.tokens)):
        n = len(example.tokens)
        if rows and (
            (len(rows) + 1) * n > TOKENS_PER_RECTANGLE
            or n > MAX_STRETCH * len(rows[0].tokens)
        ):
            rectangles.append(_lay(rows, pad))
            rows = []
        rows.append(example)
    rectangles.append(_lay(rows, pad))
    return rectangles


def _lay(rows: list[Example], pad: int) -> Rectangle:
    width = len(rows[-1].tokens)
    tokens = torch.full((len(rows), width), pad, dtype=torch.int64)
    places: list[int] = []
    targets: list[int] = []
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        places += [i * width + k - 1 for k in row.learnt]
        targets += [row.tokens[k] for k in row.learnt]
    n_tokens = sum(len(row.tokens) for row in rows)
    return Rectangle(tokens, torch.tensor(places), torch.tensor(targets), n_tokens)

"""Novice's tokenizer: whole words where they are known, letters where not.

It is a byte-level BPE vocabulary as llama.cpp's `gpt2` type reads it, used in
a way that suits a model which must copy words it never saw. Ordinary BPE cuts
an unknown word differently with a space before it than after a quote
(" bravik" as " bra" "vik", "bravik" as "br" "av" "ik"), and copying then means
to spell it anew. Here there are no merges of letters at all: a piece of text
that the pre-tokenizer cuts out is one token if it stands in the vocabulary as
it is, and single bytes otherwise. llama.cpp does so for the pre-tokenizer
`llama-bpe` (`ignore_merges`). Merges only join the bytes of one character.

So digits are single tokens, an unknown word is its letters wherever it stands,
and copying is one step for each letter, always the same.

The vocabulary is learnt from the training dialogues with numbers in place of
the made-up words, which therefore never get into it.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from scripts.models.vocabulary import byte_symbols
from scripts.novice.dialogues import SPELLED, DialogueStream
from scripts.novice.rendering import Renderer
from scripts.novice.words import Words

N_TOKENS: Final = 4096
N_DIALOGUES: Final = 40_000
MIN_COUNT: Final = 3
MIN_CAMEL_COUNT: Final = 200
"""Words such as `getWeather` are names of tools and to be spelled; OpenAI is not."""
SEED: Final = 7

END_OF_TEXT: Final = "<|endoftext|>"
TURN_BEGIN: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
CONTROL: Final = (END_OF_TEXT, TURN_BEGIN, TURN_END)
"""Never shown to a reader."""
MARKS: Final = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tools>",
    "</tools>",
)
"""Tokens of their own, but text: a server reads them."""

PRE: Final = "llama-bpe"
# Source: llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_LLAMA3.
PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CAMEL = re.compile("[a-z][A-Z]")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids, and merges in the order of their rank.

    Texts are in GPT-2's printable notation for bytes, but for the special
    tokens at the end.
    """

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @property
    def n_plain(self) -> int:
        """The number of tokens that are not special; these come first."""
        return len(self.tokens) - len(CONTROL) - len(MARKS)


class _Numbered(Words):
    """Draws numbers for words, each another one."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, held_out=False)
        self._n = 1000

    def code(self) -> str:
        return self.word()

    def _draw(self) -> str:
        self._n += 1
        return str(self._n)


def learn(
    *, n_dialogues: int = N_DIALOGUES, n_tokens: int = N_TOKENS, seed: int = SEED
) -> Vocabulary:
    """Learn the vocabulary from dialogues of the training generator.

    Args:
        n_dialogues: How many to read.
        n_tokens: The most tokens there may be, special ones included.
        seed: Of the dialogues.
    """
    symbols = byte_symbols()
    merges = _join_bytes(symbols)
    tokens = [symbols[byte] for byte in range(256)]
    tokens += dict.fromkeys(left + right for left, right in merges)
    room = n_tokens - len(tokens) - len(CONTROL) - len(MARKS)
    counts = _count_pieces(n_dialogues, seed)
    known = set(tokens)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [
        text
        for text, n in ranked
        if n >= (MIN_CAMEL_COUNT if _CAMEL.search(text) else MIN_COUNT)
        and text not in known
    ]
    return Vocabulary((*tokens, *words[:room], *CONTROL, *MARKS), tuple(merges))


def _count_pieces(n_dialogues: int, seed: int) -> Counter[str]:
    stream = DialogueStream(seed)
    stream.words = _Numbered(stream.rng)
    render = Renderer().render
    cut = _pre_tokenizer()
    counts: Counter[str] = Counter()
    for dialogue in islice(stream, n_dialogues):
        text = render(dialogue)
        for special in (*CONTROL, *MARKS):
            text = text.replace(special, "\0")
        for part in text.split("\0"):
            counts.update(piece for piece, _ in cut.pre_tokenize_str(part))
    return Counter(
        {
            piece: n
            for piece, n in counts.items()
            if not any(c.isdigit() for c in piece) and len(piece) > 1
        }
    )


def _join_bytes(symbols: dict[int, str]) -> list[tuple[str, str]]:
    """List the merges that make one token of each character we write."""
    merges: dict[tuple[str, str], None] = {}
    for character in "".join(SPELLED):
        pieces = [symbols[byte] for byte in character.encode()]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    return list(merges)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


class Codec:
    """Turns text into token ids and back, as llama.cpp does.

    Args:
        vocabulary: What was learnt.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        plain = vocabulary.tokens[: vocabulary.n_plain]
        ids = {text: i for i, text in enumerate(plain)}
        self._tokenizer = Tokenizer(
            models.BPE(ids, list(vocabulary.merges), ignore_merges=True)
        )
        self._tokenizer.pre_tokenizer = _pre_tokenizer()
        self._tokenizer.decoder = decoders.ByteLevel()
        self._tokenizer.add_special_tokens(
            [AddedToken(text, special=True, normalized=False) for text in CONTROL]
        )
        self._tokenizer.add_tokens(
            [AddedToken(text, special=False, normalized=False) for text in MARKS]
        )
        self.n_tokens = len(vocabulary.tokens)
        self.turn_begin = self.id(TURN_BEGIN)
        self.turn_end = self.id(TURN_END)
        self.end_of_text = self.id(END_OF_TEXT)
        self.spellings = self._spell_words(ids)

    def id(self, text: str) -> int:
        """Look up the id of a special token."""
        found = self._tokenizer.token_to_id(text)
        if found is None:
            raise KeyError(f"The vocabulary has no token {text}.")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; special tokens written in it are honoured."""
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        """Turn ids into text, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _spell_words(self, ids: dict[str, int]) -> list[tuple[int, ...]]:
        """List for each plain token the ids of its bytes."""
        return [tuple(ids[symbol] for symbol in text) for text in ids]


def save(vocabulary: Vocabulary, path: Path) -> None:
    """Write a vocabulary as lines of text: the tokens, an empty line, the merges."""
    merges = [" ".join(pair) for pair in vocabulary.merges]
    lines = [*vocabulary.tokens, "", *merges]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(path: Path) -> Vocabulary:
    """Read what `save` wrote."""
    head, tail = path.read_text(encoding="utf-8").split("\n\n", 1)
    merges = [line.split(" ") for line in tail.splitlines()]
    return Vocabulary(
        tuple(head.split("\n")), tuple((left, right) for left, right in merges)
    )

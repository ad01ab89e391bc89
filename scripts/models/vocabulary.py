"""Vocabularies for made-up models, learnt from a short text of our own.

llama.cpp knows three families that matter here, and each kind of model uses
one of them as its real relatives do:

* `llama` (SentencePiece): pieces with scores. Neighbouring pieces are merged
  while their concatenation is a piece, best score first; what stays unknown
  falls back to one token for each byte. A space is written as U+2581.
* `gpt2` (byte-level BPE): every byte has a printable stand-in, pieces are built
  by an ordered list of merges after a regular expression has cut the text.
* `bert` (WordPiece): whole words and word endings, longest match first. In
  GGUF a word's beginning carries U+2581 and an ending carries nothing.

The first two share one trainer: the merges it learns are BPE's merges, and
their ranks, negated, are SentencePiece's scores. So whatever can be encoded
decodes to the same text again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gguf import GGUFValueType, Keys, TokenType

SPACE = "\u2581"

CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n'"
    " + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- endif -%}"
)

CORPUS = """
The river runs past the old mill and the miller waits for the water to rise.
When the water is high the great wheel turns, and when the wheel turns the
stones grind corn into flour. Each morning a boat comes down the river with
sacks of grain, and each evening it goes home with sacks of flour and a letter
or two for the town. Once there was a winter when the river froze from bank to
bank. The wheel stood still, the boat lay under the snow, and nobody in the
town had bread. Then the miller's daughter took a hammer and broke the ice
around the wheel, a little more every hour, until the water began to move
again. What did she say when they thanked her? She said that ice is only water
that has forgotten how to walk, and that someone had to remind it.
"""

SPECIAL_BPE = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
)

Metadata = dict[str, tuple[Any, GGUFValueType]]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF metadata, and what the weights must know of it.

    `muted` lists tokens that a random model should hardly ever produce:
    everything that ends a generation or stands for no text.
    """

    metadata: Metadata
    n_tokens: int
    muted: frozenset[int] = field(default_factory=frozenset)


def learn_merges(words: Mapping[tuple[str, ...], int], n: int) -> list[tuple[str, str]]:
    """Learn up to `n` merges, most frequent pair first, ties by alphabet."""
    words = dict(words)
    merges: list[tuple[str, str]] = []
    while len(merges) < n:
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {_merge(pieces, best): count for pieces, count in words.items()}
    return merges


def _merge(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    i = 0
    while i < len(pieces):
        if pieces[i : i + 2] == pair:
            merged.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return tuple(merged)


def byte_symbols() -> dict[int, str]:
    """Map each byte to the printable character that byte-level BPE writes.

    Source: the `bytes_to_unicode` convention of GPT-2: printable Latin-1 stands
    for itself, the other bytes follow in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in symbols]
    return symbols | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


def _special_ids(ids: Mapping[str, int]) -> Metadata:
    return {key: (value, GGUFValueType.UINT32) for key, value in ids.items()}


def _tokens(texts: Iterable[str], types: Iterable[TokenType]) -> Metadata:
    return {
        Keys.Tokenizer.LIST: (list(texts), GGUFValueType.ARRAY),
        Keys.Tokenizer.TOKEN_TYPE: ([int(t) for t in types], GGUFValueType.ARRAY),
    }


def sentencepiece(*, n_merges: int = 120, template: str | None = CHATML) -> Vocabulary:
    """Build a `llama` vocabulary: specials, 256 bytes, characters, pieces."""
    words = Counter(tuple(SPACE + word) for word in CORPUS.split() if word.isascii())
    merges = learn_merges(words, n_merges)
    specials = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = [SPACE, *map(chr, range(0x21, 0x7F))]
    pieces = list(dict.fromkeys(left + right for left, right in merges))
    texts = [*specials, *raw, *letters, *pieces]
    types = (
        [TokenType.UNKNOWN]
        + [TokenType.CONTROL] * (len(specials) - 1)
        + [TokenType.BYTE] * len(raw)
        + [TokenType.NORMAL] * (len(letters) + len(pieces))
    )
    scores = [0.0] * (len(specials) + len(raw))
    scores += [-float(len(pieces) + 1 + i) for i in range(len(letters))]
    scores += [-float(1 + i) for i in range(len(pieces))]
    metadata: Metadata = {
        Keys.Tokenizer.MODEL: ("llama", GGUFValueType.STRING),
        Keys.Tokenizer.PRE: ("default", GGUFValueType.STRING),
        **_tokens(texts, types),
        Keys.Tokenizer.SCORES: (scores, GGUFValueType.ARRAY),
        **_special_ids(
            {
                Keys.Tokenizer.UNK_ID: 0,
                Keys.Tokenizer.BOS_ID: 1,
                Keys.Tokenizer.EOS_ID: 2,
            }
        ),
        Keys.Tokenizer.ADD_BOS: (True, GGUFValueType.BOOL),
        Keys.Tokenizer.ADD_EOS: (False, GGUFValueType.BOOL),
    }
    if template is not None:
        metadata[Keys.Tokenizer.CHAT_TEMPLATE] = (template, GGUFValueType.STRING)
    muted = frozenset(range(len(specials) + len(raw)))
    return Vocabulary(metadata, len(texts), muted)


def byte_level_bpe(*, n_merges: int = 160, n_tokens: int | None = None) -> Vocabulary:
    """Build a `gpt2` vocabulary with ChatML and fill-in-the-middle tokens.

    Args:
        n_merges: Merges to learn from the text.
        n_tokens: Size to reach by further tokens, two or three pieces joined by
            merges of their own; None keeps what the text gave.
    """
    symbols = byte_symbols()
    words: Counter[tuple[str, ...]] = Counter()
    for word in CORPUS.split():
        words[tuple(symbols[byte] for byte in (" " + word).encode())] += 1
    merges = learn_merges(words, n_merges)
    texts = [symbols[byte] for byte in range(256)]
    texts += dict.fromkeys(left + right for left, right in merges)
    if n_tokens is not None:
        _pad_bpe(texts, merges, n_tokens - len(SPECIAL_BPE))
    first = len(texts)
    ids = {text: first + i for i, text in enumerate(SPECIAL_BPE)}
    types = [TokenType.NORMAL] * first + [TokenType.CONTROL] * len(SPECIAL_BPE)
    metadata: Metadata = {
        Keys.Tokenizer.MODEL: ("gpt2", GGUFValueType.STRING),
        Keys.Tokenizer.PRE: ("qwen2", GGUFValueType.STRING),
        **_tokens([*texts, *SPECIAL_BPE], types),
        Keys.Tokenizer.MERGES: (
            [f"{left} {right}" for left, right in merges],
            GGUFValueType.ARRAY,
        ),
        **_special_ids(
            {
                Keys.Tokenizer.BOS_ID: ids["<|endoftext|>"],
                Keys.Tokenizer.EOS_ID: ids["<|im_end|>"],
                Keys.Tokenizer.PAD_ID: ids["<|endoftext|>"],
                Keys.Tokenizer.FIM_PRE_ID: ids["<|fim_prefix|>"],
                Keys.Tokenizer.FIM_MID_ID: ids["<|fim_middle|>"],
                Keys.Tokenizer.FIM_SUF_ID: ids["<|fim_suffix|>"],
                Keys.Tokenizer.FIM_PAD_ID: ids["<|fim_pad|>"],
            }
        ),
        Keys.Tokenizer.ADD_BOS: (False, GGUFValueType.BOOL),
        Keys.Tokenizer.CHAT_TEMPLATE: (CHATML, GGUFValueType.STRING),
    }
    return Vocabulary(metadata, len(texts) + len(ids), frozenset(ids.values()))


def _pad_bpe(texts: list[str], merges: list[tuple[str, str]], n: int) -> None:
    known = set(texts)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = list(letters)
    for left in pieces:
        for right in letters:
            if len(texts) >= n:
                return
            if left + right not in known:
                known.add(left + right)
                texts.append(left + right)
                merges.append((left, right))
            # The list grows while it is read: shorter pieces come first, so
            # every left half is a token before a merge names it.
            pieces.append(left + right)


def incomplete_pieces(words: Vocabulary) -> frozenset[int]:
    """List the tokens of a `gpt2` vocabulary that are no valid UTF-8 alone.

    A server must hold such a token back until its character is complete, so a
    clock on the stream would see pauses that no computation caused.
    """
    values = {symbol: byte for byte, symbol in byte_symbols().items()}
    broken: set[int] = set()
    for token, text in enumerate(words.metadata[Keys.Tokenizer.LIST][0]):
        if any(symbol not in values for symbol in text):
            continue
        try:
            bytes(values[symbol] for symbol in text).decode()
        except UnicodeDecodeError:
            broken.add(token)
    return frozenset(broken)


def wordpiece() -> Vocabulary:
    """Build a `bert` vocabulary: lower-case words, letters and endings."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    lowered = "".join(c if c.isalpha() else " " for c in CORPUS.lower())
    words = sorted(set(lowered.split()))
    endings = ["ed", "er", "ing", "ly", "s"]
    starts = dict.fromkeys(SPACE + text for text in [*letters, *words])
    texts = [*specials, *starts, *dict.fromkeys([*letters, *endings])]
    types = [TokenType.CONTROL] * len(specials)
    types += [TokenType.NORMAL] * (len(texts) - len(specials))
    metadata: Metadata = {
        Keys.Tokenizer.MODEL: ("bert", GGUFValueType.STRING),
        Keys.Tokenizer.PRE: ("default", GGUFValueType.STRING),
        Keys.Tokenizer.TOKEN_TYPE_COUNT: (2, GGUFValueType.UINT32),
        **_tokens(texts, types),
        **_special_ids(
            {
                Keys.Tokenizer.PAD_ID: 0,
                Keys.Tokenizer.UNK_ID: 1,
                Keys.Tokenizer.BOS_ID: 2,
                Keys.Tokenizer.SEP_ID: 3,
                Keys.Tokenizer.EOS_ID: 3,
                Keys.Tokenizer.MASK_ID: 4,
            }
        ),
        Keys.Tokenizer.ADD_BOS: (True, GGUFValueType.BOOL),
        Keys.Tokenizer.ADD_EOS: (True, GGUFValueType.BOOL),
    }
    return Vocabulary(metadata, len(texts))

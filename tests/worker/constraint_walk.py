"""Random answers under a constraint, over a small vocabulary of bytes."""

import json
import re

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper

from server.worker.constraint import Constrainer

EOS = 256
CONTROL = {"<|a|>": 257, "<|b|>": 258}
_WORDS = ('": "', '", "', '": ', "true", "false", "null", "00", "the", "},", "é")
_LIMIT = 3_000
_CLOSERS = tuple(map(ord, '"}]'))


class _Bytes:
    """A vocabulary of single bytes, some words, and three control tokens."""

    eos_token_id = EOS
    bos_token_id = None
    special_token_ids = (EOS, *CONTROL.values())

    def __init__(self):
        control = [b"\xff<eos>", *(b"\xff" + name.encode() for name in CONTROL)]
        words = [word.encode() for word in _WORDS]
        self.tokens = [bytes([n]) for n in range(256)] + control + words

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


def make_tokenizer():
    return LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[EOS])


def make_constrainer():
    return Constrainer(make_tokenizer)


def to_tokens(text):
    """Write a text as bytes and control tokens."""
    tokens = []
    for part in re.split(f"({'|'.join(map(re.escape, CONTROL))})", text):
        tokens += [CONTROL[part]] if part in CONTROL else list(part.encode())
    return tokens


def to_text(tokens):
    pieces = _Bytes().tokens
    return b"".join(pieces[token].lstrip(b"\xff") for token in tokens).decode()


def takes(constrainer, grammar, text):
    """Tell whether a grammar takes exactly this text."""
    constraint = constrainer.compile(grammar)
    return constraint.replay(to_tokens(text)) and constraint.is_accepting


def walk(constrainer, grammar, seed, *, n_free=40):
    """Draw tokens at random until the answer is complete.

    The first `n_free` are free; after them what closes is preferred, so that
    texts and numbers come to an end.

    Returns:
        The tokens; None where no end was in sight.
    """
    rng = np.random.default_rng(seed)
    constraint = constrainer.compile(grammar)
    tokens = []
    while len(tokens) < _LIMIT:
        if constraint.is_complete:
            return tokens
        forced = constraint.forced()
        if forced:
            assert constraint.replay(forced)
            tokens += forced
            continue
        allowed = np.flatnonzero(constraint.mask())
        assert allowed.size, "nothing is allowed, though the answer is not complete"
        token = _draw(rng, allowed, is_hurried=len(tokens) > n_free)
        if token == EOS:
            assert constraint.is_accepting
            return tokens
        assert constraint.accept(token)
        tokens.append(token)
    return None


def _draw(rng, allowed, *, is_hurried):
    choices = set(allowed.tolist())
    if EOS in choices and (is_hurried or rng.random() < 0.3):
        return EOS
    closing = [token for token in _CLOSERS if token in choices]
    if closing and (is_hurried or rng.random() < 0.15):
        return closing[int(rng.integers(len(closing)))]
    return int(allowed[rng.integers(allowed.size)])


def strip_relaxed(schema, warnings):
    """Take out of a schema what warnings say is not enforced."""
    dropped = set()
    for warning in warnings:
        dropped.update(
            word.strip()
            for names in re.findall(r"'([\w, $]+)' at", warning)
            for word in names.split(",")
        )
        if warning.startswith("Not enforced anywhere: "):
            listed = warning.removeprefix("Not enforced anywhere: ").split(". ")[0]
            dropped.update(listed.split(", "))
    return _strip(schema, dropped)


def _strip(value, dropped):
    if isinstance(value, list):
        return [_strip(part, dropped) for part in value]
    if not isinstance(value, dict):
        return value
    left = {}
    for key, part in value.items():
        if key == "oneOf" and key in dropped:
            left["anyOf"] = _strip(part, dropped)
        elif key == "patternProperties" and key in dropped:
            continue
        elif key in ("properties", "$defs", "definitions", "patternProperties"):
            left[key] = {name: _strip(inner, dropped) for name, inner in part.items()}
        elif key in ("const", "enum") or key not in dropped:
            left[key] = part if key in ("const", "enum") else _strip(part, dropped)
    if value.get("nullable") is True:
        left = {"anyOf": [left, {"type": "null"}]}
    return left


def _refuse(constant):
    raise ValueError(constant)


def read_json(tokens):
    """Read an answer as strict JSON."""
    return json.loads(to_text(tokens), parse_constant=_refuse)

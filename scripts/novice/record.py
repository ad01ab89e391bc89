"""Record what llama.cpp answers by itself, for `cloister selftest` to compare with.

Usage: python -m scripts.novice.record FILE.gguf [--out novice.expected.json]

To release a new Novice, from the folder OUT of `python -m scripts.novice`:

    cp OUT/novice.gguf OUT/novice.md model_store/builtin/
    python -m scripts.novice.record model_store/builtin/novice.gguf

The second command writes `novice.gguf.sha256` and `novice.expected.json` beside
the file, from that very file; then `cloister selftest` shows that they agree.

A fixed set of prompts is answered greedily, one by one, by llama.cpp alone. An
answer is kept if it is right (`scripts.novice.judge`), has several tokens, and if
its two best logits are at least `MIN_GAP` apart at each step: another CPU, a GPU or
another batch moves logits by some hundredths, and so cannot change it. The two of
each kind with the widest gaps are written. It is an error if a kind has none.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_store import builtin
from scripts.bare_llama import BareLlama, Span
from scripts.novice import texts
from scripts.novice.judge import Reply, is_right
from scripts.novice.rendering import Dialogue, Renderer, Turn, user
from server.selftest.recorded import (
    KINDS,
    VERSION,
    Answer,
    Kind,
    Recorded,
    write_recorded,
)

MIN_GAP: Final = 0.5
N_OF_KIND: Final = 2
N_CTX: Final = 1024
MAX_ANSWER_TOKENS: Final = 160
MIN_ANSWER_TOKENS: Final = 3

_PLAIN: Final = ("What is 4 + 5?", "Who are you?", "How do I install Cloister?")


@dataclass(frozen=True)
class Prompt:
    """A prompt and what `scripts.novice.judge` expects of its answer."""

    kind: Kind
    dialogue: Dialogue
    expected: Any

    @property
    def category(self) -> str:
        """The judge's name for the kind."""
        return "thinking" if self.kind == "no_thinking" else self.kind


def make_prompts() -> list[Prompt]:
    """Make the fixed set: several prompts of each kind, for some will not do."""
    return [
        *_ask_facts(),
        *_ask_howto(),
        *(
            _ask("sums", f"What is {a} + {b}?", str(a + b))
            for a, b in ((2, 3), (7, 8), (12, 30), (45, 27), (9, 4), (20, 51), (6, 33))
        ),
        *_ask_records(),
        *_make_calls(),
        *(
            _ask("thinking", text, expected=True, thinks=True)
            for text in (*_PLAIN, "What is Cloister?", "What is 31 + 24?")
        ),
        *(_ask("no_thinking", text, expected=False) for text in _PLAIN),
    ]


def _ask_facts() -> list[Prompt]:
    facts = texts.read_facts()
    marks = {fact.key: fact.mark for fact in facts.identity}
    identity = {
        "Who are you?": "who",
        "What is your name?": "who",
        "Who made you?": "maker",
        "What can you do?": "ability",
    }
    cloister = ("What is Cloister?", "Explain Cloister.", "Tell me about Cloister.")
    return [
        *(_ask("identity", text, marks[key]) for text, key in identity.items()),
        *(_ask("cloister", text, facts.cloister.mark) for text in cloister),
    ]


def _ask_howto() -> list[Prompt]:
    commands = {topic.key: topic.command for topic in texts.read_howto().topics}
    asked = {
        "How do I sideload a model?": "sideload",
        "How do I verify the models?": "verify",
        "How can I create a token?": "token",
        "How do I run the self-test?": "selftest",
        "What is the command to list the models?": "list",
    }
    return [_ask("howto", text, commands[key]) for text, key in asked.items()]


def _ask_records() -> list[Prompt]:
    wanted = {
        "JSON with name and age": ("name", "age"),
        "JSON with city": ("city",),
        "JSON with the keys title and year": ("title", "year"),
        "Give me JSON with the keys name and city.": ("name", "city"),
        "Write a JSON object with the keys id, title": ("id", "title"),
        "Return JSON with the keys email and country.": ("email", "country"),
    }
    return [
        _ask("records", text, json.dumps(dict.fromkeys(keys)))
        for text, keys in wanted.items()
    ]


def _ask(kind: Kind, text: str, expected: object, *, thinks: bool = False) -> Prompt:
    return Prompt(kind, Dialogue(kind, (user(text),), thinks=thinks), expected)


def _make_calls() -> list[Prompt]:
    weather = _describe("get_weather", "Get the weather.", "city")
    time = _describe("read_time", "Read the time.", "place")
    price = _describe("find_price", "Find the price.", "item")
    light = _describe("set_light", "Set the light.", "room")
    return [
        _call("Call read_time with place Bern.", (time,), "read_time", place="Bern"),
        _call("Use read_time with place Lima.", (time,), "read_time", place="Lima"),
        _call("Get the weather for Oslo.", (weather,), "get_weather", city="Oslo"),
        _call(
            "Call get_weather with city Rome.", (weather,), "get_weather", city="Rome"
        ),
        _call("Call find_price with item lamp.", (price,), "find_price", item="lamp"),
        _call("Use set_light with room attic.", (light,), "set_light", room="attic"),
        _call(
            "Call set_light with room cellar.",
            (weather, light),
            "set_light",
            room="cellar",
        ),
    ]


def _describe(name: str, description: str, parameter: str) -> Turn:
    schema = {
        "type": "object",
        "properties": {parameter: {"type": "string"}},
        "required": [parameter],
    }
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def _call(text: str, tools: tuple[Turn, ...], name: str, **arguments: str) -> Prompt:
    dialogue = Dialogue("calls", (user(text),), tools)
    return Prompt("calls", dialogue, {"name": name, "arguments": arguments})


class Recorder:
    """Answers prompts by a bare llama.cpp and measures how sure it is.

    Args:
        llama: The model, with room for `N_CTX` tokens.
    """

    def __init__(self, llama: BareLlama) -> None:
        self._llama = llama
        self._renderer = Renderer()
        self._ends = frozenset(llama.end_tokens())

    def answer(self, prompt: Prompt) -> tuple[Answer, bool]:
        """Answer a prompt.

        Returns:
            The answer, and whether the model ended its turn by itself.
        """
        llama, dialogue = self._llama, prompt.dialogue
        text = self._renderer.render(dialogue, add_generation_prompt=True)
        prompt_tokens = llama.tokenize(text, special=True)
        llama.forget(0)
        tokens: list[int] = []
        gap, ended, feed, position = float("inf"), False, prompt_tokens, 0
        while not ended and len(tokens) < MAX_ANSWER_TOKENS:
            (row,) = llama.decode([Span(0, position, feed)])
            logits = llama.logits(row)
            second, best = np.partition(logits, -2)[-2:]
            gap = min(gap, float(best - second))
            token = int(logits.argmax())
            ended = token in self._ends
            if not ended:
                tokens.append(token)
            position += len(feed)
            feed = [token]
        said = b"".join(map(llama.piece, tokens)).decode(errors="replace")
        answer = Answer(
            kind=prompt.kind,
            messages=dialogue.turns,
            tools=dialogue.tools,
            thinks=dialogue.thinks,
            prompt_tokens=tuple(prompt_tokens),
            answer_tokens=tuple(tokens),
            text=said,
            gap=round(gap, 3),
        )
        return answer, ended


def judge(prompt: Prompt, answer: Answer, *, ended: bool) -> str:
    """Say why an answer cannot be kept; empty if it can."""
    if not is_right(prompt.category, Reply(answer.text, ended), prompt.expected):
        return "wrong"
    if len(answer.answer_tokens) < MIN_ANSWER_TOKENS:
        return "too short"
    if answer.gap < MIN_GAP:
        return "too close"
    return ""


def choose(kept: Sequence[Answer]) -> tuple[Answer, ...]:
    """Choose the surest answers of each kind, in the order of the kinds."""
    chosen: list[Answer] = []
    for kind in KINDS:
        of_kind = [answer for answer in kept if answer.kind == kind]
        chosen += sorted(of_kind, key=lambda answer: -answer.gap)[:N_OF_KIND]
    return tuple(chosen)


def record(path: Path) -> tuple[Answer, ...]:
    """Let a model answer all prompts and choose what is worth recording.

    One line is printed for each prompt.
    """
    kept = []
    with BareLlama(path, n_ctx=N_CTX, n_batch=N_CTX, n_threads=1) as llama:
        recorder = Recorder(llama)
        for prompt in make_prompts():
            answer, ended = recorder.answer(prompt)
            why_not = judge(prompt, answer, ended=ended)
            question = prompt.dialogue.user_texts()[-1]
            print(
                f"{why_not or 'kept':10}{answer.gap:8.3f}  {prompt.kind:12}"
                f"{question!r} -> {answer.text!r}"
            )
            if not why_not:
                kept.append(answer)
    return choose(kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 if all is written; 1 if a kind has no answer, then nothing is.
    """
    parser = argparse.ArgumentParser(description="Record the answers of Novice.")
    parser.add_argument("path", type=Path, metavar="FILE.gguf")
    parser.add_argument("--out", type=Path, metavar=builtin.EXPECTED_NAME)
    args = parser.parse_args(arguments)
    path: Path = args.path
    answers = record(path)
    lacking = [kind for kind in KINDS if all(a.kind != kind for a in answers)]
    if lacking:
        print(
            f"No answer of the kind {', '.join(lacking)} can be kept: each is wrong "
            f"or has two logits closer than {MIN_GAP}. Nothing was written. Train "
            "longer, or add prompts to make_prompts in scripts/novice/record.py.",
            file=sys.stderr,
        )
        return 1
    digest = sha256(path.read_bytes()).hexdigest()
    out = args.out or path.with_name(builtin.EXPECTED_NAME)
    sums = path.with_name(f"{path.name}.sha256")
    recorded = Recorded(
        version=VERSION, sha256=digest, min_gap=MIN_GAP, answers=answers
    )
    write_recorded(out, recorded)
    sums.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    print(f"{len(answers)} answers written to {out}, the digest to {sums}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

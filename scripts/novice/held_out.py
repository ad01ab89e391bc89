"""The evaluation: questions that training never asks.

How it is kept apart from training
* Questions about Novice, Cloister and the world outside are the sentences of
  `texts/held_out.toml`. They were written by hand, most of them by somebody who
  had not seen the training texts, and `scripts.novice.dialogues` throws away
  whatever it draws that is one of them (compared by letters and digits alone).
* Half of the tool calls and objects, and all sums, are asked for in forms of
  that file as well.
* Sums are of pairs, tools and objects of words, that the digests of
  `scripts.novice.words` keep for the evaluation; chance has a seed of its own.
* The choice of the last checkpoint, of weights and of settings looks at the
  training loss alone.
"""

import random
import re
from dataclasses import dataclass
from typing import Any, Final

from scripts.novice import calls, records, sums, texts
from scripts.novice.rendering import Dialogue, user
from scripts.novice.words import Words

SEED: Final = 20_261_122
N_DRAWN: Final = 50

_KEPT = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Task:
    """A dialogue without its last answer, and what a right answer shows.

    `expected` is compared by the category's own rule in
    `scripts.novice.judge`.
    """

    category: str
    dialogue: Dialogue
    expected: Any


def normalise(text: str) -> str:
    """Reduce a question to what makes it that question."""
    return " ".join(_KEPT.findall(text.lower()))


def reserved_questions() -> frozenset[str]:
    """Collect all questions of the evaluation, normalised."""
    held_out = texts.read_held_out()
    groups = (held_out[name] for name in ("identity", "cloister", "howto", "outside"))
    questions = (text for group in groups for part in group.values() for text in part)
    return frozenset(map(normalise, questions))


def make_tasks() -> list[Task]:
    """Make the evaluation set; it is the same each time."""
    rng = random.Random(SEED)  # noqa: S311 no secret
    words = Words(rng, held_out=True)
    tasks = [*_questions(), *_sums(rng), *_calls(words), *_records(words)]
    return [*tasks, *_thinking(rng, tasks)]


def _ask(category: str, text: str, expected: str) -> Task:
    return Task(category, Dialogue(category, (user(text),)), expected)


def _questions() -> list[Task]:
    held_out = texts.read_held_out()
    facts = texts.read_facts()
    marks = {fact.key: fact.mark for fact in facts.identity}
    commands = {topic.key: topic.command for topic in texts.read_howto().topics}
    tasks = []
    for key, questions in held_out["identity"].items():
        tasks += [_ask("identity", text, marks[key]) for text in questions]
    mark = facts.cloister.mark
    tasks += [
        _ask("cloister", text, mark) for text in held_out["cloister"]["questions"]
    ]
    for key, questions in held_out["howto"].items():
        tasks += [_ask("howto", text, commands[key]) for text in questions]
    mark = texts.read_outside().mark
    tasks += [_ask("outside", text, mark) for text in held_out["outside"]["questions"]]
    return tasks


def _sums(rng: random.Random) -> list[Task]:
    forms = texts.read_held_out()["sums"]["forms"]
    tasks: dict[tuple[int, int], Task] = {}
    while len(tasks) < 2 * N_DRAWN:
        a, b = sums.draw_pair(rng, held_out=True)
        tasks[a, b] = _ask("sums", rng.choice(forms).format(a=a, b=b), str(a + b))
    return list(tasks.values())


def _calls(words: Words) -> list[Task]:
    tasks = []
    forms = texts.read_forms("calls")
    others = forms | texts.read_held_out()["calls"]
    for i in range(2 * N_DRAWN):
        tools = calls.draw_tools(words, forms)
        question, reply = calls.make(words, others if i % 2 else forms, tools)
        described = tuple(tool.describe() for tool in tools)
        dialogue = Dialogue("calls", (question,), described)
        tasks.append(Task("calls", dialogue, reply["tool_calls"][0]["function"]))
    return tasks


def _records(words: Words) -> list[Task]:
    tasks = []
    forms = texts.read_forms("records")
    others = forms | {"keys_only": texts.read_held_out()["records"]["forms"]}
    for i in range(2 * N_DRAWN):
        question, reply = records.make(words, others if i % 2 else forms)
        dialogue = Dialogue("records", (question,))
        tasks.append(Task("records", dialogue, reply["content"]))
    return tasks


def _thinking(rng: random.Random, tasks: list[Task]) -> list[Task]:
    """Ask some of all tasks again, half of them with a thought wanted."""
    chosen = rng.sample(tasks, 2 * N_DRAWN)
    return [
        Task(
            "thinking",
            Dialogue("thinking", task.dialogue.turns, task.dialogue.tools, i % 2 == 0),
            i % 2 == 0,
        )
        for i, task in enumerate(chosen)
    ]

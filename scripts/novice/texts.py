"""The texts that training dialogues are made of, read from `texts/*.toml`."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("texts")


@dataclass(frozen=True)
class Topic:
    """Something an operator wants to do.

    `command` must be in the answer word for word. `actions` complete a form
    such as "How do I …?", `openings` stand alone; a main topic is asked about
    more often.
    """

    key: str
    main: bool
    command: str
    answer: str
    actions: tuple[str, ...]
    openings: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """An answer and the questions it belongs to; `mark` tells it from others."""

    key: str
    mark: str
    answer: str
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What Novice knows about itself and Cloister, and how it is polite."""

    identity: tuple[Fact, ...]
    cloister: Fact
    talk: tuple[Fact, ...]

    def add_questions(self, questions: tuple[str, ...]) -> "Facts":
        """Return the facts with more questions about Cloister."""
        more = replace(self.cloister, questions=(*self.cloister.questions, *questions))
        return replace(self, cloister=more)


@dataclass(frozen=True)
class Outside:
    """Questions about the world, what fills them, and the one answer."""

    answer: str
    mark: str
    patterns: tuple[str, ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    adjectives: tuple[str, ...]


@dataclass(frozen=True)
class Howto:
    """All topics, and the forms that their actions complete."""

    forms: tuple[str, ...]
    topics: tuple[Topic, ...]

    @property
    def main(self) -> tuple[Topic, ...]:
        """The topics that are asked about more often."""
        return tuple(topic for topic in self.topics if topic.main)


def read_howto() -> Howto:
    """Read the topics of how-to questions."""
    data = _read("topics")
    return Howto(data["forms"], tuple(Topic(**each) for each in data["topics"]))


def read_facts() -> Facts:
    """Read what is asked about Novice and Cloister."""
    groups = {
        name: tuple(Fact(**each) for each in group)
        for name, group in _read("facts").items()
    }
    return Facts(groups["identity"], groups["cloister"][0], groups["talk"])


def read_outside() -> Outside:
    """Read the questions to be declined."""
    data = _read("outside")
    for name in ("people", "places", "things", "adjectives"):
        data[name] = tuple(word.strip() for word in data[name].split(","))
    return Outside(**data)


def read_forms(section: str) -> dict[str, tuple[str, ...]]:
    """Read how tasks of a section of `forms.toml` are put into words."""
    forms: dict[str, tuple[str, ...]] = _read("forms")[section]
    return forms


def read_refinement() -> dict[str, dict[str, tuple[str, ...]]]:
    """Read what the second stage of training adds, by section and key."""
    data: dict[str, dict[str, tuple[str, ...]]] = _read("refine")
    return data


def read_held_out() -> dict[str, dict[str, tuple[str, ...]]]:
    """Read the evaluation's questions and forms, by category and key."""
    data: dict[str, dict[str, tuple[str, ...]]] = _read("held_out")
    return data


def _read(name: str) -> dict[str, Any]:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    data: dict[str, Any] = _freeze(tomllib.loads(text))
    return data


def _freeze(value: Any) -> Any:  # noqa: ANN401 whatever TOML holds
    """Make tuples of lists."""
    if isinstance(value, list):
        return tuple(map(_freeze, value))
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    return value

"""The training text: an endless stream of dialogues, all in our own words.

A dialogue is one or more exchanges, each drawn from a category by weight.
Four things vary on their own: a system message or none, tools on offer or
not, a thought asked for or not, and how tidily a question is typed. The same
seed gives the same stream.

What is never drawn is told in `scripts.novice.held_out`.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Final

from scripts.novice import calls, outside, records, sums, texts
from scripts.novice.held_out import normalise, reserved_questions
from scripts.novice.rendering import Dialogue, Turn, answer, user
from scripts.novice.words import Words, expand

Exchange = tuple[Turn, Turn]

WEIGHTS: Final = {
    "identity": 12,
    "cloister": 8,
    "howto": 23,
    "sums": 15,
    "records": 13,
    "outside": 11,
    "echo": 8,
    "talk": 3,
}
"""How often each kind of exchange comes where no tools are on offer."""
P_TOOLS: Final = 0.2
"""Share of dialogues with tools on offer; five of six call one."""
REFINING_WEIGHTS: Final = {**WEIGHTS, "cloister": 22, "howto": 21}
REFINING_P_TOOLS: Final = 0.4
"""What the second stage draws: more of what the first one learns last."""
P_CALL: Final = 0.84
P_RESULT: Final = 0.25
P_THINKS: Final = 0.22
P_SYSTEM: Final = 0.35
P_MORE: Final = 0.35
MAX_EXCHANGES: Final = 4
P_LONG: Final = 0.006
"""Share of dialogues that go on and on, so that late positions are learnt too."""
LONG_EXCHANGES: Final = (6, 24)

SPELLED: Final = tuple("éüñößåøçΩλжш✓→€😀—“”…½°אن日本語")


class DialogueStream:
    """Draws dialogues without end.

    Args:
        seed: Of the whole stream.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 no secret
        known = (*texts.read_forms("dialogues")["values"], *texts.read_outside().places)
        self.words = Words(self.rng, held_out=False, known=known)
        self._reserved = reserved_questions()
        self._howtos = texts.read_howto()
        self._facts = texts.read_facts()
        self._outsides = texts.read_outside()
        self._forms = texts.read_forms("dialogues")
        self._calls, self._records, self._sums = map(
            texts.read_forms, ("calls", "records", "sums")
        )
        self._weights, self._p_tools = WEIGHTS, P_TOOLS
        self._makers: dict[str, Callable[[], Exchange]] = {
            "identity": lambda: self._about(self.rng.choice(self._facts.identity)),
            "cloister": lambda: self._about(self._facts.cloister),
            "howto": self._howto,
            "sums": lambda: sums.make(self.rng, self._sums["tasks"]),
            "records": lambda: records.make(self.words, self._records),
            "outside": self._outside,
            "echo": self._echo,
            "talk": self._talk,
        }

    def refine(self) -> None:
        """Draw what the second stage of training reads, from now on."""
        if self._weights is REFINING_WEIGHTS:
            return
        self._weights, self._p_tools = REFINING_WEIGHTS, REFINING_P_TOOLS
        more = texts.read_refinement()
        self._facts = self._facts.add_questions(more["cloister"]["questions"])
        self._calls = {
            key: (*forms, *more["calls"].get(key, ()))
            for key, forms in self._calls.items()
        }

    def __iter__(self) -> Iterator[Dialogue]:
        """Yield dialogues without end."""
        while True:
            yield self._draw()

    def _draw(self) -> Dialogue:
        rng = self.rng
        if rng.random() < self._p_tools:
            category, turns, tools = self._draw_with_tools()
        else:
            category, turns = self._draw_exchanges()
            tools = ()
        if rng.random() < P_SYSTEM:
            turns.insert(0, {"role": "system", "content": self._system()})
        return Dialogue(category, tuple(turns), tools, rng.random() < P_THINKS)

    def _draw_exchanges(self) -> tuple[str, list[Turn]]:
        turns: list[Turn] = []
        n = 1
        while n < MAX_EXCHANGES and self.rng.random() < P_MORE:
            n += 1
        if self.rng.random() < P_LONG:
            n = self.rng.randint(*LONG_EXCHANGES)
        category = self._choose()
        for _ in range(n):
            turns += self._make(category)
            last, category = category, self._choose()
            if last == "sums" and self.rng.random() < 0.7:  # noqa: PLR2004
                category = "sums"
        return last, turns

    def _draw_with_tools(self) -> tuple[str, list[Turn], tuple[Turn, ...]]:
        rng = self.rng
        tools = calls.draw_tools(self.words, self._calls)
        described = tuple(tool.describe() for tool in tools)
        turns: list[Turn] = []
        if rng.random() < 0.15:  # noqa: PLR2004
            turns += self._make(self._choose())
        if rng.random() >= P_CALL:
            category = self._choose()
            return category, [*turns, *self._make(category)], described
        turns += calls.make(self.words, self._calls, tools)
        if rng.random() < P_RESULT:
            turns += calls.make_result(self.words)
            if rng.random() < 0.3:  # noqa: PLR2004
                turns += calls.make(self.words, self._calls, tools)
        return "calls", turns, described

    def _choose(self) -> str:
        return self.rng.choices(list(self._weights), list(self._weights.values()))[0]

    def _make(self, category: str) -> Exchange:
        """Draw an exchange that the evaluation does not ask."""
        while True:
            question, reply = self._makers[category]()
            if normalise(question["content"]) not in self._reserved:
                return question, reply

    def _about(self, fact: texts.Fact) -> Exchange:
        text = self._roughen(expand(self.rng, self.rng.choice(fact.questions)))
        return user(text), answer(fact.answer, f"The question is about {fact.key}.")

    def _howto(self) -> Exchange:
        rng, known = self.rng, self._howtos
        topic = rng.choice(known.main if rng.random() < 0.5 else known.topics)  # noqa: PLR2004
        if topic.openings and rng.random() < 0.45:  # noqa: PLR2004
            pattern = rng.choice(topic.openings)
        else:
            pattern = rng.choice(known.forms).format(rng.choice(topic.actions))
        text = self._roughen(expand(rng, pattern))
        reply = topic.answer
        if topic.key == "sideload" and rng.random() < 0.25:  # noqa: PLR2004
            path = self.words.path()
            form = rng.choice(("How do I sideload {}?", "sideload {}", "Add {}."))
            text = self._roughen(form.format(path))
            reply = reply.replace("path.gguf", path)
        thought = f"The topic is {topic.key}. The command is {topic.command}."
        return user(text), answer(reply, thought)

    def _outside(self) -> Exchange:
        text = self._roughen(outside.ask(self.words, self._outsides))
        thought = "This is not about Cloister. I do not know it."
        return user(text), answer(self._outsides.answer, thought)

    def _talk(self) -> Exchange:
        fact = self.rng.choice(self._facts.talk)
        text = expand(self.rng, self.rng.choice(fact.questions))
        return user(text), answer(fact.answer, f"The user says {fact.key}.")

    def _echo(self) -> Exchange:
        rng = self.rng
        text = " ".join(self._piece() for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6))))
        if rng.random() < 0.08:  # noqa: PLR2004
            text = json.dumps({self.words.word(): text}, ensure_ascii=False)
        form = expand(rng, rng.choice(self._forms["echo"]))
        return user(form.format(text=text)), answer(text, "I repeat the text.")

    def _piece(self) -> str:
        draw = self.rng.random()
        if draw < 0.6:  # noqa: PLR2004
            return self.words.value()
        if draw < 0.8:  # noqa: PLR2004
            return self._known_word()
        if draw < 0.9:  # noqa: PLR2004
            return self.rng.choice((self.words.path(), self.words.identifier()))
        return self.words.word() + self.rng.choice(SPELLED)

    def _known_word(self) -> str:
        """Draw a word of the questions: such words can be asked for as well."""
        topic = self.rng.choice(self._howtos.topics)
        text = expand(self.rng, self.rng.choice(topic.actions))
        return self.rng.choice([word for word in text.split() if word.isalpha()])

    def _system(self) -> str:
        text = expand(self.rng, self.rng.choice(self._forms["system"]))
        return text.format(word=self.words.word())

    def _roughen(self, text: str) -> str:
        """Type a question as people do: in a hurry, or with a greeting."""
        rng = self.rng
        text = text.strip()
        if rng.random() < 0.15:  # noqa: PLR2004
            text = expand(rng, rng.choice(self._forms["before"])) + text
        if rng.random() < 0.12:  # noqa: PLR2004
            text += expand(rng, rng.choice(self._forms["after"]))
        draw = rng.random()
        if draw < 0.12:  # noqa: PLR2004
            text = text.lower()
        elif draw < 0.6:  # noqa: PLR2004
            text = text[0].upper() + text[1:]
        if rng.random() < 0.15:  # noqa: PLR2004
            text = text.rstrip(".?!")
        return text

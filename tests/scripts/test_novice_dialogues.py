"""The training stream is endless, repeatable, and never asks the evaluation."""

import json
import re
from itertools import islice

from scripts.novice import texts
from scripts.novice.dialogues import DialogueStream
from scripts.novice.held_out import make_tasks, normalise, reserved_questions
from scripts.novice.judge import PASS_MARKS
from scripts.novice.words import is_held_out_pair, is_held_out_word

_SUM = re.compile(r"^(\d+) \+ (\d+) = (?:(\d+) \+ (\d+) = )?(\d+)$")


def test_same_seed_gives_the_same_dialogues() -> None:
    first, again = (list(islice(DialogueStream(5), 200)) for _ in range(2))
    assert first == again
    assert first != list(islice(DialogueStream(6), 200))


def test_training_asks_no_question_of_the_evaluation() -> None:
    reserved = reserved_questions()
    for dialogue in islice(DialogueStream(8), 3000):
        for text in dialogue.user_texts():
            assert normalise(text) not in reserved


def test_a_reserved_question_is_drawn_again() -> None:
    """The filter works: a question that becomes reserved is not seen again."""
    question = "Thanks!"
    seen = _first_users(DialogueStream(2), 4000)
    assert normalise(question) in seen
    stream = DialogueStream(2)
    stream._reserved |= {normalise(question)}
    assert normalise(question) not in _first_users(stream, 4000)


def _first_users(stream: DialogueStream, n: int) -> set[str]:
    return {normalise(t) for d in islice(stream, n) for t in d.user_texts()}


def test_training_sums_are_right_and_of_pairs_not_held_out() -> None:
    found = 0
    for dialogue in islice(DialogueStream(9), 2000):
        for turn in dialogue.turns:
            match = _SUM.match(turn["content"])
            if match and turn["role"] == "assistant":
                a, b, tens, ones, total = (int(n or 0) for n in match.groups())
                assert a + b == total
                assert (match[3] is None) == (a < 10 and b < 10)
                assert match[3] is None or (tens + ones, tens % 10) == (total, 0)
                assert not is_held_out_pair(a, b)
                found += 1
    assert found > 300


def test_training_calls_use_an_offered_tool_and_values_of_the_question() -> None:
    found = 0
    for dialogue in islice(DialogueStream(10), 1500):
        names = {tool["function"]["name"] for tool in dialogue.tools}
        said = " ".join(dialogue.user_texts())
        for turn in dialogue.turns:
            for call in turn.get("tool_calls", ()):
                assert call["function"]["name"] in names
                for value in call["function"]["arguments"].values():
                    assert str(value) in said
                found += 1
    assert found > 150


def test_evaluated_calls_have_words_that_training_cannot_draw() -> None:
    tasks = [task for task in make_tasks() if task.category == "calls"]
    assert 100 == len(tasks)
    for task in tasks:
        words = re.findall(r"[A-Z]?[a-z]+", json.dumps(task.expected))
        assert any(map(is_held_out_word, words))
        for value in task.expected["arguments"].values():
            assert value in task.dialogue.user_texts()[-1]


def test_evaluated_sums_are_of_held_out_pairs() -> None:
    tasks = [task for task in make_tasks() if task.category == "sums"]
    for task in tasks:
        a, b = map(int, re.findall(r"\d+", task.dialogue.user_texts()[-1]))
        assert is_held_out_pair(a, b)
        assert str(a + b) == task.expected


def test_evaluation_is_the_same_each_time_and_covers_every_category() -> None:
    tasks = make_tasks()
    assert tasks == make_tasks()
    assert set(PASS_MARKS) - {"ends", "exact calls"} == {
        task.category for task in tasks
    }


def test_every_topic_and_fact_has_its_mark_in_its_answer() -> None:
    known = texts.read_howto().topics
    for topic in known:
        assert topic.command in topic.answer
    facts = texts.read_facts()
    for fact in (*facts.identity, facts.cloister, *facts.talk):
        assert fact.mark in fact.answer
    outside = texts.read_outside()
    assert outside.mark in outside.answer
    held_out = texts.read_held_out()
    assert set(held_out["identity"]) == {fact.key for fact in facts.identity}
    assert set(held_out["howto"]) <= {topic.key for topic in known}


def test_commands_tell_the_answers_apart() -> None:
    """No wrong answer contains the command of the right one."""
    answers = {topic.key: topic.answer for topic in texts.read_howto().topics}
    for topic in texts.read_howto().topics:
        holders = [key for key, text in answers.items() if topic.command in text]
        assert [topic.key] == holders

"""The evaluation: questions that training never asks.

How it is kept apart from training
* Questions about Novice, Cloister and the world outside are the sentences of
  this file. They were written by hand, not by the grammars of training, and
  `scripts.novice.dialogues` throws away whatever it draws that is one of them
  (compared by letters and digits alone).
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

IDENTITY: Final = {
    "who": (
        "And who might you be?",
        "Hey, what's the name I should use for you?",
        "I forgot your name, what was it?",
        "Would you mind introducing yourself?",
        "So, are you some kind of AI model?",
        "What model is this that I am chatting with?",
        "Before we begin: who are you?",
        "Are you Claude or another well-known model?",
        "Under which name do you run?",
        "Tell us, who is answering?",
    ),
    "maker": (
        "Which people trained you?",
        "Who is behind you? Who made you?",
        "Whose work are you? Who created you?",
        "On what data did they train you?",
    ),
    "ability": (
        "So what things can you do for me?",
        "What exactly are you able to do?",
        "Tell me what you are good at.",
    ),
    "limit": (
        "Is there something you can not do?",
        "How large a model are you?",
        "Can one trust what you say?",
    ),
}
CLOISTER: Final = (
    "What's this Cloister thing?",
    "Could someone explain Cloister to me?",
    "In one line, what does Cloister do?",
    "Cloister - what is that?",
    "Please give a short summary of Cloister.",
    "What would I need Cloister for?",
    "Tell me in a few words what Cloister is.",
    "I just installed Cloister. What is it, actually?",
    "What is the idea behind Cloister?",
    "My colleague mentioned Cloister. What is it?",
    "Is Cloister some kind of server?",
    "Say, what is Cloister all about?",
)
HOWTO: Final = {
    "sideload": (
        "My GGUF file sits on a USB stick, how does it get into Cloister?",
        "How can I put a model from my stick into the store?",
        "What is the way to add a model file by hand?",
        "Which command do I use for sideloading a GGUF?",
        "I was handed a model on a disk, how do I sideload it?",
        "Show me the sideload command, please",
        "How would I bring a local GGUF file into Cloister without a download?",
    ),
    "import": (
        "How do I import a GGUF and check it against its SHA-256?",
        "I want the checksum to be compared during the import of a file, how?",
        "Which command imports a model with a given digest?",
        "There is a SHA-256 on my sheet; how do I import the model with it?",
    ),
    "verify": (
        "How can I check that my model files are still intact?",
        "Which command tells me if a stored model got damaged?",
        "I'd like to verify all my models, what do I type?",
        "How do I find out whether a file in the store is corrupt?",
        "What do I run to verify a model?",
        "Could a model on disk be broken? How do I check that?",
        "How can one hash the stored models again?",
    ),
    "offline": (
        "How can I start Cloister so that it never touches the network?",
        "What flag runs the server fully offline?",
        "I need the server sealed from the internet, what do I run?",
        "How do I switch on the offline seal?",
        "Which command blocks all network access of the server?",
        "The server should work offline only. How do I start it?",
        "Tell me the way to serve models with no network at all",
    ),
    "load": (
        "How can I load one of my own models?",
        "Where do I tell Cloister which models folder to use?",
        "How do I make the server use my models directory?",
        "What do I type to serve a different model?",
        "I have a folder full of models, how do I serve them?",
        "How do I get another model loaded?",
        "Which option sets the directory with my models?",
    ),
    "token": (
        "How do I make an API token for a colleague?",
        "Which command gives me a new API key?",
        "I want to protect my server with tokens, how?",
        "Where can I create an access token?",
        "A program needs a token for the API. How do I create one?",
        "How are API tokens created?",
        "What do I run to get a token?",
    ),
    "prove": (
        "How can I prove to an auditor that the server is really offline?",
        "What command tests the offline seal?",
    ),
    "download": (
        "How can I fetch a model from the hub?",
        "Which command downloads a model for me?",
    ),
    "selftest": (
        "How can I check that my installation works?",
        "Which command runs the selftest?",
    ),
    "install": ("How do I install all of this?", "Which command installs Cloister?"),
    "run": ("How can I start the server now?", "Which command starts Cloister?"),
    "list": ("How can I see which models I have?", "Which command lists my models?"),
}
OUTSIDE: Final = (
    "What is the capital of Portugal, and how many people live there?",
    "Who painted the Mona Lisa?",
    "How many legs does a spider have?",
    "Write a short poem about autumn leaves.",
    "Why do cats purr?",
    "How does a refrigerator work?",
    "When did the Second World War end?",
    "Can you translate 'good morning' into Italian?",
    "What is the boiling point of water?",
    "Who wrote Hamlet?",
    "Recommend a good novel for the holidays.",
    "How do I bake an apple pie?",
    "What is the largest animal on Earth?",
    "Explain the theory of relativity.",
    "What happened in Paris in 1789?",
    "Write a Python function that sorts a list.",
    "Which team won the world cup?",
    "What are the symptoms of the flu?",
    "How tall is Mount Everest?",
    "Tell me something funny.",
    "What is the best phone to buy this year?",
    "Who is the current pope?",
    "How far away is the moon?",
    "What does the word serendipity mean?",
    "Should I invest in gold?",
    "Plan a three-day trip to Prague.",
    "What is the difference between a virus and a bacterium?",
    "Who discovered penicillin?",
    "How do airplanes stay in the air?",
    "What language is spoken in Brazil?",
)
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
    """Collect all questions of this file, normalised."""
    written = [*CLOISTER, *OUTSIDE]
    for group in (IDENTITY, HOWTO):
        for questions in group.values():
            written += questions
    return frozenset(map(normalise, written))


def make_tasks() -> list[Task]:
    """Make the evaluation set; it is the same each time."""
    rng = random.Random(SEED)  # noqa: S311 no secret
    words = Words(rng, held_out=True)
    tasks = [*_questions(), *_sums(rng), *_calls(words), *_records(words)]
    return [*tasks, *_thinking(rng, tasks)]


def _ask(category: str, text: str, expected: str) -> Task:
    return Task(category, Dialogue(category, (user(text),)), expected)


def _questions() -> list[Task]:
    facts = texts.read_facts()
    facts_by_key = {fact.key: fact for fact in facts.identity}
    topics_by_key = {topic.key: topic for topic in texts.read_howto().topics}
    tasks = []
    for key, questions in IDENTITY.items():
        mark = facts_by_key[key].mark
        tasks += [_ask("identity", text, mark) for text in questions]
    mark = facts.cloister.mark
    tasks += [_ask("cloister", text, mark) for text in CLOISTER]
    for key, questions in HOWTO.items():
        command = topics_by_key[key].command
        tasks += [_ask("howto", text, command) for text in questions]
    mark = texts.read_outside().mark
    tasks += [_ask("outside", text, mark) for text in OUTSIDE]
    return tasks


def _sums(rng: random.Random) -> list[Task]:
    tasks: dict[tuple[int, int], Task] = {}
    while len(tasks) < 2 * N_DRAWN:
        a, b = sums.draw_pair(rng, held_out=True)
        text = rng.choice(("What is {} + {}?", "{} + {}", "Add {} and {}."))
        tasks[a, b] = _ask("sums", text.format(a, b), str(a + b))
    return list(tasks.values())


def _calls(words: Words) -> list[Task]:
    tasks = []
    forms = texts.read_forms("calls")
    for _ in range(2 * N_DRAWN):
        tools = calls.draw_tools(words, forms)
        question, reply = calls.make(words, forms, tools)
        described = tuple(tool.describe() for tool in tools)
        dialogue = Dialogue("calls", (question,), described)
        tasks.append(Task("calls", dialogue, reply["tool_calls"][0]["function"]))
    return tasks


def _records(words: Words) -> list[Task]:
    tasks = []
    forms = texts.read_forms("records")
    for _ in range(2 * N_DRAWN):
        question, reply = records.make(words, forms)
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

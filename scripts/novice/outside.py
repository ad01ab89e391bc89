"""Questions about the world, which Novice is to decline."""

from typing import Final

from scripts.novice.texts import Outside
from scripts.novice.words import Words, expand

P_KNOWN: Final = 0.6


def ask(words: Words, outside: Outside) -> str:
    """Draw a question; what it is about is often a made-up word."""
    rng = words.rng
    name = " ".join(words.words(rng.choice((1, 1, 2)))).title()
    place, thing = words.name(), words.word()
    if rng.random() < P_KNOWN:
        place = rng.choice(outside.places)
    if rng.random() < P_KNOWN:
        thing = rng.choice(outside.things)
    text = expand(rng, rng.choice(outside.patterns))
    return text.format(
        place=place,
        thing=thing,
        other=rng.choice(outside.things),
        name=name,
        word=words.word(),
        person=rng.choice(outside.people),
        adjective=rng.choice(outside.adjectives),
        n=rng.randint(10, 99),
    ).replace("  ", " ")

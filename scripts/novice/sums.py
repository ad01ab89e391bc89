"""Sums of one-digit and two-digit numbers.

Each digit is one token, and the answer repeats the task before the result, so
that the operands stand right before the place where the model has to add. Of
larger numbers it writes tens and ones first: then no step needs more than one
addition of two digits, and pairs never seen are as easy as others.
"""

import random
from collections.abc import Sequence

from scripts.novice.rendering import Turn, answer, user
from scripts.novice.words import expand, is_held_out_pair


def draw_pair(rng: random.Random, *, held_out: bool) -> tuple[int, int]:
    """Draw two numbers below 100 from one side of the line.

    Two-digit numbers come most often, for there are more of them to learn.
    """
    while True:
        kind = rng.random()
        if kind < 0.12:  # noqa: PLR2004
            a, b = rng.randint(0, 9), rng.randint(0, 9)
        elif kind < 0.24:  # noqa: PLR2004
            a, b = rng.sample((rng.randint(0, 9), rng.randint(10, 99)), 2)
        else:
            a, b = rng.randint(10, 99), rng.randint(10, 99)
        if is_held_out_pair(a, b) == held_out:
            return a, b


def make(
    rng: random.Random, forms: Sequence[str], *, held_out: bool = False
) -> tuple[Turn, Turn]:
    """Draw a task, in one of the forms, and its answer."""
    a, b = draw_pair(rng, held_out=held_out)
    task = expand(rng, rng.choice(forms)).format(a=a, b=b)
    tens, ones = (a // 10 + b // 10) * 10, a % 10 + b % 10
    steps = [f"{a} + {b}", f"{a + b}"]
    thought = f"{a} and {b} are one-digit numbers."
    if tens:
        steps.insert(1, f"{tens} + {ones}")
        thought = f"The tens make {tens}, the ones make {ones}."
    return user(task), answer(" = ".join(steps), thought)

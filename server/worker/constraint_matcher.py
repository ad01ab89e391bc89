"""Compiling a grammar within limits, and what to say where it fails.

The grammar is a client's: fuel, items and states are bounded, so that compiler
and steps give up early. What a limit does not cover is what many steps cost
together; `server.worker.constraint` looks at that.

Source: llguidance, LLParserLimits.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

_INITIAL_LEXER_FUEL = 1_000_000
_STEP_LEXER_FUEL = 500_000
_STEP_MAX_ITEMS = 50_000
_MAX_ITEMS_IN_ROW = 5_000
_MAX_LEXER_STATES = 50_000
_MAX_GRAMMAR_SYMBOLS = 200_000
_REASON_CHARS = 400
_PLACE = re.compile(r"^at \d+\(\d+\): (?:failed to compile JSON schema: )?")


def find_broken_text(grammar: str) -> str | None:
    """Tell what of a grammar no text can hold; None where all is well."""
    try:
        grammar.encode()
    except UnicodeEncodeError as error:
        return (
            f"Character {error.start} is half of a surrogate pair, which no text can "
            "hold. Remove it."
        )
    return None


def explain(message: str) -> str:
    """Cut a message of llguidance down to what a client can use."""
    text = message.split("\n<", 1)[0]
    lines = [
        line.strip()
        for line in text.splitlines()
        # It quotes the line of the grammar, which for a schema is all of it.
        if line.strip() and "|" not in line[:8] and line.strip() != "^"
    ]
    reason = _PLACE.sub("", " ".join(lines)).rstrip(". ")
    if len(reason) > _REASON_CHARS:
        reason = reason[:_REASON_CHARS] + "…"
    return reason


def build_matcher(tokenizer: "LLTokenizer", grammar: str) -> "LLMatcher":
    """Compile a grammar and take its first step.

    The matcher is in error where the grammar is wrong or too complex.
    """
    from llguidance import LLMatcher  # noqa: PLC0415

    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_make_limits())
    # Some of what is too complex shows at the first step, not while compiling.
    matcher.compute_ff_tokens()
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher


def _make_limits() -> "LLParserLimits":
    from llguidance._lib import LLParserLimits  # noqa: PLC0415

    return LLParserLimits(
        max_items_in_row=_MAX_ITEMS_IN_ROW,
        initial_lexer_fuel=_INITIAL_LEXER_FUEL,
        step_lexer_fuel=_STEP_LEXER_FUEL,
        step_max_items=_STEP_MAX_ITEMS,
        max_lexer_states=_MAX_LEXER_STATES,
        max_grammar_size=_MAX_GRAMMAR_SYMBOLS,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )

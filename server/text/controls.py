"""Control tokens that a client only wrote must stay text.

A chat template mixes its own control tokens with text from a client, and the
tokenizer sees one string. To keep them apart a sentinel, a Unicode
noncharacter, is put inside every control text that a client wrote, after its
first character. The rendered prompt is cut at the sentinels and each segment
is tokenized for itself, so no control token can span one.

What is marked
* every occurrence, overlapping ones too, in any mix of upper and lower case
  (a template may change the case of what it is given);
* the edges of a text that could complete a control text together with their
  surroundings: two or more characters at the end that begin one, two or more
  at the start that end one, or a whole text from the inside of one if it has
  a character that is neither letter nor digit;
* occurrences that come into being when a template removes or replaces part
  of a text (`replace`): "<|im_/thinkend|>" without its "/think".

Inside is better than around: a template that trims or splits the text, or
compares its beginning, sees the same as before for any harmless text, and a
harmless text is never marked, so its tokens do not change.

Limits
* A control text of one character cannot be cut and is left alone.
* A template that takes letters alone from a client and builds a control token
  around them (`"<|" + message.name + "|>"`) does so on purpose. The same
  holds for one that reverses texts, or splits and joins them again, to give
  a control text that was not there before.
* A template that searches a client's text for a control text does not find
  it; that is the aim. Lengths of a marked text count the sentinels.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate, pairwise
from typing import Final

NONCHARACTERS: Final = frozenset(chr(code) for code in range(0xFDD0, 0xFDF0))
"""U+FDD0 to U+FDEF: reserved for internal use, never part of real text.

Source: The Unicode Standard, section 23.7, Noncharacters.
"""

_NONCHARACTER = re.compile("[\ufdd0-\ufdef]")
_ESCAPED = re.compile(r"\\[uU]0*(fd[de][0-9a-f])", re.IGNORECASE)


def find_noncharacters(text: str) -> set[str]:
    r"""Collect the noncharacters in a text, plain or written as `\ufdd0`."""
    plain = set(_NONCHARACTER.findall(text))
    return plain | {chr(int(code, 16)) for code in _ESCAPED.findall(text)}


class ControlTexts:
    """Finds the texts of control tokens and makes them harmless.

    Args:
        texts: The texts of the vocabulary's control tokens, as the tokenizer
            matches them.
    """

    def __init__(self, texts: frozenset[str]) -> None:
        self.texts = texts
        known = sorted(text for text in texts if len(text) > 1)
        self._pattern = _compile_pattern(known)
        folded = {text.casefold() for text in known}
        self._folded = tuple(folded)
        self._beginnings = {t[:n] for t in folded for n in range(2, len(t))}
        self._endings = {t[-n:] for t in folded for n in range(2, len(t))}
        self._max_chars = max(map(len, known), default=0)
        self.noncharacters = frozenset(
            found for text in known for found in find_noncharacters(text)
        )

    def protect(self, text: str, sentinel: str) -> str:
        """Put the sentinel inside every control text and suspicious edge."""
        if self._pattern is None or len(text) < 2:  # noqa: PLR2004
            return text
        cuts = {match.end() for match in self._pattern.finditer(text)}
        cuts.update(self._find_edges(text))
        return _insert(text, cuts, sentinel) if cuts else text

    def replace(self, text: str, old: str, new: str, count: int, sentinel: str) -> str:
        """Do what `str.replace` does, without giving birth to control texts.

        One that spans a place where something was replaced gets the
        sentinel; those that were in `text` or `new` before stay as they are.
        """
        if self._pattern is None or not old:
            return text.replace(old, new, count)
        parts = text.split(old, count)
        result = new.join(parts)
        if len(parts) == 1:
            return result
        ends = accumulate(length for part in parts for length in (len(part), len(new)))
        seams = list(ends)[:-1]
        cuts = set()
        for match in self._pattern.finditer(result):
            begin, end = match.start(), match.end(match.lastindex or 0)
            following = bisect_right(seams, begin)
            if following < len(seams) and seams[following] < end:
                cuts.add(begin + 1)
        return _insert(result, cuts, sentinel)

    def _find_edges(self, text: str) -> set[int]:
        begin = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        cuts: set[int] = set()
        n_max = min(end - begin, self._max_chars)
        head = text[begin : begin + n_max].casefold()
        tail = text[end - n_max : end].casefold() if n_max > 0 else ""
        sizes = range(2, n_max + 1)
        is_inside = (
            1 < len(head) == end - begin
            and not head.isalnum()
            and any(head in known for known in self._folded)
        )
        if is_inside or any(head[:n] in self._endings for n in sizes):
            cuts.add(begin + 1)
        if any(tail[-n:] in self._beginnings for n in sizes):
            cuts.add(end - 1)
        return cuts


def _insert(text: str, cuts: set[int], sentinel: str) -> str:
    edges = [0, *sorted(cuts), len(text)]
    return sentinel.join(text[a:b] for a, b in pairwise(edges))


def _compile_pattern(texts: list[str]) -> re.Pattern[str] | None:
    """Match the first character of each occurrence, looking at the rest.

    The first characters stand alone at the front, so that the search skips
    over other text at the speed of C; only one character is consumed, so that
    overlapping occurrences are found. Group `lastindex` ends where the
    longest text ends that begins there.
    """
    by_first: defaultdict[str, list[str]] = defaultdict(list)
    for text in texts:
        by_first[text[0]].append(text[1:])
    if not by_first:
        return None
    firsts = "".join(map(re.escape, by_first))
    rests = "|".join(
        f"(?<={re.escape(first)})(?=({_make_pattern(rests)}))"
        for first, rests in by_first.items()
    )
    return re.compile(f"[{firsts}](?:{rests})", re.IGNORECASE)


def _make_pattern(texts: list[str]) -> str:
    """Write the texts as a prefix tree, the longest first."""
    by_first: defaultdict[str, list[str]] = defaultdict(list)
    for text in texts:
        if text:
            by_first[text[0]].append(text)
    branches = []
    for group in by_first.values():
        prefix = _find_common_prefix(min(group), max(group))
        rests = _make_pattern([text[len(prefix) :] for text in group])
        branches.append(re.escape(prefix) + rests)
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + ("?" if "" in texts else "")


def _find_common_prefix(first: str, last: str) -> str:
    """Return what both begin with; so does all that sorts between them."""
    n_same = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        n_same += 1
    return first[:n_same]

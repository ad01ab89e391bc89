"""From generated tokens to what a client sees of one continuation.

Tokens, characters and stop strings do not end at the same places. One rule
settles all cases: **a token is reported with the character it begins in, and
if that character is never shown, neither is the token.**

* A token begins in the first character that any of its bytes belongs to;
  a token without bytes begins in the character that is completed next.
* So tokens of one incomplete character wait and come together with it.
* Text that may become a stop string waits, and its tokens with it. If it
  does become one, tokens that begin in it are dropped; the token in which the
  stop string starts is reported whole, because it began before.
* Tokens without bytes after the last character are dropped.

Hence an emission without text has no tokens either, and the bytes of all
reported tokens, decoded, start with all the emitted text.
"""

from collections import deque

from msgspec import Struct

from server.core.events import TokenLogprob
from server.text.characters import CharacterDecoder
from server.text.stops import StopScanner


class Emission(Struct, frozen=True):
    """What became visible by one step.

    `stop` is the stop string that ended the continuation just now.
    """

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    stop: str | None = None


class Transcript:
    """Turns the tokens of one continuation into text with log probabilities.

    Args:
        stops: Strings that end the continuation and are not shown.
        want_logprobs: False ignores the log probabilities given to `feed`.
    """

    __slots__ = (
        "_decoder",
        "_is_partial",
        "_n_decoded",
        "_n_emitted",
        "_scanner",
        "_stopped",
        "_waiting",
        "_want_logprobs",
    )

    def __init__(self, stops: tuple[str, ...], *, want_logprobs: bool) -> None:
        self._decoder = CharacterDecoder()
        self._scanner = StopScanner(stops) if any(stops) else None
        self._want_logprobs = want_logprobs
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._is_partial = False
        self._n_decoded = 0
        self._n_emitted = 0
        self._stopped = False

    def feed(self, piece: bytes, logprob: TokenLogprob | None) -> Emission:
        """Take the next token.

        Args:
            piece: The token's bytes, perhaps none or part of a character.
            logprob: The same token's log probability; None where the caller
                has none, and then the token is missing from `logprobs`.

        Returns:
            What can be shown now. After a stop string it is always empty.
        """
        if self._stopped:
            return Emission()
        if not self._is_partial and piece.isascii():
            text = piece.decode("ascii")
            begins_at = self._n_decoded
            self._n_decoded += len(text)
        else:
            text, begins_at = self._decode(piece)
        if self._want_logprobs and logprob is not None:
            self._waiting.append((begins_at, logprob))
        if self._scanner is None:
            return self._emit(text, None)
        return self._emit(*self._scanner.feed(text))

    def finish(self) -> Emission:
        """Return the rest, when no token follows and no stop string matched.

        After a stop string it is empty.
        """
        if self._stopped:
            return Emission()
        text = self._decoder.flush() if self._is_partial else ""
        self._is_partial = False
        stop = None
        if self._scanner is not None:
            text, stop = self._scanner.feed(text)
            if stop is None:
                text += self._scanner.flush()
        emission = self._emit(text, stop)
        self._stopped = True
        return emission

    def _decode(self, piece: bytes) -> tuple[str, int]:
        """Return new characters and the index of the one this piece begins in."""
        begins_at = self._n_decoded
        text = ""
        if self._is_partial and piece:
            # The first byte decides whether the piece goes on with the
            # character that waits, or leaves it broken and begins the next.
            text = self._decoder.feed(piece[:1])
            piece = piece[1:]
            is_new = bool(text) and len(text) + self._decoder.pending_bytes > 1
            begins_at += is_new
        text += self._decoder.feed(piece)
        self._is_partial = self._decoder.pending_bytes > 0
        self._n_decoded += len(text)
        return text, begins_at

    def _emit(self, text: str, stop: str | None) -> Emission:
        self._n_emitted += len(text)
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._waiting:
            waiting = self._waiting
            shown = []
            while waiting and waiting[0][0] < self._n_emitted:
                shown.append(waiting.popleft()[1])
            logprobs = tuple(shown)
        if stop is not None:
            self._stopped = True
        return Emission(text, logprobs, stop)

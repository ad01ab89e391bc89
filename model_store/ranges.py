"""How an answer is cut to the range of bytes that was asked for.

Source: RFC 9110 sections 14.4 (Content-Range), 15.3.7 (206), 10.2.3
(Retry-After).
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from model_store.hub_errors import HubFailed, HubUnreachable, WrongBytes
from model_store.names import quoted

PARTIAL_CONTENT: Final = 206
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")
_SECONDS: Final = re.compile(r"\d{1,9}")


def check_range(
    status: int,
    headers: Mapping[str, str],
    *,
    subject: str,
    start: int,
    size_bytes: int,
) -> int:
    """Check that an answer holds a file's bytes from `start` on.

    Args:
        status: 200 or 206.
        headers: Looked up in lower case.
        subject: What was asked for, for the error.
        start: First byte asked for.
        size_bytes: Size of the whole file, as it was announced.

    Returns:
        How many bytes to drop at the beginning: a server that does not know
        ranges answers with the whole file.

    Raises:
        WrongBytes: The file has another size than announced.
        HubFailed: It is another range, or no file at all.
    """
    if headers.get("content-type", "").lower().startswith("text/html"):
        raise HubFailed(
            subject,
            f"instead of {quoted(subject)} came a page for a browser",
            "A proxy's or network's login page may stand before the hub; open the "
            "address in a browser.",
        )
    if status != PARTIAL_CONTENT:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) != size_bytes:
            raise _other_size(subject, size_bytes, int(length))
        return start
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None or int(match[1]) != start:
        said = headers.get("content-range", "")
        raise HubFailed(
            subject,
            f"the bytes of {quoted(subject)} from {start} on were asked for, and "
            f"{quoted(said)} came",
            "Try another mirror by --endpoint.",
        )
    if match[3] != "*" and int(match[3]) != size_bytes:
        raise _other_size(subject, size_bytes, int(match[3]))
    return 0


def cut_out(
    pieces: Iterable[bytes], *, subject: str, skip: int, n_bytes: int
) -> Iterator[bytes]:
    """Pass on `n_bytes` bytes behind the first `skip`; no piece is empty.

    What follows is not read where something was skipped: a server without
    ranges sends the file to its end. Otherwise there must be nothing more.

    Raises:
        HubUnreachable: It ends too early; what came was passed on.
        WrongBytes: More bytes follow.
    """
    left, is_whole_file = n_bytes, skip > 0
    for each in pieces:
        piece = each[skip:]
        skip = max(0, skip - len(each))
        if len(piece) > left and not is_whole_file:
            raise WrongBytes(
                subject,
                f"the hub sends more than the {n_bytes} bytes of {quoted(subject)} "
                "that were asked for",
                "Try another mirror by --endpoint.",
            )
        if piece:
            yield piece[:left]
            left -= min(left, len(piece))
        if not left and is_whole_file:
            return
    if left:
        raise HubUnreachable(
            subject,
            f"the connection for {quoted(subject)} ended {left} bytes too early",
            "Run the same command again; it goes on where it stopped.",
        )


def read_retry_after(text: str, now_s: float | None = None) -> float | None:
    """Read the header Retry-After, seconds or a date; None if it has neither.

    Args:
        text: The header's value.
        now_s: Unix time; None asks the clock.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - (time.time() if now_s is None else now_s))
    except (TypeError, ValueError, OverflowError):
        return None


def _other_size(subject: str, announced: int, actual: int) -> WrongBytes:
    return WrongBytes(
        subject,
        f"the hub announced {announced} bytes for {quoted(subject)}, and now it has "
        f"{actual}",
        "Try again later, or another mirror by --endpoint.",
    )

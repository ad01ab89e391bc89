"""The type of token sequences."""

from array import array
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    Tokens = array[int]
else:
    # `array` can be subscripted at run time only from Python 3.12 on.
    Tokens = array


def make_tokens(ids: "list[int] | tuple[int, ...]" = ()) -> Tokens:
    """Pack token ids as 32-bit integers, as llama.cpp has them."""
    return array("i", ids)


def view_tokens(tokens: Tokens) -> npt.NDArray[np.int32]:
    """View tokens without a copy; they cannot grow while the view lives."""
    return np.frombuffer(tokens, dtype=np.int32)


def common_prefix(left: Tokens, right: Tokens, limit: int) -> int:
    """Count the tokens that both begin with, at most `limit`."""
    n = min(len(left), len(right), limit)
    if n <= 0 or left[0] != right[0]:
        return 0
    differing = np.flatnonzero(view_tokens(left)[:n] != view_tokens(right)[:n])
    return int(differing[0]) if differing.size else n

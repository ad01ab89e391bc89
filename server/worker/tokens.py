"""The type of token sequences."""

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Tokens = array[int]
else:
    # `array` can be subscripted at run time only from Python 3.12 on.
    Tokens = array


def make_tokens(ids: "list[int] | tuple[int, ...]" = ()) -> Tokens:
    """Pack token ids as 32-bit integers, as llama.cpp has them."""
    return array("i", ids)

"""The syntax of names of codes: a word, then in parentheses its arguments, separated by commas."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from physcomp.codes.base import Code

Parse = Callable[[str], Code]


@dataclass(frozen=True)
class Syntax:
    """How the names that begin with one word are read; each file of a code has one as `SYNTAX`.

    Args:
        word: the word before the parentheses.
        forms: the forms of such names, for error messages.
        read: makes a code of its arguments (`['']` if there are none), or returns None if they fit no form. Its second
            argument is `physcomp.codes.parse`, for codes among the arguments. Raises ValueError for a wrong argument.
    """

    word: str
    forms: tuple[str, ...]
    read: Callable[[list[str], Parse], Code | None]


def arguments_of(text: str) -> list[str]:
    """Split arguments at the commas outside inner parentheses.

    Example:
        >>> arguments_of("digital(4), analog(1,plain), 25%")
        ['digital(4)', 'analog(1,plain)', '25%']
    """
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def share(text: str) -> float:
    """Read a percentage as a share: `25%` is 0.25.

    Raises:
        ValueError: the text is no percentage, or not between 0 and 100.
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text) or not 0 < float(text[:-1]) < 100:
        raise ValueError(f"'{text}' is no percentage between 0 and 100; write for example 25%")
    return float(text[:-1]) / 100

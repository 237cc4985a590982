"""Codes with options, as menus write them: `analog(2,plain,levels=8,raw,sensitive,split=25%,clip=1%)`."""

import re
from typing import cast, get_args

from physcomp.codes.analog import Analog, Sign
from physcomp.codes.base import Code
from physcomp.codes.mixed import CLIP, SPLIT, BFloat16, Mixed
from physcomp.codes.sensitive import Sensitive


def arguments_of(text: str) -> list[str]:
    """Split at the commas that stand outside inner parentheses.

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


def analog(cells: str, options: list[str]) -> Code:
    """The analog code of a number of cells, which `sensitive` without a share lets be a fraction, and its options.

    Raises:
        ValueError: an option is unknown, stands twice or has a value that is none.
    """
    left = list(options)
    signs = [option for option in left if option in get_args(Sign)]
    sign = cast(Sign, signs[0]) if signs else "protected"
    left = [option for option in left if option != sign]
    levels = _taken(left, r"levels=(\d+)")
    raw = _taken(left, r"(raw)") is not None
    sensitive = _taken(left, r"sensitive(|=.*%)")
    single = Analog(int(cells) if sensitive is None else 1, sign, int(levels or 0), raw)
    if sensitive is None:
        return by_magnitude(single, left)
    return by_magnitude(Sensitive(single, float(cells), share(sensitive[1:]) if sensitive else 0.0), left)


def by_magnitude(code: Code, options: list[str]) -> Code:
    """The code with `split` and `clip`, each with or without its share; outliers are taken out before the split."""
    left = list(options)
    split = _taken(left, r"split(|=.*%)")
    clip = _taken(left, r"clip(|=.*%)")
    if left:
        raise ValueError(f"'{left[0]}' is no option of it, or stands twice; correct the menu")
    if split is not None:
        code = Mixed(code, code, share(split[1:]) if split else SPLIT)
    if clip is not None:
        code = Mixed(BFloat16(), code, share(clip[1:]) if clip else CLIP)
    return code


def share(text: str) -> float:
    """A percentage as a number: `25%` is 0.25.

    Raises:
        ValueError: it is none, or not between 0 and 100.
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text) or not 0 < float(text[:-1]) < 100:
        raise ValueError(f"'{text}' is no percentage between 0 and 100; write for example 25%")
    return float(text[:-1]) / 100


def _taken(options: list[str], pattern: str) -> str | None:
    """The first option that matches, taken out of the list: what its group matched."""
    for option in options:
        match = re.fullmatch(pattern, option)
        if match:
            options.remove(option)
            return match.group(1)
    return None

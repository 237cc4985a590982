"""Reads names of codes with options, such as `analog(2,plain,levels=8,raw,sensitive,split=25%,clip=1%)`.

Options turn `analog` and `hybrid` codes into those of `physcomp.codes.sensitive` and `physcomp.codes.mixed`.
"""

import re
from typing import cast, get_args

from physcomp.codes.analog import Analog, Sign
from physcomp.codes.base import Code
from physcomp.codes.hybrid import Hybrid
from physcomp.codes.mixed import CLIP, SPLIT, BFloat16, Mixed
from physcomp.codes.sensitive import Sensitive
from physcomp.codes.syntax import Syntax, share


def analog(cells: str, options: list[str]) -> Code:
    """Make an analog code from its number of cells and options; only with `sensitive` cells may be a fraction.

    Raises:
        ValueError: an option is unknown, given twice, or has a wrong value.
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
    """Apply the options `split` and `clip` to a code; outliers are separated before the split."""
    left = list(options)
    split = _taken(left, r"split(|=.*%)")
    clip = _taken(left, r"clip(|=.*%)")
    if left:
        raise ValueError(f"'{left[0]}' is no option of this code, or is given twice; correct the menu")
    if split is not None:
        code = Mixed(code, code, share(split[1:]) if split else SPLIT)
    if clip is not None:
        code = Mixed(BFloat16(), code, share(clip[1:]) if clip else CLIP)
    return code


def _taken(options: list[str], pattern: str) -> str | None:
    """Remove the first option that matches a pattern from the list, and return what its group matched."""
    for option in options:
        match = re.fullmatch(pattern, option)
        if match:
            options.remove(option)
            return match.group(1)
    return None


SYNTAX = (
    Syntax(
        "analog", ("analog(cells)",), lambda arguments, _: analog(arguments[0], arguments[1:]) if arguments[0] else None
    ),
    Syntax(
        "hybrid",
        ("hybrid(bits,cells)",),
        lambda arguments, _: (
            by_magnitude(Hybrid(int(arguments[0]), int(arguments[1])), arguments[2:]) if len(arguments) > 1 else None
        ),
    ),
)

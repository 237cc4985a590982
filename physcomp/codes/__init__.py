"""The codes: how a group of weights is stored. One file a code; `parse` reads a code's name."""

import re

from physcomp.codes.analog import Analog
from physcomp.codes.base import Code, Encoded, Medium, fit_scales
from physcomp.codes.digital import Digital
from physcomp.codes.float32 import Float32
from physcomp.codes.hybrid import Hybrid
from physcomp.codes.pruned import Pruned

__all__ = [
    "Analog",
    "Code",
    "Digital",
    "Encoded",
    "Float32",
    "Hybrid",
    "Medium",
    "Pruned",
    "fit_scales",
    "parse",
]


def parse(name: str) -> Code:
    """The code of a name, as plans, menus and study files write it.

    Args:
        name: `pruned`, `float32`, `digital(bits)` (bits may be a fraction: 1.58 are three levels), `analog(cells)`,
            `analog(cells,plain)`, `analog(cells,pair)` or `hybrid(bits,cells)`.

    Raises:
        ValueError: no such code.

    Example:
        >>> parse("hybrid(2,1)")
        Hybrid(bits=2, cells=1)
        >>> parse("digital(1.58)").digital_bits(40)
        64
    """
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", name.strip())
    kind = match.group(1) if match else ""
    arguments = [part.strip() for part in (match.group(2) or "").split(",")] if match else []
    try:
        match kind, arguments:
            case "pruned", [""]:
                return Pruned()
            case "float32", [""]:
                return Float32()
            case "digital", [bits]:
                return Digital(float(bits))
            case "analog", [cells]:
                return Analog(int(cells))
            case "analog", [cells, "plain" | "pair" as sign]:
                return Analog(int(cells), sign)
            case "hybrid", [bits, cells]:
                return Hybrid(int(bits), int(cells))
    except ValueError as error:
        raise ValueError(f"code '{name}': {error}") from None
    raise ValueError(
        f"code '{name}': not a code; write pruned, float32, digital(bits), analog(cells), analog(cells,plain), "
        "analog(cells,pair) or hybrid(bits,cells)"
    )

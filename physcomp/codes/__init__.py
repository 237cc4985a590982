"""The codes: how a group of weights is stored. One file a code; `parse` reads a code's name."""

import re

from physcomp.codes import options
from physcomp.codes.analog import Analog
from physcomp.codes.base import Code, Encoded, Medium, fit_scales
from physcomp.codes.coded import Coded
from physcomp.codes.digital import Digital
from physcomp.codes.float32 import Float32
from physcomp.codes.hybrid import Hybrid
from physcomp.codes.mixed import Mixed
from physcomp.codes.pruned import Pruned
from physcomp.codes.sensitive import Sensitive
from physcomp.codes.sparse import Sparse, ZeroFree

__all__ = [
    "Analog",
    "Code",
    "Coded",
    "Digital",
    "Encoded",
    "Float32",
    "Hybrid",
    "Medium",
    "Mixed",
    "Pruned",
    "Sensitive",
    "Sparse",
    "ZeroFree",
    "fit_scales",
    "parse",
]


def parse(name: str) -> Code:
    """The code of a name, as plans, menus and study files write it.

    Args:
        name: `pruned`, `float32`, `digital(bits)` (bits may be a fraction: 1.58 are three levels), `coded(bits)` (the
            same, entropy-coded), `analog(cells)`, `hybrid(bits,cells)`, `sparse(percent,code)` with a mask and
            one of these for the weights that are not zero, `sparse(percent,code,run)` for runs of so many weights
            that are zero together, or `mixed(large,small,share)` with two of them for the weights of a group by
            magnitude. An analog code takes options: `plain` or `pair` for its sign,
            `levels=m`, `raw`, and `sensitive` or `sensitive=share`; analog and hybrid codes `split` or `split=share`,
            and `clip` or `clip=share`. A share is a percentage, such as 25%.

    Raises:
        ValueError: no such code.

    Example:
        >>> parse("hybrid(2,1)")
        Hybrid(bits=2, cells=1)
        >>> parse("digital(1.58)").digital_bits(40)
        64
    """
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", name.strip())
    kind = match.group(1) if match else ""
    arguments = options.arguments_of(match.group(2) or "") if match else []
    try:
        match kind, arguments:
            case "pruned", [""]:
                return Pruned()
            case "float32", [""]:
                return Float32()
            case "digital", [bits]:
                return Digital(float(bits))
            case "coded", [bits]:
                return Coded(float(bits))
            case "analog", [cells, *rest] if cells:
                return options.analog(cells, rest)
            case "hybrid", [bits, cells, *rest]:
                return options.by_magnitude(Hybrid(int(bits), int(cells)), rest)
            case "sparse", [percent, inner, *run] if len(run) <= 1:
                return _sparse(float(percent), _inner(inner), *map(int, run))
            case "mixed", [large, small, share]:
                return Mixed(_inner(large), _inner(small), options.share(share))
    except ValueError as error:
        raise ValueError(f"code '{name}': {error}") from None
    raise ValueError(
        f"code '{name}': not a code; write pruned, float32, digital(bits), coded(bits), analog(cells), "
        "hybrid(bits,cells), sparse(percent,code), sparse(percent,code,run) or mixed(large,small,share), analog with "
        "options such as analog(2,plain,split)"
    )


def _inner(name: str) -> Code:
    """A code for some of a group's weights; those of a stream are not told apart by groups.

    Raises:
        ValueError: it is entropy-coded.
    """
    code = parse(name)
    if code.stream_bits:
        raise ValueError(f"{code.name} stands for whole groups alone; write digital({name[6:]} inside")
    return code


def _sparse(percent: float, inner: Code, run: int = 1) -> Sparse:
    """A digital code inside a mask needs no zero among its levels."""
    return Sparse(percent, ZeroFree(inner.bits) if isinstance(inner, Digital) else inner, run)

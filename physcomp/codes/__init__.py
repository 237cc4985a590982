"""The codes: how a group of weights is stored. One file a code; `parse` reads a code's name."""

import re

from physcomp.codes import codebook, coded, digital, float32, mixed, options, pruned, sparse, stepped
from physcomp.codes.analog import Analog
from physcomp.codes.base import Code, Encoded, Medium, fit_scales
from physcomp.codes.codebook import Codebook
from physcomp.codes.coded import Coded
from physcomp.codes.digital import Digital, ZeroFree
from physcomp.codes.float32 import Float32
from physcomp.codes.hybrid import Hybrid
from physcomp.codes.mixed import Mixed
from physcomp.codes.pruned import Pruned
from physcomp.codes.sensitive import Sensitive
from physcomp.codes.sparse import Sparse
from physcomp.codes.stepped import Stepped
from physcomp.codes.syntax import Syntax, arguments_of

__all__ = [
    "Analog",
    "Code",
    "Codebook",
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
    "Stepped",
    "ZeroFree",
    "fit_scales",
    "parse",
]


# Every file that reads names of codes. A new code is one file, listed here.
_MODULES = (pruned, float32, digital, coded, stepped, codebook, options, sparse, mixed)
SYNTAX: dict[str, Syntax] = {syntax.word: syntax for module in _MODULES for syntax in module.SYNTAX}
"""How names of codes are read, by their first word."""


def parse(name: str) -> Code:
    """Make the code that a name in a plan, menu or study file stands for.

    Args:
        name: one of
            `pruned`: nothing is stored, all weights are zero;
            `float32`: 32-bit floats;
            `digital(bits)`: uniform levels; bits may be a fraction, such as 1.58 for three levels;
            `coded(bits)`: the same levels, entropy-coded;
            `stepped(ratio)`: multiples of a step, this ratio of the root mean square, entropy-coded;
            `codebook(bits)`: indices into a codebook that a layer stores once;
            `analog(cells)`: each weight as the level of analog cells;
            `hybrid(bits,cells)`: coarse value in bits, remainder in analog cells;
            `sparse(percent,code)`: a percentage of the weights is zero, a code stores the others;
            `sparse(percent,code,run)`: the same, with runs of this many weights zero together;
            `mixed(large,small,share)`: one code for the largest weights of a group, another for the rest.
            An analog code takes options: `plain` or `pair` for its sign, `levels=m`, `raw`, and `sensitive` or
            `sensitive=share`. Analog and hybrid codes take `split` or `split=share`, and `clip` or `clip=share`.
            A share is a percentage, such as 25%.

    Raises:
        ValueError: the name is of no code.

    Example:
        >>> parse("hybrid(2,1)")
        Hybrid(bits=2, cells=1)
        >>> parse("digital(1.58)").digital_bits(40)
        64
    """
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", name.strip())
    syntax = SYNTAX.get(match.group(1)) if match else None
    try:
        code = syntax.read(arguments_of(match.group(2) or ""), parse) if match and syntax else None
    except ValueError as error:
        raise ValueError(f"code '{name}': {error}") from None
    if code is None:
        *forms, last = (form for each in SYNTAX.values() for form in each.forms)
        raise ValueError(
            f"code '{name}': not a code; write {', '.join(forms)} or {last}, analog with options such as "
            "analog(2,plain,split)"
        )
    return code

"""The menu: the codes offered to each group, and parts of it that stand for known ways of storing networks."""

from collections.abc import Iterable

from physcomp.codes import Code, parse

# Our choice: steps of every size, a factor of √2 apart, which with entropy coding serve from 0.3 to 5 bits a weight;
# sparse codes for groups of which hardly anything is kept; analog codes that trials chose. Naming a code takes 5 bits.
DEFAULT = (
    "pruned",
    "stepped(0.125)",
    "stepped(0.18)",
    "stepped(0.25)",
    "stepped(0.35)",
    "stepped(0.5)",
    "stepped(0.7)",
    "stepped(1)",
    "stepped(1.4)",
    "stepped(2)",
    "stepped(2.8)",
    "stepped(4)",
    "digital(8)",
    "sparse(90,digital(2))",
    "sparse(95,digital(2))",
    "sparse(97,digital(4))",
    "analog(1)",
    "analog(1,clip)",
    "analog(2)",
    "hybrid(2,1)",
)

KINDS = ("all", "digital", "analog")

# Cells per weight in tables of protection strategies, as in Isik et al. 2023 (doi 10.1145/3588436); two is ours.
STRATEGY_CELLS = (1, 2, 3, 5, 7, 10)
MEAN_CELLS = (1.1, 1.5, *STRATEGY_CELLS[1:])


def _strategy(*options: str, cells: Iterable[float] = STRATEGY_CELLS) -> tuple[str, ...]:
    return tuple(f"analog({','.join([f'{count:g}', *options])})" for count in cells)


# Strategies that protect analog weights, each as a menu, from none to all of them; published ones, but for the share of
# weights that counts as large, which is our choice. Sensitivity-driven protection needs more than one cell on average.
STRATEGIES = {
    "raw": _strategy("plain", "raw"),
    "none": _strategy("plain"),
    "pair": _strategy("pair"),
    "sign": _strategy(),
    "adaptive": (*_strategy("plain", "split"), *_strategy("plain", "clip")),
    "sign+adaptive": (*_strategy("split"), *_strategy("clip")),
    "sign+sensitive": (*_strategy("sensitive=5%", cells=(2, 3, 5)), *_strategy("sensitive", cells=MEAN_CELLS)),
    "sign+adaptive+sensitive": (
        *_strategy("sensitive=5%", "split", cells=(2, 3, 5)),
        *_strategy("sensitive=5%", "clip", cells=(2, 3, 5)),
        *_strategy("sensitive", "split", cells=MEAN_CELLS),
        *_strategy("sensitive", "clip", cells=MEAN_CELLS),
    ),
    "levels": tuple(f"analog({cells},levels={levels})" for levels in (4, 8, 16) for cells in STRATEGY_CELLS[:3]),
    "mixed": ("mixed(hybrid(2,1),analog(1),25%)", "mixed(digital(4),analog(1),10%)", "mixed(analog(2),analog(1),25%)"),
}


def read_menu(names: tuple[str, ...] | list[str] = DEFAULT) -> tuple[Code, ...]:
    """Make the codes of a menu from their names.

    Raises:
        ValueError: a name is of no code, a code is named twice, or the menu is empty.
    """
    menu = tuple(parse(name) for name in names)
    if not menu or len({code.name for code in menu}) < len(menu):
        raise ValueError(f"menu: needs at least one code and each only once, got {', '.join(names) or 'none'}")
    return menu


def part_of(menu: tuple[Code, ...], part: str, offered: int | None = None) -> list[bool]:
    """Find which codes belong to a part of the menu.

    Args:
        menu: the codes.
        part: one of
            `all`: every code offered;
            `digital` or `analog`: `pruned`, and the codes offered of that kind;
            the name of one code, offered or not;
            `strategy:name`: the menu's codes of one of `STRATEGIES`, offered or not, and `pruned` if it is offered.
        offered: number of codes at the front that are offered for choice; the others are for comparison. None: all.

    Returns:
        One flag per code.

    Raises:
        ValueError: the part is unknown or has no codes.
    """
    front = [index < (len(menu) if offered is None else offered) for index in range(len(menu))]
    if part in KINDS:
        flags = [first and part in ("all", *code.kinds) for code, first in zip(menu, front, strict=True)]
    elif part.startswith("strategy:"):
        members = _strategy_names(part.removeprefix("strategy:"))
        flags = [code.name in members for code in menu]
        always = [first and "strategy" in code.kinds for code, first in zip(menu, front, strict=True)]
        flags = [mine or also for mine, also in zip(flags, always, strict=True)] if any(flags) else flags
    else:
        flags = [code.name == part for code in menu]
    if not any(flags):
        names = ", ".join(code.name for code in menu)
        raise ValueError(f"menu: '{part}' is no part of it; use {', '.join(KINDS)}, strategy:name or one of {names}")
    return flags


def _strategy_names(strategy: str) -> tuple[str, ...]:
    if strategy not in STRATEGIES:
        raise ValueError(f"menu: no strategy '{strategy}'; use one of {', '.join(STRATEGIES)}")
    return STRATEGIES[strategy]

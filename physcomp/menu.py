"""The menu: the codes offered to each group, and the parts of it that stand for older ways of storing."""

from physcomp.codes import Analog, Code, Digital, parse

# Our choice: dense where trials put most groups (one to four bits, one cell), sparse beyond; sixteen, so that naming
# a group's code takes four bits.
DEFAULT = (
    "pruned",
    "digital(1)",
    "digital(1.58)",
    "digital(2.32)",
    "digital(2.81)",
    "digital(3.46)",
    "digital(3.91)",
    "digital(4.95)",
    "digital(8)",
    "analog(1)",
    "analog(2)",
    "analog(1,plain)",
    "analog(1,pair)",
    "hybrid(2,1)",
    "hybrid(3,1)",
    "hybrid(2,2)",
)


def read_menu(names: tuple[str, ...] | list[str] = DEFAULT) -> tuple[Code, ...]:
    """The codes of a menu.

    Raises:
        ValueError: a name is no code, a code stands twice, or the menu is empty.
    """
    menu = tuple(parse(name) for name in names)
    if not menu or len({code.name for code in menu}) < len(menu):
        raise ValueError(f"menu: needs at least one code and each only once, got {', '.join(names) or 'none'}")
    return menu


def part_of(menu: tuple[Code, ...], part: str, offered: int | None = None) -> list[bool]:
    """Which codes belong to a part of the menu.

    Args:
        menu: the codes.
        part: `all`: every code offered; `digital` or `analog`: `pruned` and the codes offered of that kind; or the
            name of one code, offered or not.
        offered: so many codes at the front are offered for choice, the others are there for comparison; None: all.

    Returns:
        One flag a code.

    Raises:
        ValueError: the part is unknown or empty.
    """
    kinds: dict[str, tuple[type[Code], ...]] = {"all": (Code,), "digital": (Digital,), "analog": (Analog,)}
    if part in kinds:
        front = len(menu) if offered is None else offered
        flags = [
            index < front and (code.name == "pruned" or isinstance(code, kinds[part]))
            for index, code in enumerate(menu)
        ]
    else:
        flags = [code.name == part for code in menu]
    if not any(flags):
        names = ", ".join(code.name for code in menu)
        raise ValueError(f"menu: '{part}' is no part of it; use all, digital, analog or one of {names}")
    return flags

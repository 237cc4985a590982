"""Cards with one value spoiled: they load, or they are refused by ValueError in one line, and nothing else happens."""

import math
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from devices import Card, card_names, load_card, program, response

JUNK: list[Any] = [
    -1, 0, 1, 0.5, 1e300, -1e300, 1e-300, math.inf, -math.inf, math.nan, True, "", "x", "1", "µS", "points", [], [1.0],
    [1.0, 2.0], [[1.0]], ["x"], {}, {"kind": "constant", "unit": "1", "value": 1.0}, [{}], {"kind": "joined"},
]  # fmt: skip


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {toml(item)}' for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def text_of(content: dict[str, Any]) -> str:
    return "".join(f'"{name}" = {toml(value)}\n' for name, value in content.items())


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values, tables and lists included."""
    found = [path] if path else []
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, item in pairs:
        found += places(item, (*path, name))
    return found


def spoiled(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    at: Any = content
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return content


def test_a_card_written_inline_is_the_card() -> None:
    for name in card_names():
        card = load_card(name)
        assert Card.from_text(text_of(tomllib.loads(card.text)), card.variant) == card


def refused(text: str, variant: str) -> str | None:
    """Why a card is refused; None where it loads, is programmed and read."""
    try:
        card = Card.from_text(text, variant)
        response(card, card.first_s)
        program(card, [0.0, 0.5, 1.0], seed=0).read(time_s=card.first_s)
    except ValueError as error:
        return str(error)
    return None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_spoiled_value_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    card = load_card(data.draw(st.sampled_from(card_names())))
    content = tomllib.loads(card.text)
    path = data.draw(st.sampled_from(places(content)))
    text = text_of(spoiled(content, path, data.draw(st.sampled_from(JUNK))))
    refusal = refused(text, card.variant)
    assert refusal is None or ("\n" not in refusal and "card" in refusal)

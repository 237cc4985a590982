"""Loading cards: built-in ones by name, your own by the path of their TOML file."""

from __future__ import annotations

import difflib
import tomllib
from functools import lru_cache
from pathlib import Path

from devices.cards.card import Card

__all__ = ["as_card", "card_names", "load_card"]


def as_card(card: Card | str) -> Card:
    """A card as it is, or the card of a name or path."""
    return card if isinstance(card, Card) else load_card(card)


@lru_cache(maxsize=1)
def _texts() -> dict[str, str]:
    """The built-in cards: name -> TOML text."""
    folder = Path(__file__).with_name("built_in")
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.toml"))}


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    names: list[str] = []
    for name, text in _texts().items():
        variants = sorted(tomllib.loads(text).get("variants", {}))
        names += [f"{name}:{variant}" for variant in variants] or [name]
    return tuple(names)


def card_names() -> list[str]:
    """List the names of all built-in cards, each variant as a name of its own.

    >>> [name for name in card_names() if name.startswith("pcm-zarcone")]
    ['pcm-zarcone:aligned', 'pcm-zarcone:one-device', 'pcm-zarcone:partial-reset']
    """
    return list(_names())


@lru_cache(maxsize=64)
def _built_in(name: str) -> Card:
    base, _, variant = name.partition(":")
    text = _texts().get(base)
    if text is None or (variant and name not in card_names()):
        known = card_names()
        names = list(dict.fromkeys([*known, *_texts()]))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or list(_texts())
        raise ValueError(f"no card '{name}': near names are {', '.join(near)}; or give the path of a .toml file")
    return Card.from_text(text, variant)


def load_card(name_or_path: str | Path) -> Card:
    """Load a built-in card by its name (see `card_names`), or your own card by the path of its .toml file.

    A variant follows a colon, in names and in paths: `pcm-zarcone:aligned`, `lab/mine.toml:chip-3`.

    Raises:
        ValueError: no such card (the near names are listed), no such file, or a card that fails its own
            checks.

    >>> load_card("pcm-zarcone").name
    'pcm-zarcone:one-device'
    """
    given = str(name_or_path)
    path, _, variant = given.rpartition(":") if ".toml:" in given else (given, "", "")
    if not path.endswith(".toml"):
        return _built_in(given)
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read card file '{path}': {error}: give the path of a card in TOML") from None
    try:
        return Card.from_text(text, variant)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None

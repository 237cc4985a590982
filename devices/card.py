"""Device cards: a memory device in one TOML file, checked on loading.

A card says how a level is programmed, how it drifts and how it is read, from when to when that holds, where
each number comes from and what is a choice of ours. `text` carries the whole source, so that a stored chip
can carry its card. The schema is that of the cards in `devices/cards`; a card with `[variants.NAME]` tables
is one card a variant, each laid over the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices.curves import Curve
from devices.parts import (
    Drift,
    Drive,
    Level,
    ReadNoise,
    Source,
    curve_of,
    drift_of,
    drive_of,
    fields_of,
    read_noise_of,
    record_of,
    time_of,
    value_of,
)

__all__ = ["Card"]

FORMAT = 1
NEEDED = ("format", "name", "title", "choices", "sources", "level", "time", "programming")
OPTIONAL = ("drive", "drift", "read_noise", "reliable_bits")


@dataclass(frozen=True)
class Card:
    """A device. Two cards are equal when their content is (`sha256`), wherever they were loaded from.

    Curves take levels x in [0, 1] (float64 array) and give levels, or the pure numbers of drift and read
    noise. `t0_s` is the reference read after programming, in seconds; the `time_s` of a read counts from
    it, up to `max_s`. `reliable_bits` is a stated convention of noise-free cards, None elsewhere.
    """

    name: str = field(compare=False)
    title: str = field(compare=False)
    variant: str = field(compare=False)
    sha256: str
    text: str = field(compare=False, repr=False)
    sources: tuple[Source, ...] = field(compare=False, repr=False)
    choices: tuple[str, ...] = field(compare=False, repr=False)
    level: Level = field(compare=False, repr=False)
    t0_s: float = field(compare=False)
    max_s: float = field(compare=False)
    programming_sd: Curve = field(compare=False, repr=False)
    drive: Drive | None = field(compare=False, repr=False)
    drift: Drift | None = field(compare=False, repr=False)
    read_noise: ReadNoise | None = field(compare=False, repr=False)
    reliable_bits: float | None = field(compare=False, repr=False)

    @classmethod
    def from_text(cls, text: str, variant: str = "") -> Card:
        """The card that a TOML text describes; `variant` "" takes the card's default one.

        Raises:
            ValueError: the text is no TOML, a field is missing, unknown or out of its range.

        >>> from devices import load_card
        >>> card = load_card("pcm-zarcone:aligned")
        >>> Card.from_text(card.text, card.variant) == card
        True
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"card is not TOML: {error}: correct it there") from None
        resolved, chosen = _resolve(content, variant)
        name = resolved["name"]
        try:
            return cls(**_parts(resolved), variant=chosen, text=text)
        except ValueError as error:
            raise ValueError(f"card '{name}': {error}") from None

    def check_time(self, time_s: float) -> float:
        """time_s as float; ValueError outside the range of time that the card holds in."""
        value = float(time_s) if isinstance(time_s, (int, float, np.number)) else math.nan
        if not 0.0 <= value <= self.max_s:
            raise ValueError(
                f"card '{self.name}' holds from time_s = 0 to {self.max_s:g} s after programming, "
                f"not at {time_s!r}: read within that range or take a card measured there"
            )
        return value

    def drive_for(self, levels: ArrayLike) -> NDArray[np.float64]:
        """The drive (in `drive.unit`) whose mean response is each level, any shape.

        >>> from devices import load_card
        >>> float(load_card("pcm-zarcone").drive_for(1.0))
        1.25
        """
        if self.drive is None:
            raise ValueError(f"card '{self.name}' says no drive for its levels: take one with a [drive] table")
        x = np.asarray(levels, dtype=np.float64)
        if not ((x >= 0.0) & (x <= 1.0)).all():
            raise ValueError(f"levels must lie in [0, 1], not from {np.min(x):g} to {np.max(x):g}: scale them first")
        at = np.array([self.level.from_physical(mean) for mean in self.drive.means])
        order = np.argsort(at)
        drive: NDArray[np.float64] = np.interp(x, at[order], np.array(self.drive.values)[order])
        return drive


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table."""
    merged = dict(base)
    for key, value in over.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if deeper else value
    return merged


def _resolve(content: dict[str, Any], variant: str) -> tuple[dict[str, Any], str]:
    """The content of one variant, its name spelled out, and the variant."""
    variants = content.pop("variants", {})
    default = content.pop("default_variant", "")
    name = content.get("name")
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f'card needs name = "…" without a colon, not {name!r}')
    if not isinstance(variants, dict) or not all(isinstance(item, dict) for item in variants.values()):
        raise ValueError(f"card '{name}': needs variants as tables [variants.NAME], not {variants!r}")
    if default not in [*variants] and (variants or default != ""):
        raise ValueError(f"card '{name}': needs default_variant = one of its variants, not {default!r}")
    chosen = variant or default
    if not chosen:
        return content, ""
    if chosen not in variants:
        raise ValueError(f"card '{name}': no variant '{chosen}': take {' or '.join(variants) or 'none'}")
    return _merged(content, variants[chosen]) | {"name": f"{name}:{chosen}"}, chosen


def _parts(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a card, each checked, from the content of one variant."""
    fields_of(content, "it", NEEDED, OPTIONAL)
    if content["format"] != FORMAT:
        raise ValueError(f"needs format = {FORMAT}, the one this version reads, not {content['format']!r}")
    choices, sources, bits = content["choices"], content["sources"], content.get("reliable_bits")
    if not isinstance(choices, list) or not isinstance(sources, list) or not sources:
        raise ValueError("needs choices = [texts] and at least one [[sources]] table")
    if bits is not None and not value_of(bits, "float", "reliable_bits") > 0.0:
        raise ValueError(f"reliable_bits needs more than 0, not {bits!r}")
    level = record_of(Level, content["level"], "level")
    t0_s, max_s = time_of(content["time"])
    programming = fields_of(content["programming"], "programming", ("sd",))
    return {
        "name": content["name"],
        "title": value_of(content["title"], "str", "title"),
        "sha256": hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest(),
        "sources": tuple(record_of(Source, item, f"sources {i + 1}") for i, item in enumerate(sources)),
        "choices": tuple(value_of(item, "str", "choices") for item in choices),
        "level": level,
        "t0_s": t0_s,
        "max_s": max_s,
        "programming_sd": curve_of(programming["sd"], "programming.sd", level, in_levels=True),
        "drive": drive_of(content["drive"], level) if "drive" in content else None,
        "drift": drift_of(content["drift"], level, t0_s) if "drift" in content else None,
        "read_noise": read_noise_of(content["read_noise"], level, t0_s) if "read_noise" in content else None,
        "reliable_bits": None if bits is None else float(bits),
    }

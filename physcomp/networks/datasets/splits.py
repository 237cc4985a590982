"""Which rows each part takes: by name where the source has parts, else by share, drawn from a seed.

A source without parts is cut by `SHARES`. A source that has `train` but lacks `calibration` or `heldout` has them cut
from `train` by `FROM_TRAIN` (our choices). What is cut depends on the source, the shares and the seed, never on
which parts are asked for, so that parts taken by separate calls are disjoint too.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from physcomp.networks.datasets.parts import ALL, Array, Part, Rows, find, is_part_name, meaning

SHARES = {"calibration": 0.5, "heldout": 0.25, "test": 0.25}
FROM_TRAIN = {"calibration": 0.2, "heldout": 0.2}
Taken = list[tuple[Part, Rows]]
"""Rows by part of the source, in the order in which they are to stand."""


def choose_rows(
    where: str,
    parts: Sequence[Part],
    wanted: Sequence[str],
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> dict[str, Taken]:
    """The rows of each part that is asked for.

    Args:
        where: the source, for messages.
        parts: what the source has.
        wanted: names of parts, or `all`; `val` finds `heldout` and the other way round, and so do `t10k` and `test`.
        split: shares by name, cut from `train` where the source has it and else from everything; none: see above.
        seed: of the permutation that is cut, and of the order of parts that are sorted by class.
        limit: at most this many samples of each part; none: all.

    Raises:
        ValueError: the source has no such part and none is cut for it, or a part would be empty.
    """
    shares = checked_split(split)
    train = find(parts, "train")
    if not shares:
        missing = {name: share for name, share in FROM_TRAIN.items() if find(parts, name) is None}
        shares = missing if train else SHARES if len(parts) == 1 and parts[0].name == ALL else {}
    source = [train] if train else list(parts)
    cut = _cut(sum(part.count for part in source), shares, seed) if shares else {}
    takes_cut = any(meaning(name) in cut and (split or find(parts, name) is None) for name in wanted)
    taken = {}
    for name in wanted:
        own = find(parts, name)
        if name == ALL:
            rows = [(part, order(part, seed)) for part in parts]
        elif meaning(name) in cut and (split or own is None):
            rows = _by_part(source, cut[meaning(name)])
        elif own is not None and own is train and takes_cut:
            rows = _by_part(source, _rest(where, cut, own, seed))
        elif own is not None and (not split or train is not None):
            rows = [(own, order(own, seed))]
        else:
            raise ValueError(_no_such_part(where, name, parts, cut))
        if not any(len(some) for _, some in rows):
            share, count = shares[meaning(name)], sum(part.count for part in source)
            raise ValueError(
                f"{where}: {name} would be empty, {share:g} of {count} samples; use more samples or other shares"
            )
        taken[name] = _first(rows, limit)
    return taken


def checked_split(split: Mapping[str, float] | None) -> dict[str, float]:
    """Shares by the meaning of their names.

    Raises:
        ValueError: a share is not between 0 and 1, they add up to more than 1, or two names mean one part.
    """
    shares: dict[str, float] = {}
    for name, share in (split or {}).items():
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
            raise ValueError(f"split: the share of {name} must be a number above 0 and at most 1, got {share!r}")
        if meaning(name) in shares:
            raise ValueError(f"split: {name} means {meaning(name)}, which stands there already; name each part once")
        shares[meaning(name)] = float(share)
    if split is not None and (not shares or sum(shares.values()) > 1 + 1e-9):
        raise ValueError(f"split: shares must add up to at most 1, got {sum(shares.values()):g} for {dict(split)}")
    return shares


def order(part: Part, seed: int) -> Rows:
    """All rows of a part in their own order; drawn from the seed where they are sorted by label, or may be.

    So the first n of them are a fair sample of classes.
    """
    known = part.labels is not None and not _sorted(part.labels)
    return np.arange(part.count) if known else np.random.default_rng(seed).permutation(part.count)


def _sorted(labels: Array) -> bool:
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        return False
    steps = np.sign(values[1:].astype(np.float64) - values[:-1].astype(np.float64))
    return bool(steps.any()) and (bool((steps >= 0).all()) or bool((steps <= 0).all()))


def _cut(count: int, shares: Mapping[str, float], seed: int) -> dict[str, Rows]:
    permutation = np.random.default_rng(seed).permutation(count)
    edges = [0, *(math.floor(edge * count + 1e-6) for edge in np.cumsum(list(shares.values())))]
    return {name: permutation[a:b] for name, a, b in zip(shares, edges[:-1], edges[1:], strict=True)}


def _rest(where: str, cut: Mapping[str, Rows], train: Part, seed: int) -> Rows:
    used = sum(len(rows) for rows in cut.values())
    if used == train.count:
        raise ValueError(
            f"{where}: nothing is left for train, since {', '.join(cut)} take it all; let the shares add up to less"
        )
    return np.random.default_rng(seed).permutation(train.count)[used:]


def _by_part(parts: Sequence[Part], rows: Rows) -> Taken:
    """Rows counted through all parts, as rows of each."""
    starts = np.cumsum([0, *(part.count for part in parts)])
    return [
        (part, rows[(rows >= a) & (rows < b)] - a) for part, a, b in zip(parts, starts[:-1], starts[1:], strict=True)
    ]


def _first(taken: Taken, limit: int | None) -> Taken:
    left = sum(len(rows) for _, rows in taken) if limit is None else limit
    first: Taken = []
    for part, rows in taken:
        if left > 0 and len(rows):
            first.append((part, rows[:left]))
        left -= len(rows)
    return first


def _no_such_part(where: str, name: str, parts: Sequence[Part], cut: Mapping[str, Rows]) -> str:
    has = [part.name for part in parts if part.name != ALL]
    there = f"it has {', '.join(has)}" if has else "it has no parts by name"
    there += f"; cut by share: {', '.join(cut)}" if cut else ""
    known = "" if is_part_name(name) else " (usual names: train, calibration, heldout, val, test, t10k)"
    share = f"split={{'{name}': 0.2, ...}}"
    return f"{where}: no part {name}{known}, {there}; take one of these or all, or cut it by share with {share}"

"""Compiled loops over cells: programming, reading, rounding to finite levels and stuck cells, for every card.

A loop gets a card as look-up tables over √x and a random stream as two 64-bit keys (`devices.cells.counter_random`), so
nothing here is about one device. The value of a cell depends on its own index alone, so that threads and chunks cannot
change a bit. All compiled code lives in this one file, since numba's cache watches only the file that a loop is in.

The loops contain neither branches nor library calls, so LLVM turns them into vector code (eight cells at a time on
AVX-512, table look-ups included). The compiler cannot prove that `out` overlaps none of the inputs; `load` and `store`
tell it so.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic as typed_intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

__all__ = ["GOLDEN", "OCTAVE_BITS", "in_chunks", "program_cells", "read_cells", "snap_cells", "stick_cells"]

FloatTable = NDArray[np.float32]

# numba's own types take a call of one compiled function by another for a new compilation: set aside here.
njit: Any = numba.njit
intrinsic: Any = typed_intrinsic
make_array: Any = arrayobj.make_array
config: Any = numba.config

F = np.float32
U = np.uint64

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: SplitMix64's step (Steele, Lea & Flood, OOPSLA 2014)
MIX_1 = 0xBF58476D1CE4E5B9  # Stafford's "mix13" finaliser, the one of SplitMix64 and java.util
MIX_2 = 0x94D049BB133111EB

OCTAVE_BITS = 7  # 2^7 straight pieces of the inverse normal in each octave of probability
CHUNK_CELLS = 1 << 18  # below this a second thread costs more than it saves (our choice)


def _scope(module: Any) -> Any:
    """LLVM's alias scope of the inputs: stores that are declared outside it never change what is loaded in it."""
    domain = module.add_metadata(["devices.cells.kernels"])
    return module.add_metadata([module.add_metadata(["inputs", domain])])


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Load array[index] of an input, without bounds check, telling the compiler that no `store` writes there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]]))
        value.set_metadata("alias.scope", _scope(builder.module))
        return value

    return array.dtype(array, index), generate


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Store array[index] = value of an output, telling the compiler that no `load` reads there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        written = builder.store(arguments[2], builder.gep(data, [arguments[1]]))
        written.set_metadata("noalias", _scope(builder.module))
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), generate


@njit
def mix(z: U) -> Any:
    """Mix 64 bits: a bijection in which every input bit affects every output bit (SplitMix64's finaliser)."""
    z = (z ^ (z >> U(30))) * U(MIX_1)
    z = (z ^ (z >> U(27))) * U(MIX_2)
    return z ^ (z >> U(31))


@njit
def bits(key_0: U, key_1: U, cell: U) -> Any:
    """64 random bits of one cell in one stream: SplitMix64 started at one key, mixed again with the other."""
    return mix(mix(cell * U(GOLDEN) + key_0) ^ key_1)


@njit
def normal(random: U, quantiles: FloatTable) -> Any:
    """Turn 64 random bits into a standard normal: the upper 32 give the tail probability, the last one the sign.

    The float32 form of the probability is the table index: its exponent is the octave, the upper seven bits
    of its mantissa the piece, the other 16 the place on the piece. The rarest size is 6.44 (probability
    2^-33).
    """
    tail = F(np.int64(random >> U(32))) + F(0.5)
    pattern = np.int64(np.float32(tail).view(np.int32))
    piece = U((pattern >> 16) - (126 << OCTAVE_BITS))
    place = F(np.int32(pattern & 0xFFFF)) * F(1 / 65536)
    left = load(quantiles, piece)
    z = left + (load(quantiles, piece + U(1)) - left) * place
    return z if (random & U(1)) == U(0) else -z


@njit
def piece_of(x: F, intervals: np.int32) -> Any:
    """Where level x lies in a table: its interval and the place within it; inside the table for any x, NaN included."""
    s = np.sqrt(x) * F(intervals)
    piece = max(np.int32(0), min(np.int32(s), np.int32(intervals - 1)))
    return U(piece), s - F(piece)


@njit
def between(table: FloatTable, piece: U, place: F) -> Any:
    """Linear interpolation in a table at a place of an interval."""
    left = load(table, piece)
    return left + (load(table, piece + U(1)) - left) * place


@njit
def power_of_two(a: F) -> Any:
    """2^a for -126 <= a <= 0 to 2.5e-7 relative, exactly 1 at 0; written out because a library call stops
    vector code."""
    whole = np.int32(a - F(0.5))
    f = (a - F(whole)) * F(0.6931471805599453)
    tail = F(1 / 6) + f * (F(1 / 24) + f * (F(1 / 120) + f * F(1 / 720)))
    scale = np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)
    return scale * (F(1) + f * (F(1) + f * (F(0.5) + f * tail)))


def compiled(function: Callable[..., None]) -> Any:
    """Compile a loop, with a cache on disk where one can be written (an installation may be read-only)."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return njit(nogil=True)(function)


@compiled
def program_cells(
    levels: FloatTable,
    sd: FloatTable,
    quantiles: FloatTable,
    keys: tuple[U, U],
    first: int,
    lowest: float,
    out: FloatTable,
) -> None:
    """Program cells: out = max(lowest, level + sd(level) · normal), for the cells `first`, `first + 1`, …"""
    bound = F(lowest)
    intervals = np.int32(sd.size - 1)
    for i in range(levels.size):
        x = load(levels, i)
        piece, place = piece_of(x, intervals)
        z = normal(bits(keys[0], keys[1], U(first + i)), quantiles)
        level = x + between(sd, piece, place) * z
        store(out, i, level if level > bound else bound)


@compiled
def read_cells(
    levels: FloatTable,
    programmed: FloatTable,
    kept: float | None,
    relaxation: tuple[FloatTable, FloatTable, U, U] | None,
    lowest: float | None,
    drift: tuple[FloatTable, FloatTable, U, U] | None,
    noise: FloatTable | None,
    added: FloatTable | None,
    own_keys: tuple[U, U] | None,
    shared: tuple[F, F, F, U, U, U, U] | None,
    intervals: np.int32,
    quantiles: FloatTable,
    read_keys: tuple[U, U],
    first: int,
    out: FloatTable,
) -> None:
    """Read each cell once, with all curves taken at the target level x:

        level = programmed, or x + kept · (programmed - x), the part of the error that a further read still shows
        level = max(lowest, level + shift + spread · normal of the cell)              relaxation, then the clamp
        level = level · 2^-|N(drift mean, drift sd)|                                  drift, the exponent the cell's
        out   = level · (1 + noise · z) + added · z'                                  read noise

    An argument that is None removes its part when the loop is compiled, so that a card costs only what it has. z is
    the normal of this read; z' is the same number unless `own_keys` give it a stream of its own. With `shared` = (a, b,
    c, keys, keys), z = a · z(first keys) + b · z(second keys) + c · z(read): the noise that reads have in common.
    """
    # outside the loop: taking an array from a tuple counts a reference
    if relaxation is not None:
        shift, spread, relax_0, relax_1 = relaxation
    if drift is not None:
        drift_mean, drift_sd, drift_0, drift_1 = drift
    if lowest is not None:
        bound = F(lowest)
    if kept is not None:
        share = F(kept)
    for i in range(levels.size):
        x = load(levels, i)
        piece, place = piece_of(x, intervals)
        cell = U(first + i)
        level = load(programmed, i)
        if kept is not None:
            level = x + share * (level - x)
        if relaxation is not None:
            moved = normal(bits(relax_0, relax_1, cell), quantiles)
            level = level + (between(shift, piece, place) + between(spread, piece, place) * moved)
        if lowest is not None:
            level = level if level > bound else bound
        if drift is not None:
            own = normal(bits(drift_0, drift_1, cell), quantiles)
            lost = abs(between(drift_mean, piece, place) + between(drift_sd, piece, place) * own)
            level = level * power_of_two(-min(lost, F(126)))  # 2^-126 is the least float32 with all its digits
        if noise is not None or added is not None:
            z = normal(bits(read_keys[0], read_keys[1], cell), quantiles)
            if shared is not None:
                same = normal(bits(shared[3], shared[4], cell), quantiles)
                more = normal(bits(shared[5], shared[6], cell), quantiles)
                z = shared[0] * same + shared[1] * more + shared[2] * z
            if noise is not None:
                level = level * (F(1) + between(noise, piece, place) * z)
            if added is not None:
                if own_keys is not None:
                    z = normal(bits(own_keys[0], own_keys[1], cell), quantiles)
                level = level + between(added, piece, place) * z
        store(out, i, level)


@compiled
def stick_cells(low_rate: float, high_rate: float, keys: tuple[U, U], first: int, out: FloatTable) -> None:
    """Set a share `low_rate` of the cells to 0 and a share `high_rate` to 1, in place."""
    for i in range(out.size):
        u = np.float64(bits(keys[0], keys[1], U(first + i)) >> U(11)) * 2.0**-53
        if u < low_rate:
            out[i] = F(0)
        elif u >= 1.0 - high_rate:
            out[i] = F(1)


@compiled
def snap_cells(levels: FloatTable, thresholds: FloatTable, values: FloatTable, out: FloatTable) -> None:
    """Round levels to finite ones: out = the k-th of the rising `values` for a level from threshold k on."""
    for i in range(levels.size):
        x = load(levels, i)
        above = np.int64(0)
        for k in range(thresholds.size):
            above += np.int64(x >= load(thresholds, k))
        store(out, i, load(values, above))


def in_chunks(cells: int, work: Callable[[int, int], None]) -> None:
    """Run work(start, stop) over all cells, on as many threads as numba is set to use (NUMBA_NUM_THREADS)."""
    threads = min(int(config.NUMBA_NUM_THREADS), 1 + cells // CHUNK_CELLS)
    if threads == 1:
        work(0, cells)
        return
    edges = [cells * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, edges[:-1], edges[1:]):
            pass

"""Adaptive arithmetic coding of digits: a stream whose probabilities are learned from the digits already written.

A digit is written as a few binary decisions, as in CABAC (Marpe, Schwarz and Wiegand, IEEE Trans. Circuits Syst. Video
Technol. 13:620, 2003) and, for weights of networks, DeepCABAC (Wiedemann et al., arXiv 1907.11900): is it zero, is its
magnitude below 2, 4, 8, …; which magnitude of that class; which sign. Every kind of decision has a probability of its
own, which moves towards what was decided by one over the number of decisions so far, up to a limit (a running estimate
as of Krichevsky and Trofimov, IEEE Trans. Inf. Theory 27:199, 1981). It starts from a logistic distribution of the
digits, of the width that the writer states, with the weight of `PRIOR` decisions. The class is decided in the context
of the magnitudes around it: the digit before, a running mean of the row, and one of the same place in rows before. The
sign is decided in the context of the signs of the digit before and of the one at the same place in the row before.

Decisions are written by the binary form of the arithmetic coder of Witten, Neal and Cleary, Commun. ACM 30:520, 1987.
Probabilities and coder are in whole numbers, so that any machine reads what another has written.

A stream consists of
    n        5 bits, the number of bits of the next field
    length   n bits, the number of bits of what the coder wrote
    number   what the coder wrote: as many bits as it shifted out, and two more
"""

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.codes import entropy
from physcomp.codes.base import Bits
from physcomp.codes.entropy import head as head

Digits = NDArray[np.int64]

LARGEST = 2047
"""The largest magnitude of a digit."""
CLASSES = LARGEST.bit_length()
# All of these are our choice; on the layers of two networks none of them changes the total by more than half a percent.
CONTEXTS = 24  # of the class: half octaves of the mean magnitude around, behind one for nothing known
LOWEST = 9  # half octaves from 1/256 up to the context after the first
TREE = 3  # bits of a magnitude below its highest one that have a probability; the others are even
PRIOR = 8  # decisions that the first probabilities weigh
LIMIT = 1024  # decisions up to which a probability is their plain mean
ROW, COLUMN = 4, 3  # running means move by 2^-4 and 2^-3 of the difference
STREAM_BITS = entropy.LENGTH_BITS + 31 + 3  # the most that a stream takes beside its information

PROBABILITY = 16  # bits of a probability in the coder ...
FINE = 6  # ... and more of them while it is learned
LEAST = 4  # the least probability, in 2^-16

WHOLE = 1 << 32  # the coder's range
HALF = WHOLE >> 1
QUARTER = WHOLE >> 2
MOST = 512  # more bits than a digit takes: its 24 decisions are of 14 bits at the most, and 2 bits end the stream

_TREES = CONTEXTS * CLASSES  # places of the probabilities: classes by context, then magnitudes, then signs
_SIGNS = _TREES + (CLASSES + 1 << TREE)
_STATES = _SIGNS + 9
_SHARES = np.array([0, *((1 << 16) // n for n in range(1, LIMIT + 1))], np.int64)
_INFORMATION = -np.log2(np.arange(1, (1 << PROBABILITY) + 1) / (1 << PROBABILITY))  # of 1 to 2^16 in 2^-16, bits


@lru_cache(maxsize=64)
def first_probabilities(width: float) -> NDArray[np.int64]:
    """The probabilities that every decision is 1 before any digit is known, in 2^-22: int64 (decisions,).

    Args:
        width: standard deviation of the digits. Decimal arithmetic gives the same numbers on every machine.
    """
    found = np.full(_STATES, 1 << (PROBABILITY + FINE - 1), np.int64)
    with localcontext(prec=30):
        spread = Decimal(width) * Decimal(3).sqrt() / Decimal("3.14159265358979323846")

        def above(edge: Decimal) -> Decimal:
            return 2 / (1 + (edge / spread).exp()) if edge else Decimal(1)

        edges = [Decimal(0), *(Decimal(1 << place) - Decimal("0.5") for place in range(CLASSES))]
        for place in range(CLASSES):
            share = above(edges[place + 1]) / above(edges[place])
            found[place:_TREES:CLASSES] = int(share * (1 << (PROBABILITY + FINE)))
    found.flags.writeable = False
    return found


def information(digits: Digits, width: float) -> NDArray[np.float64]:
    """Information of each group's digits after those of the groups before, in bits: float64 (groups,).

    Args:
        digits: (groups, weights), magnitudes up to `LARGEST`.
        width: standard deviation of the digits, about; the probabilities start from it.
    """
    found = np.zeros(len(digits))
    _price(digits, first_probabilities(width).copy(), found)
    return found


def write(digits: Digits, width: float) -> Bits:
    """Write the digits (groups, weights) of some groups as a stream: uint8 zeros and ones.

    Example:
        >>> digits = np.array([[0, 1, 0, 0, -1, 0, 2, 0] * 20])
        >>> bits = write(digits, 1.0)
        >>> len(bits), bool((read(bits, 1.0, 1, 160) == digits).all())
        (265, True)

    Raises:
        ValueError: a digit is larger than `LARGEST`.
    """
    largest = int(np.abs(digits).max(initial=0))
    if largest > LARGEST:
        raise ValueError(f"stepped: a digit of {largest} steps; at most {LARGEST} are written, take a larger step")
    room, used = 8 * digits.size + 1024, 0
    while not used:
        number = np.empty(room, np.uint8)
        used = _encode(digits, first_probabilities(width).copy(), number)
        room *= 2
    return np.concatenate([entropy.head_of(used), number[:used]])


def read(bits: Bits, width: float, groups: int, weights: int) -> Digits:
    """Inverse of `write`: the digits (groups, weights) of a stream.

    Raises:
        ValueError: the stream is not one of this number of digits.
    """
    start, size = head(bits)
    digits = np.zeros((groups, weights), np.int64)
    fits = len(bits) == start + size
    if not fits or _decode(np.ascontiguousarray(bits[start:]), first_probabilities(width).copy(), digits) != size:
        raise ValueError(f"stepped: {len(bits)} bits are no stream of {groups} groups; store the plan again")
    return digits


@njit(cache=True, nogil=True)
def _share(states: NDArray[np.int64], place: int) -> int:
    """The probability of a one, in 2^-16; places below 0 are even."""
    if place < 0:
        return 1 << (PROBABILITY - 1)
    one: int = min(max(states[place] >> FINE, LEAST), (1 << PROBABILITY) - LEAST)
    return one


@njit(cache=True, nogil=True)
def _learn(states: NDArray[np.int64], seen: NDArray[np.int64], place: int, bit: int) -> None:
    if place >= 0:
        seen[place] = min(seen[place] + 1, LIMIT)
        states[place] += (((bit << (PROBABILITY + FINE)) - states[place]) * _SHARES[seen[place]]) >> 16


@njit(cache=True, nogil=True)
def _bits_in(number: int) -> int:
    count = 0
    while number > 0:
        number >>= 1
        count += 1
    return count


@njit(cache=True, nogil=True)
def _context(row: int, column: int, before: int) -> int:
    """The context of a class, by the mean of what is known of the magnitudes around, each in 2^-8 or below 0."""
    total = known = 0
    for magnitude in (row, column, before):
        if magnitude >= 0:
            total += magnitude
            known += 1
    if known == 0:
        return 0
    mean = total // known
    half_octaves = 0
    if mean > 0:
        octave = _bits_in(mean)
        half_octaves = 2 * octave + ((mean >> (octave - 2)) & 1 if octave > 1 else 0)
    return min(max(half_octaves - LOWEST, 0), CONTEXTS - 2) + 1


@njit(cache=True, nogil=True)
def _signs_around(digits: Digits, group: int, place: int) -> int:
    """The place of the probability of a sign, by the signs of the digit before and of the one in the row before."""
    before = np.sign(digits[group, place - 1]) if place else 0
    above = np.sign(digits[group - 1, place]) if group else 0
    return _SIGNS + 3 * (before + 1) + above + 1


@njit(cache=True, nogil=True)
def _moved(mean: int, magnitude: int, slowness: int) -> int:
    """A running mean in 2^-8 after one more magnitude; below 0 before the first."""
    return magnitude << 8 if mean < 0 else mean + (((magnitude << 8) - mean) >> slowness)


@njit(cache=True, nogil=True)
def _around(digits: Digits, group: int, place: int, row: int, column: int) -> int:
    before = min(abs(digits[group, place - 1]), 8) << 8 if place else -1
    return _context(row, column, before)


@njit(cache=True, nogil=True)
def _decisions(digit: int, context: int, signs: int, places: NDArray[np.int64], bits: NDArray[np.int64]) -> int:
    """The decisions that state a digit: the places of their probabilities, and what is decided; returns how many."""
    magnitude = abs(digit)
    octave = _bits_in(magnitude)
    count = 0
    for place in range(min(octave + 1, CLASSES)):
        places[count], bits[count] = context * CLASSES + place, place < octave
        count += 1
    node = 1
    for below in range(octave - 2, -1, -1):
        bit = (magnitude >> below) & 1
        learned = octave - 2 - below < TREE
        places[count], bits[count] = (_TREES + (octave << TREE) + node) if learned else -1, bit
        node = 2 * node + bit
        count += 1
    if magnitude:
        places[count], bits[count] = signs, digit > 0
        count += 1
    return count


@njit(cache=True, nogil=True)
def _price(digits: Digits, states: NDArray[np.int64], found: NDArray[np.float64]) -> None:
    """Add the information of the digits of each group to `found`."""
    seen = np.full(len(states), PRIOR, np.int64)
    columns = np.full(digits.shape[1], -1, np.int64)
    places, bits = np.empty(32, np.int64), np.empty(32, np.int64)
    for group in range(len(digits)):
        row = -1
        for place in range(digits.shape[1]):
            digit = digits[group, place]
            context = _around(digits, group, place, row, columns[place])
            for i in range(_decisions(digit, context, _signs_around(digits, group, place), places, bits)):
                one = _share(states, places[i])
                found[group] += _INFORMATION[(one if bits[i] else (1 << PROBABILITY) - one) - 1]
                _learn(states, seen, places[i], bits[i])
            row = _moved(row, abs(digit), ROW)
            columns[place] = _moved(columns[place], abs(digit), COLUMN)


@njit(cache=True, nogil=True)
def _encode(digits: Digits, states: NDArray[np.int64], number: Bits) -> int:
    """Write digits to `number`, and return how many bits they took; 0 if there was no room for them."""
    seen = np.full(len(states), PRIOR, np.int64)
    columns = np.full(digits.shape[1], -1, np.int64)
    places, bits = np.empty(32, np.int64), np.empty(32, np.int64)
    low, high, waiting, used = 0, WHOLE - 1, 0, 0
    for group in range(len(digits)):
        row = -1
        for place in range(digits.shape[1]):
            if used + waiting + MOST > len(number):
                return 0
            digit = digits[group, place]
            context = _around(digits, group, place, row, columns[place])
            for i in range(_decisions(digit, context, _signs_around(digits, group, place), places, bits)):
                middle = low + (((high - low + 1) * _share(states, places[i])) >> PROBABILITY)
                low, high = (low, middle - 1) if bits[i] else (middle, high)
                _learn(states, seen, places[i], bits[i])
                while True:
                    if high < HALF or low >= HALF:
                        used, waiting = _put(number, used, low >= HALF, waiting)
                        low, high = low - HALF * (low >= HALF), high - HALF * (low >= HALF)
                    elif low >= QUARTER and high < HALF + QUARTER:
                        waiting += 1
                        low, high = low - QUARTER, high - QUARTER
                    else:
                        break
                    low, high = 2 * low, 2 * high + 1
            row = _moved(row, abs(digit), ROW)
            columns[place] = _moved(columns[place], abs(digit), COLUMN)
    used, _ = _put(number, used, low >= QUARTER, waiting + 1)
    return used


@njit(cache=True, nogil=True)
def _put(number: Bits, used: int, bit: bool, waiting: int) -> tuple[int, int]:
    """Append a bit, and as many of its opposite as are waiting."""
    number[used] = bit
    for place in range(used + 1, used + 1 + waiting):
        number[place] = not bit
    return used + 1 + waiting, 0


@njit(cache=True, nogil=True)
def _decode(number: Bits, states: NDArray[np.int64], digits: Digits) -> int:
    """Read digits from `number`, behind which zeros follow, and return how many bits they should have taken."""
    seen = np.full(len(states), PRIOR, np.int64)
    columns = np.full(digits.shape[1], -1, np.int64)
    # low, high, the number between them, and how many bits were shifted in.
    coder = np.array([0, WHOLE - 1, 0, 0], np.int64)
    for place in range(32):
        coder[2] = 2 * coder[2] + (number[place] if place < len(number) else 0)
    for group in range(len(digits)):
        row = -1
        for place in range(digits.shape[1]):
            context = _around(digits, group, place, row, columns[place])
            octave = 0
            while octave < CLASSES and _get(number, coder, states, seen, context * CLASSES + octave):
                octave += 1
            magnitude = min(octave, 1)
            for i in range(octave - 1):
                magnitude = 2 * magnitude + _get(
                    number, coder, states, seen, _TREES + (octave << TREE) + magnitude if i < TREE else -1
                )
            positive = magnitude > 0 and _get(number, coder, states, seen, _signs_around(digits, group, place))
            digits[group, place] = magnitude if positive else -magnitude
            row = _moved(row, magnitude, ROW)
            columns[place] = _moved(columns[place], magnitude, COLUMN)
    taken: int = coder[3] + 2
    return taken


@njit(cache=True, nogil=True)
def _get(number: Bits, coder: NDArray[np.int64], states: NDArray[np.int64], seen: NDArray[np.int64], place: int) -> int:
    """Read one decision."""
    low, high, value = coder[0], coder[1], coder[2]
    middle = low + (((high - low + 1) * _share(states, place)) >> PROBABILITY)
    bit = 1 if value < middle else 0
    low, high = (low, middle - 1) if bit else (middle, high)
    _learn(states, seen, place, bit)
    while True:
        if high < HALF or low >= HALF:
            less = HALF if low >= HALF else 0
        elif low >= QUARTER and high < HALF + QUARTER:
            less = QUARTER
        else:
            break
        place_of_next = coder[3] + 32
        following = number[place_of_next] if place_of_next < len(number) else 0
        low, high, value = 2 * (low - less), 2 * (high - less) + 1, 2 * (value - less) + following
        coder[3] += 1
    coder[0], coder[1], coder[2] = low, high, value
    return bit

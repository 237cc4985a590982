"""dimod's binary format, checked before dimod reads it: its reader takes indices on trust, and damaged ones crash it.

Layout ("Format Specification" of `dimod.BinaryQuadraticModel.to_file`): 8 bytes "DIMODBQM", 2 of version, 4 of the
header's length, a JSON header, the offset, then for each variable where its neighbours begin and its linear bias, then
all neighbours with their quadratic biases; labels follow.
"""

from __future__ import annotations

import json
import struct

import numpy as np

MAGIC = b"DIMODBQM"
TYPES = ("float32", "float64"), ("int32", "int64", "uint32", "uint64")
"""What coefficients and indices may be."""


def checked(content: bytes) -> bytes:
    """The content of a `.bqm` file, as it is, once its numbers fit one another.

    Raises:
        ValueError: another format, or numbers that do not fit; also what json and struct raise.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC.decode()}, so it is no binary model of dimod's")
    (length,) = struct.unpack_from("<I", content, len(MAGIC) + 2)
    at = len(MAGIC) + 6 + length
    header = json.loads(content[len(MAGIC) + 6 : at].decode("ascii"))
    variables, interactions = (int(number) for number in header["shape"])
    real, index, start = header["dtype"], header["itype"], header["ntype"]
    if real not in TYPES[0] or index not in TYPES[1] or start not in TYPES[1]:
        raise ValueError(f"its numbers are {real}, {index} and {start}: known are {', '.join(sum(TYPES, ()))}")
    linear = np.dtype([("first", start), ("bias", real)])
    quadratic = np.dtype([("other", index), ("bias", real)])
    at += np.dtype(real).itemsize
    ends = at + variables * linear.itemsize, at + variables * linear.itemsize + 2 * interactions * quadratic.itemsize
    if min(variables, interactions) < 0 or len(content) < ends[1]:
        raise ValueError(f"it is cut off: {ends[1]} bytes are described, {len(content)} are there")
    first = np.frombuffer(content, linear, variables, at)["first"].astype(np.int64)
    other = np.frombuffer(content, quadratic, 2 * interactions, ends[0])["other"].astype(np.int64)
    edges = np.append(first, 2 * interactions)
    if (variables and edges[0] != 0) or (np.diff(edges) < 0).any() or (not variables and interactions):
        raise ValueError("its neighbourhoods do not follow one another: write it again")
    own = np.repeat(np.arange(variables), np.diff(edges))
    ordered = np.diff(own) > 0
    if ((other < 0) | (other >= variables) | (other == own)).any() or not (ordered | (np.diff(other) > 0)).all():
        raise ValueError("a neighbour is no other variable, or out of order: write it again")
    return content

"""The file format of plans: JSON text with packed arrays. Version 3 is written; versions 1 to 3 are read.

All versions have the fields of `physcomp.storage.plan.Plan` under the same names, and:
    format            "physcomp-plan"
    version           1, 2 or 3
    layers            a list with one object for each layer, see below
    menu, others      lists; `others` of name and shape, and where the numbers are not bfloat16 their kind, bits and the
                      least one (`physcomp.storage.other_tensors`)
    parameters        number of parameters of the network; absent from versions 1 and 2
    proof             an object with the fields of `physcomp.storage.plan.Proof`
    sha256            fingerprint of the content, checked on reading
    physcomp          version of the package that wrote the file; not read
    cells_per_weight  for human readers; not read

A layer in versions 2 and 3:
    name              text
    shape             list of numbers, the shape of the weight tensor; groups × weights is their product
    codes             list of one number per group, an index into `menu`
    scales            list of one number per group, a bfloat16 value written out
    biases            list of numbers, bfloat16 values written out; empty without biases
    rows              text: float32 (kept, weights), packed as rows, see `pack_rows`; empty without kept rows
    cells             text: uint8 (allocating, weights), packed as bytes; empty without such groups
    learned           list of pairs: index of a code whose groups share numbers, list of these numbers
    weight, bias      text: names of the tensors, if they are not `name` with `.weight` and `.bias`; version 3 only
    transposed        number of groups of channels, if it is a transposed convolution; version 3 only

*Packed* is zlib (level 1) of little-endian bytes, in base64. The `sha256` of versions 2 and 3 is SHA-256 of
(a) the JSON text, keys sorted, of all fields of `Plan` but `method` and `proof.seconds`, each layer as the list of its
    name, its shape, for each of its arrays a list of name and shape (`LayerPlan.arrays`), and, if it has any, an object
    with its `weight`, `bias` and `transposed`, and
(b) for each layer the bytes of `codes` (int64), `scales`, `rows`, `biases` (float32), `cells` (uint8) and of the
    numbers learned (float32), code by code.
It does not depend on how arrays are packed, so a plan that was read from version 1 has the same fingerprint as in
later versions.

Version 1 differs in three things. The field `ecc` is called `storage`. A layer has `written` in place of `rows`: the
float32 numbers alone, packed. Its `sha256` is that of the JSON text, keys sorted, of `format`, `version` and all
fields of `Plan` but `method` and `proof.seconds`, arrays packed; without `storage` where it is "bound", without
`read_times_s` and `over` where there are no times, and without a layer's `cells` where they are empty. Files may lack
these four.
"""

import base64
import hashlib
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Rows
from physcomp.storage.layer_plan import LayerPlan

FORMAT = "physcomp-plan"
FORMAT_VERSION = 3
READABLE = (1, 2, 3)
RENAMED = "storage"  # what version 1 calls `ecc`
NEWER_FIELDS: dict[str, Any] = {
    "ecc": "bound",
    "read_times_s": [],
    "over": "mean",
    "parameters": 0,
}  # absent from older plans

LEVEL = 1  # compression level of zlib; higher ones take several times as long and save a few per cent
TABLE_SIZE = 256  # the most distinct values for which a row is packed as a table and one byte per weight


def layer_fields(layer: LayerPlan) -> dict[str, Any]:
    """The fields of a layer in the file."""
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "codes": layer.codes.tolist(),
        "scales": layer.scales.tolist(),
        "biases": layer.biases.tolist(),
        "rows": pack_rows(layer.rows),
        "cells": _packed(layer.cells),
        "learned": [[code, numbers.tolist()] for code, numbers in layer.learned.items()],
        **layer.place,
    }


def layer_of(fields: dict[str, Any], version: int) -> LayerPlan:
    """Inverse of `layer_fields`, for all versions that can be read.

    Raises:
        KeyError: a field is missing.
        ValueError: a field has a wrong value.
    """
    groups, size = len(fields["codes"]), int(np.prod(fields["shape"]))
    weights = size // max(1, groups)
    if version == 1:
        rows = np.frombuffer(_bytes(fields["written"]), "<f4").reshape(-1, weights)
    else:
        rows = unpack_rows(fields["rows"], weights)
    return LayerPlan(
        name=fields["name"],
        shape=tuple(fields["shape"]),
        codes=np.array(fields["codes"], np.int64),
        scales=np.array(fields["scales"], np.float32),
        rows=rows,
        biases=np.array(fields["biases"], np.float32),
        cells=np.frombuffer(_bytes(fields.get("cells", "")), np.uint8).reshape(-1, weights),
        learned={code: np.array(numbers, np.float32) for code, numbers in fields.get("learned", [])},
        weight=fields.get("weight", ""),
        bias=fields.get("bias", ""),
        transposed=fields.get("transposed", 0),
    )


def pack_rows(rows: Rows) -> str:
    """Pack rows as text, without loss; rows with few distinct values, such as rounded rows, take a byte per weight.

    These parts are packed one after the other:
        number of rows, uint32;
        for each row the number of its distinct values, uint16, or 0 if they are more than 256;
        for each row with at most 256 its table of values, float32, in ascending order of their bit patterns;
        for each of these rows its weights as indices into the table, uint8;
        for each other row its weights, float32.

    Example:
        >>> rows = np.array([[0.5, -0.5, 0.5], [1.0, 2.0, 3.0]], np.float32)
        >>> unpack_rows(pack_rows(rows), 3).tolist()
        [[0.5, -0.5, 0.5], [1.0, 2.0, 3.0]]
    """
    if not rows.size:
        return ""
    patterns = np.ascontiguousarray(rows, "<f4").view("<u4")  # which distinguishes -0 from 0
    order = np.argsort(patterns, axis=1)
    ascending = np.take_along_axis(patterns, order, axis=1)
    first = np.ones(rows.shape, bool)
    np.not_equal(ascending[:, 1:], ascending[:, :-1], out=first[:, 1:])
    sizes = first.sum(axis=1)
    few = sizes <= TABLE_SIZE
    places = np.empty(rows.shape, np.int64)
    np.put_along_axis(places, order, first.cumsum(axis=1) - 1, axis=1)
    return _packed(
        np.array([len(rows)], "<u4"),
        np.where(few, sizes, 0).astype("<u2"),
        ascending[few][first[few]],
        places[few].astype(np.uint8),
        patterns[~few],
    )


def unpack_rows(text: str, weights: int) -> Rows:
    """Inverse of `pack_rows`: float32 (rows, weights).

    Raises:
        ValueError: the text does not hold packed rows with this number of weights.
    """
    content = _bytes(text)
    if not content:
        return np.zeros((0, weights), np.float32)
    count = int(np.frombuffer(content, "<u4", 1)[0])
    sizes = np.frombuffer(content, "<u2", count, 4).astype(np.int64)
    few = sizes > 0
    table = np.frombuffer(content, "<f4", int(sizes.sum()), 4 + 2 * count)
    start = 4 + 2 * count + 4 * len(table)
    places = np.frombuffer(content, np.uint8, int(few.sum()) * weights, start).reshape(-1, weights)
    rows = np.empty((count, weights), np.float32)
    rows[few] = table[(np.cumsum(sizes) - sizes)[few][:, None] + places]
    rows[~few] = np.frombuffer(content, "<f4", offset=start + places.size).reshape(-1, weights)
    return rows


def _packed(*arrays: NDArray[Any]) -> str:
    content = b"".join(array.tobytes() for array in arrays)
    return base64.b64encode(zlib.compress(content, LEVEL)).decode() if content else ""


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True)) if text else b""


def fingerprint(fields: dict[str, Any], layers: tuple[LayerPlan, ...]) -> str:
    """SHA-256 of the content of a plan, as the docstring of this file defines it.

    Args:
        fields: the fields of the plan without `method`, `proof.seconds` and `layers`.
        layers: the plans of the layers.
    """
    shapes = [
        [
            layer.name,
            list(layer.shape),
            *([name, *array.shape] for name, array in layer.arrays.items()),
            *([layer.place] if layer.place else []),
        ]
        for layer in layers
    ]
    digest = hashlib.sha256(json.dumps({**fields, "layers": shapes}, sort_keys=True).encode())
    for layer in layers:
        for array in layer.arrays.values():
            digest.update(array.data)
    return digest.hexdigest()


def fingerprint_1(fields: dict[str, Any]) -> str:
    """The fingerprint that belongs in a file of version 1.

    Args:
        fields: the fields of the file; this function changes them.
    """
    del fields["method"], fields["parameters"], fields["proof"]["seconds"]
    ecc = fields.pop("ecc")
    if ecc != "bound":
        fields[RENAMED] = ecc
    if not fields["read_times_s"]:
        del fields["read_times_s"], fields["over"]
    for layer in fields["layers"]:
        if not layer.get("cells", "never"):
            del layer["cells"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

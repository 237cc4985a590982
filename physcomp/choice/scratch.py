"""Arrays that memory should not hold: in a temporary file, from which rows are read when they are needed."""

import os
import tempfile
import threading
import weakref
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """A temporary file for arrays; the system removes it when nothing refers to it any more, or the process ends.

    It lies where `tempfile` puts files: set the environment variable TMPDIR to choose the folder.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._lock = threading.Lock()

    def keep(self, array: NDArray[Any]) -> "Parked":
        """Write an array (groups, weights) to the file."""
        content = np.ascontiguousarray(array)
        with self._lock:
            start, self._end = self._end, self._end + content.nbytes
        left, at = memoryview(content.tobytes()), start
        while left:
            written = os.pwrite(self._file.fileno(), left, at)
            left, at = left[written:], at + written
        return Parked(self, start, content.shape, content.dtype)

    def read(self, start: int, size: int) -> bytearray:
        """The bytes from a place on."""
        found = bytearray(size)
        view, at = memoryview(found), start
        while view:
            count = os.preadv(self._file.fileno(), [view], at)
            if not count:
                raise OSError("scratch: the temporary file is shorter than what was written to it")
            view, at = view[count:], at + count
        return found


@dataclass(frozen=True, eq=False)
class Parked:
    """An array (groups, weights) in a temporary file. Indexed by groups it gives an array in memory.

    Args:
        scratch: the file.
        start: where in the file its bytes begin.
        shape: (groups, weights).
        dtype: type of its entries.
    """

    scratch: Scratch
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, groups: slice | NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(groups, slice):
            first, last, _ = groups.indices(self.shape[0])
            return self._read(first, max(first, last))
        if not len(groups):
            return np.empty((0, self.shape[1]), self.dtype)
        first = int(groups.min())
        return self._read(first, int(groups.max()) + 1)[groups - first]

    def _read(self, first: int, last: int) -> NDArray[Any]:
        row = self.shape[1] * self.dtype.itemsize
        content = self.scratch.read(self.start + first * row, (last - first) * row)
        return np.frombuffer(content, self.dtype).reshape(last - first, self.shape[1])

"""The memory that a mapped file takes in this process."""

import contextlib
import ctypes
import os
from pathlib import Path

_MADV_DONTNEED = 4  # Linux: the mapping stays, its pages go


def release_pages(path: str | os.PathLike[str]) -> None:
    """Give back the pages of a file that is mapped for reading; what is needed of it again is read again.

    An interpreter keeps a model file mapped whose weights it has packed for itself. On Linux only, else nothing.
    """
    name = os.path.realpath(path)
    with contextlib.suppress(OSError, AttributeError, ValueError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5] == name and "w" not in fields[1]:
                start, end = (int(place, 16) for place in fields[0].split("-"))
                ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)

"""Keeping the chatter of C++ libraries off the terminal."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Within the block nothing reaches file descriptor 2, whoever writes to it; exceptions pass as ever."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr to keep quiet
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

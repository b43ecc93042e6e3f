"""One process at a time, on this machine and on all that share its file system."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EWOULDBLOCK
from pathlib import Path
from typing import IO

NAME = ".lock"  # of the file that stands for its folder; it stays, which means nothing


def take(file: IO, wait: bool = False) -> bool:
    """Lock a file; the lock goes with the last process that has it open.

    A file and not its folder, and one that is open for writing: a network file system keeps to one
    machine what that locks of a folder, and NFS locks nothing for one that may only read.

    Args:
        file: open for writing.
        wait: until it is free.

    Returns:
        Whether it is ours now; False where another process holds it.

    Raises:
        OSError: the file system grants no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (EWOULDBLOCK, EACCES):
            return False
        said = os.strerror(error.errno)
        told = f"its file system grants no locks ({said}); NFS and Lustre can be mounted with them"
        raise OSError(error.errno, told, file.name) from None
    return True


@contextmanager
def alone_in(folder: Path, waiting: str = "") -> Iterator[None]:
    """Keep other processes that write below a folder waiting.

    Args:
        folder: which exists.
        waiting: what a process that has to wait says.

    Raises:
        OSError: its file system grants no locks, or nothing may be written there.
    """
    with (folder / NAME).open("a") as file:
        if not take(file):
            if waiting:
                print(waiting, flush=True)
            take(file, wait=True)
        yield

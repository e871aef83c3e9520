"""One writer at a time for a SQLite file, across processes: an advisory lock beside it.

SQLite before 3.51.3 can lose part of a write-ahead log when one connection resets it at the very moment another
writes (the WAL-reset bug); Debian's Pythons carry such versions. Every transaction that writes, and every closing that
may copy the log back, is made under this lock, so that the moment cannot come. The lock goes with the process that
holds it.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_TRY_S = 0.005
_GIVE_WAY_S = 4 * _TRY_S


class StillWriting(Exception):  # noqa: N818 - names the state that is answered by trying again later
    """Another process or thread kept the lock for longer than the caller would wait."""


@contextlib.contextmanager
def one_writer(lock: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock.

    Args:
        lock: The lock's file; made if it is not there, never removed.
        wait_s: The longest to wait for it.

    Raises:
        StillWriting: It was not free in time.
        OSError: The file cannot be made.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        deadline = time.monotonic() + wait_s
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                raise StillWriting(f"{lock} was not free within {wait_s:g} s")
            time.sleep(_TRY_S)
        yield
    finally:
        os.close(descriptor)


def give_way() -> None:
    """Leave the lock free for long enough that whoever waits for it gets it: those who write much owe that."""
    time.sleep(_GIVE_WAY_S)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

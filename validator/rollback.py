"""A journal that lost its tail: an image restored from a copy, a card that lied about what it stored.

Its numbers would be given twice, and rides that the ticket list has already counted would be free. The back office's
acknowledgement and the ticket list's horizon tell how far the journal once was; one that is not there any more is put
away, and a new epoch begins. Everything in it is in the ledger: that is how its length is known.
"""

from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from validator.journal import Journal
from validator.journal_file import JournalError

log = structlog.get_logger()

_FILES = ("", "-wal", "-shm")


async def open_whole(
    path: Path, device: str, key: Ed25519PrivateKey, born_s: int, known_seq: Callable[[int], int]
) -> Journal:
    """Open a journal; if it is an older copy of itself, put it away and begin a new epoch.

    Args:
        path: The database.
        device: Id of this device.
        key: The key that signs its entries.
        born_s: Now, seconds since 1970 UTC.
        known_seq: Returns how far an epoch is known to have been.

    Raises:
        JournalError: It cannot be opened, is another device's, or cannot be put away.
    """
    journal = await Journal.open(path, device, key, born_s=born_s)
    epoch, head, known = journal.epoch, journal.head, known_seq(journal.epoch)
    if head >= known:
        return journal
    await journal.close()
    log.critical("journal.lost_its_tail", epoch=epoch, head=head, known=known, now="a new epoch begins")
    try:
        for tail in _FILES:
            file = path.with_name(path.name + tail)
            if file.exists():
                file.rename(path.with_name(f"{path.name}.{epoch}.lost-its-tail{tail}"))
    except OSError as error:
        raise JournalError(path, f"it lost its tail and cannot be put away: {error}", "move it away by hand") from error
    return await Journal.open(path, device, key, born_s=born_s)

"""Short secrets in files, as a service manager gives them: read into memory that is wiped, refused if open to others.

Nothing here repeats what a file holds, in a message or otherwise.
"""

import os
import stat
from pathlib import Path

_ACL = "system.posix_acl_access"
_OWNER, _USER, _MASK = 0x01, 0x02, 0x10  # tags of an access control list's entries, linux/posix_acl.h


class SecretError(Exception):
    """A secret cannot be taken into use; the message names the file and what to do, never a value."""


def wipe(secret: bytearray) -> None:
    """Overwrite a secret in place."""
    secret[:] = bytes(len(secret))


def read_secret(directory: Path, path: Path, longest: int) -> bytearray:
    """Read a short file that nobody may read but its owner and, by name, this service.

    Args:
        directory: Where secrets lie; a link that leads out of it is refused.
        path: A file in it.
        longest: How many bytes at most; of a longer file there is one more in the answer, so that its length is wrong.

    Returns:
        What it holds, in memory that the caller owns and wipes.

    Raises:
        SecretError: It is missing, unreadable, no plain file, elsewhere, or open to others.
    """
    buffer = bytearray(longest + 1)
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(directory.resolve()):
            raise SecretError(f"{path}: leads out of {directory}: put the file itself there")
        # NONBLOCK, so that a pipe that somebody put there cannot hold up the start.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise SecretError(f"{path}: is no file: put the secret's file there")
            if _is_open_to_others(descriptor, mode):
                what = f"mode {stat.filemode(mode)} lets others read it: run chmod go= on it"
                raise SecretError(f"{path}: {what}, and make another secret if somebody else was on this machine")
            read = os.readv(descriptor, [buffer])
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}") from None
    content = buffer[:read]
    wipe(buffer)
    return content


def _is_open_to_others(descriptor: int, mode: int) -> bool:
    """Whether group or others may do anything with a file.

    On a file system with access control lists systemd lets a service in by name. The mode's group bits then show the
    list's mask, which is nobody's right, and the list itself must be asked (acl(5)).
    """
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return False
    try:
        acl = os.getxattr(descriptor, _ACL)
    except OSError:
        return True
    # Version 2 in four bytes, then eight bytes an entry: tag, permissions, id; little-endian.
    entries = [acl[at : at + 8] for at in range(4, len(acl), 8)]
    return any(int.from_bytes(entry[2:4], "little") and not _may_know(entry) for entry in entries)


def _may_know(entry: bytes) -> bool:
    tag, who = int.from_bytes(entry[0:2], "little"), int.from_bytes(entry[4:8], "little")
    return tag in (_OWNER, _MASK) or (tag == _USER and who in (0, os.geteuid()))

"""Files of checked pages: written once, only read afterwards, and never believed where the flash has spoilt them.

    header, 4 KiB | page | page | ... | digest of each page, 16 bytes | rest

    header = magic, 16 bytes | pages, 4 bytes | length of the rest, 4 bytes | head, 48 bytes | root, 32 bytes | zeros

A digest is the BLAKE2b-128 of its page, and the root the BLAKE2b-256 of the header before it, the digests and the rest:
a tree of two storeys (R. Merkle 1979). Opening a file verifies all but the pages, and each page is verified whenever it
is read, not only the first time: the kernel forgets pages when memory is short and reads them from the flash again.

Pages are read with `pread`. A mapped page that the flash cannot give, or that was cut off, ends the process with
SIGBUS; a read that fails is an error like another. What was read does not count as memory of the process either.

All integers are big-endian.
"""

import os
import struct
import weakref
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from validator.lists.errors import ListError

PAGE_BYTES: Final = 4096
"""Of the header, and of a page where its kind of file does not say otherwise; what flash and kernel read at a time."""
DIGEST_BYTES: Final = 16
MAGIC_BYTES: Final = 16
HEAD_BYTES: Final = 48

_HEADER: Final = struct.Struct(f">{MAGIC_BYTES}sII{HEAD_BYTES}s")
_ROOT_BYTES: Final = 32
_MAX_PAGES: Final = 1 << 20
_MAX_REST_BYTES: Final = 64 * 1024 * 1024


def page_digest(page: bytes | bytearray) -> bytes:
    """Return what a page is verified by, 16 bytes."""
    return blake2b(page, digest_size=DIGEST_BYTES).digest()


class CheckedFile:
    """An open file of checked pages.

    Attributes:
        path: The file.
        head: What the kind of file says of itself, 48 bytes.
        pages: How many pages it has beside the header.
        digests: The digests of all of them, 16 bytes each.
        page_bytes: Length of a page.
        root: 32 bytes that stand for every byte of the file.
    """

    def __init__(self, path: Path, magic: bytes, page_bytes: int = PAGE_BYTES) -> None:
        """Open a file and verify all of it but the pages.

        Args:
            path: The file.
            magic: Names kind and format, 16 bytes.
            page_bytes: Length of a page in this kind of file.

        Raises:
            ListError: It cannot be read, is of another kind, has another length than it says, or is damaged.
        """
        self.path, self.page_bytes = path, page_bytes
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ListError(path, f"cannot be read: {error.strerror or error}") from error
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        try:
            self._read_outline(magic)
        except OSError as error:
            self.close()
            raise ListError(path, f"cannot be read: {error.strerror or error}") from error
        except ListError:
            self.close()
            raise

    def _read_outline(self, magic: bytes) -> None:
        header = os.pread(self._descriptor, PAGE_BYTES, 0)
        if len(header) < PAGE_BYTES or not header.startswith(magic):
            raise ListError(self.path, "not a file of this kind and format")
        _, self.pages, rest_bytes, self.head = _HEADER.unpack_from(header)
        outline_at, digests_bytes = PAGE_BYTES + self.page_bytes * self.pages, DIGEST_BYTES * self.pages
        length = os.fstat(self._descriptor).st_size
        _refuse_too_many(self.path, self.pages, rest_bytes)
        if length != outline_at + digests_bytes + rest_bytes:
            raise ListError(self.path, f"has {length} bytes, {outline_at + digests_bytes + rest_bytes} are wanted")
        self.digests = os.pread(self._descriptor, digests_bytes, outline_at)
        self._rest = os.pread(self._descriptor, rest_bytes, outline_at + digests_bytes)
        self.root = _root(header[: _HEADER.size], self.digests, self._rest)
        if header[_HEADER.size :] != self.root.ljust(PAGE_BYTES - _HEADER.size, b"\0"):
            raise ListError(self.path, "damaged: its header and digests have not the hash that it says")

    def take_rest(self) -> bytes:
        """Return what follows the digests, once: it is megabytes, and whoever asks keeps it in another form."""
        rest, self._rest = self._rest, b""
        return rest

    def page(self, number: int) -> bytes:
        """Read a page and verify it.

        Raises:
            ListError: It cannot be read, or is not what was written.
        """
        try:
            page = os.pread(self._descriptor, self.page_bytes, PAGE_BYTES + self.page_bytes * number)
        except OSError as error:
            raise ListError(self.path, f"page {number} cannot be read: {error.strerror or error}") from error
        at = DIGEST_BYTES * number
        if blake2b(page, digest_size=DIGEST_BYTES).digest() != self.digests[at : at + DIGEST_BYTES]:
            raise ListError(self.path, f"page {number} is damaged")
        return page

    def close(self) -> None:
        """Close the file; harmless when closed already, and done by itself when nobody holds it any more."""
        self._descriptor = -1
        self._closing()


def write_checked(
    path: Path,
    magic: bytes,
    pages: Iterable[bytes],
    outline: Callable[[], tuple[bytes, bytes]],
    page_bytes: int = PAGE_BYTES,
) -> None:
    """Write a file of checked pages. It is not synchronised to the disk: whoever installs it does that.

    Args:
        path: A file that does not exist yet.
        magic: Names kind and format, 16 bytes.
        pages: Contents, none longer than a page; what is missing of a page is zeros.
        outline: Asked after the last page: the head, at most 48 bytes, and the rest.
        page_bytes: Length of a page in this kind of file.

    Raises:
        ListError: The file exists, would be too large, or cannot be written; what `pages` raises goes through. Nothing
            is left behind.
    """
    if path.exists():
        raise ListError(path, "exists already")
    try:
        with path.open("xb") as file:
            file.write(bytes(PAGE_BYTES))
            digests = bytearray()
            for content in pages:
                page = content.ljust(page_bytes, b"\0")
                file.write(page)
                digests += page_digest(page)
            head, rest = outline()
            count = len(digests) // DIGEST_BYTES
            _refuse_too_many(path, count, len(rest))
            file.write(digests + rest)
            header = _HEADER.pack(magic, count, len(rest), head)
            file.seek(0)
            file.write(header + _root(header, digests, rest))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ListError(path, f"cannot be written: {error.strerror or error}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _refuse_too_many(path: Path, pages: int, rest_bytes: int) -> None:
    if pages > _MAX_PAGES or rest_bytes > _MAX_REST_BYTES:
        raise ListError(path, f"{pages} pages and {rest_bytes} bytes more are too many")


def _root(header: bytes, digests: bytes | bytearray, rest: bytes) -> bytes:
    root = blake2b(header, digest_size=_ROOT_BYTES)
    root.update(digests)
    root.update(rest)
    return root.digest()

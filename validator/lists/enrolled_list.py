"""The payload of a list of enrolled keys: the public keys of cards that no issuer's signature vouches for.

A card of such a family shows a bare key and signs with it, which whoever has a key pair can do. What makes it one of
ours is that its key was enrolled; and the enrolled key, never the one that is shown, verifies the signature.

It is an SQLite file that is written once (`validator.lists.immutable_file`), from credential id to key. The id is the
hash of the key, so that the file proves itself: no entry can name another card's key, whoever wrote it.

Some cards never show their key. Theirs is enrolled under a name, which is the hash of what the card says freely of
itself (`certificates.token_id`), and which the publisher's signature alone ties to the key.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apsw

from validator.certificates import (
    CertificateError,
    KeyUnsupportedError,
    credential_id,
    key_algorithm,
    load_key,
    spki_of,
)
from validator.lists.errors import ListError
from validator.lists.immutable_file import FileFormat, check_whole, open_immutable, stage, write_new
from validator.model import CREDENTIAL_ID_BYTES

_SCHEMA = """CREATE TABLE enrolled (
    id BLOB NOT NULL PRIMARY KEY,
    spki BLOB NOT NULL,
    named INTEGER NOT NULL
) STRICT, WITHOUT ROWID"""
FORMAT = FileFormat("list of enrolled keys", 0x50494C45, 2, _SCHEMA)  # "PILE"

_STAGED = "CREATE TEMP TABLE staged (id, spki, named)"
_STAGE = "INSERT INTO staged (id, spki, named) VALUES (?, ?, ?)"
_COPY = "INSERT INTO enrolled SELECT DISTINCT id, spki, named FROM staged ORDER BY id, spki, named"
_COUNT = "SELECT count(*) FROM enrolled"
_ALL = "SELECT id, spki, named FROM enrolled"
_FIND = "SELECT spki FROM enrolled WHERE id = ? AND named = 0"
_FIND_UNDER = "SELECT spki FROM enrolled WHERE id = ? AND named = 1"

_CURVE_FORMS = {
    91: bytes.fromhex("3059301306072A8648CE3D020106082A8648CE3D03010703420004"),
    120: bytes.fromhex("3076301006072A8648CE3D020106052B8104002203620004"),
}
"""By its length, how the SubjectPublicKeyInfo of a P-256 or P-384 key begins: named curve, uncompressed point
(RFC 5480 §2)."""


class EnrolledKeys:
    """An open list of enrolled keys. One thread at a time may ask it."""

    def __init__(self, path: Path) -> None:
        """Open a file that was verified before.

        Raises:
            ListError: It is not a list of enrolled keys of this format.
        """
        self._path = path
        self._connection = open_immutable(path, FORMAT)

    def find(self, credential: bytes) -> bytes | None:
        """Return the key that was enrolled under a credential id, SubjectPublicKeyInfo in DER; None for a stranger's.

        Raises:
            ListError: The file cannot be read any more, or holds another key under that id than the one it names.
        """
        spki = self._look_up(_FIND, credential)
        if spki is not None and credential_id(spki) != credential:
            raise ListError(self._path, f"damaged: credential {credential.hex()} is not the hash of its key")
        return spki

    def find_under(self, name: bytes) -> bytes | None:
        """Return the key that was enrolled under a name, SubjectPublicKeyInfo in DER; None for a stranger's.

        Raises:
            ListError: The file cannot be read any more.
        """
        return self._look_up(_FIND_UNDER, name)

    def _look_up(self, statement: str, name: bytes) -> bytes | None:
        try:
            row = self._connection.execute(statement, (name,)).fetchone()
        except (apsw.Error, ValueError) as error:
            raise ListError(self._path, f"cannot be read: {error}") from error
        if row is None:
            return None
        (spki,) = row
        if not isinstance(spki, bytes):
            raise ListError(self._path, f"damaged: what stands under {name.hex()} is no key")
        return spki

    def check(self) -> None:
        """Read every page and row once; done when a file is installed, not at each start.

        Each id must be the hash of its key, and each key in the form that is hashed. Whether a point lies on its curve
        is for the writer to see (`refuse_key`); a card with such a key is refused at the gate.

        Raises:
            ListError: The file is damaged, or holds something else than enrolled keys.
        """
        check_whole(self._connection, self._path, FORMAT)
        try:
            broken = self._broken_rule()
        except (apsw.Error, ValueError) as error:
            raise ListError(self._path, f"damaged: {error}") from None
        if broken is not None:
            raise ListError(self._path, broken)

    def _broken_rule(self) -> str | None:
        before = b""
        for number, (name, spki, named) in enumerate(self._connection.execute(_ALL), 1):
            if not (isinstance(name, bytes) and len(name) == CREDENTIAL_ID_BYTES and isinstance(spki, bytes)):
                return f"entry {number} is no id with its key"
            if name <= before:
                return f"entry {number} is not greater than the one before it"
            if named not in (0, 1):
                return f"entry {number} is neither an id's nor a name's"
            if not named and credential_id(spki) != name:
                return f"entry {number}, {name.hex()}, is not the hash of its key"
            why = None if _in_curve_form(spki) else refuse_key(spki)
            if why is not None:
                return f"entry {number}: {why}"
            before = name
        return None

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._connection.close()


def refuse_key(spki: bytes) -> str | None:
    """Say why a key cannot be enrolled; None where it can.

    Args:
        spki: SubjectPublicKeyInfo, DER. A key has many encodings and only one credential id: that of the encoding which
            every part of this program makes of it (a named curve, an uncompressed point, no parameters missing).
    """
    try:
        key = load_key(spki)
        key_algorithm(key)
    except KeyUnsupportedError as error:
        return f"{error}; P-256, P-384, RSA-2048 and RSA-3072 can be enrolled"
    except CertificateError as error:
        return str(error)
    plain = _in_curve_form(spki) or spki_of(key) == spki
    return None if plain else "a key in another encoding than the one that its id is made of"


def spki_of_point(point: bytes) -> bytes | None:
    """Return the SubjectPublicKeyInfo of an uncompressed P-256 or P-384 point (X9.63); None for any other octets.

    Whether the point lies on its curve is for `refuse_key` to say.
    """
    for length, form in _CURVE_FORMS.items():
        if len(form) - 1 + len(point) == length and point[:1] == form[-1:]:
            return form[:-1] + point
    return None


def write_enrolled_file(
    path: Path,
    spkis: Iterable[bytes],
    progress: Callable[[int], None] = lambda _count: None,
    named: Iterable[tuple[bytes, bytes]] = (),
) -> int:
    """Write a list of enrolled keys; the same keys in any order, and twice, give the same bytes.

    Args:
        path: A file that does not exist yet.
        spkis: SubjectPublicKeyInfo of each key, DER; memory does not grow with their number.
        progress: Told the count of keys read so far, every ten thousand and at the end.
        named: Keys of cards that never show them, each as the name that it is found under, 16 bytes, and its
            SubjectPublicKeyInfo.

    Returns:
        The number of different entries.

    Raises:
        ListError: A key cannot be enrolled (`refuse_key`); nothing is left behind.
    """

    def fill(connection: apsw.Connection) -> int:
        connection.execute(_STAGED)
        stage(connection, _STAGE, _rows(path, spkis, named), progress)
        # Sorted, so that the tree is packed page by page and a gate reads as few as it can.
        connection.execute(_SCHEMA)
        try:
            connection.execute(_COPY)
        except apsw.ConstraintError:
            raise ListError(path, "two different keys have the same id or name: one was made to") from None
        (count,) = connection.execute(_COUNT).fetchone() or (0,)
        return int(count)

    return write_new(path, FORMAT, fill)


def _in_curve_form(spki: bytes) -> bool:
    form = _CURVE_FORMS.get(len(spki))
    return form is not None and spki.startswith(form)


def _rows(
    path: Path, spkis: Iterable[bytes], named: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes, int]]:
    for number, spki in enumerate(spkis, 1):
        why = refuse_key(spki)
        if why is not None:
            raise ListError(path, f"key {number}: {why}")
        yield credential_id(spki), spki, 0
    for number, (name, spki) in enumerate(named, 1):
        why = refuse_key(spki) if len(name) == CREDENTIAL_ID_BYTES else f"a name of {len(name)} bytes"
        if why is not None:
            raise ListError(path, f"named key {number}: {why}")
        yield name, spki, 1

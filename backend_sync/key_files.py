"""Public keys in the files that people and machines bring.

| a file | holds |
|---|---|
| PEM | any number of ``PUBLIC KEY`` blocks |
| DER | one SubjectPublicKeyInfo |
| CSV in UTF-8 | a key on each line, in hexadecimal: an X9.63 point on P-256 or P-384, or a SubjectPublicKeyInfo |

In a CSV file with more than one column, a header names the one with the keys ``public_key``; a line that begins with
``#`` is a comment. Files are read as they are needed: a million keys cost no memory. A folder holds such files and
nothing else: what is skipped in silence is a card that no gate lets in, and nobody knows why.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from backend_sync.publish_errors import InputMissing, PublishError
from validator.certificates import HOSTILE, CardKey, CertificateError, load_key, spki_of
from validator.lists.enrolled_list import refuse_key, spki_of_point
from validator.model import CREDENTIAL_ID_BYTES

NAME, COLUMN = "name", "public_key"
_MAX_DER_BYTES = 4096
_BEGIN, _END, _PUBLIC = "-----BEGIN ", "-----END ", "PUBLIC KEY-----"
_COMPRESSED: dict[int, type[ec.EllipticCurve]] = {33: ec.SECP256R1, 49: ec.SECP384R1}


def enrolled_keys(path: Path) -> Iterator[bytes]:
    """Yield the SubjectPublicKeyInfo, DER, of each key in a file, or in all files of a folder, that can be enrolled.

    Raises:
        InputMissing: A file cannot be read.
        PublishError: Something in it is no such key, the message names file and line; or something in a folder is
            hidden, no file, or without a key.
    """
    for where, spki in _located(path):
        why = refuse_key(spki)
        if why is not None:
            raise PublishError(f"{where}: {why}")
        yield spki


def one_key(path: Path) -> CardKey:
    """Read a file that holds one public key.

    Raises:
        InputMissing: It cannot be read.
        PublishError: It holds something else, or more than one.
    """
    keys = [load_key(spki) for _, spki in _located(path)]
    if len(keys) != 1:
        raise PublishError(f"{path}: holds {len(keys)} public keys, one is wanted")
    return keys[0]


def named_keys(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and SubjectPublicKeyInfo, DER, of each card that never shows its key: CSV, both in hexadecimal.

    Raises:
        InputMissing: The file cannot be read.
        PublishError: A line holds something else; the message names file and line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {NAME, COLUMN} <= set(rows.fieldnames or ()):
                raise PublishError(f"{path}: its first line names no columns {NAME} and {COLUMN}")
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                spki = _of_hex(where, row[COLUMN] or "")
                why = refuse_key(spki)
                if why is not None:
                    raise PublishError(f"{where}: {why}")
                yield _name(where, row[NAME] or ""), spki
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror or error}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise PublishError(f"{path}: {error}") from None


def _name(where: str, digits: str) -> bytes:
    try:
        name = bytes.fromhex(digits)
    except ValueError:
        name = b""
    if len(name) != CREDENTIAL_ID_BYTES:
        raise PublishError(f"{where}: a name has {2 * CREDENTIAL_ID_BYTES} hexadecimal digits")
    return name


def _located(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield where each key is, for an error, and the key in the encoding that its credential id is made of."""
    try:
        if path.is_dir():
            for each in sorted(path.iterdir()):
                yield from _of_folder(each)
        else:
            yield from _of_file(path)
    except OSError as error:
        raise InputMissing(f"{error.filename or path}: {error.strerror or error}") from None


def _of_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.name.startswith(".") or not path.is_file():
        raise PublishError(f"{path}: is hidden, or no file: have files of keys in their folder and nothing else")
    keys = _of_file(path)
    first = next(keys, None)
    if first is None:
        raise PublishError(f"{path}: there is no key in it; take it out of the folder if that is meant")
    yield first
    yield from keys


def _of_file(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        start = file.peek()
        if b"\0" in start:  # in every DER key, and in no text
            yield str(path), _of_der(str(path), file.read(_MAX_DER_BYTES + 1))
            return
        lines = io.TextIOWrapper(file, "utf-8-sig", newline="")
        try:
            yield from _of_pem(path, lines) if _BEGIN.encode() in start else _of_csv(path, lines)
        except UnicodeDecodeError as error:
            raise PublishError(f"{path}: is not text in UTF-8: {error}") from None


def _of_pem(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    block, where = "", ""
    for number, line in enumerate(lines, 1):
        if line.startswith(_BEGIN):
            if block:
                raise PublishError(f"{where}: a public key without an end")
            block, where = line, f"{path}, line {number}"
            if line.strip() != _BEGIN + _PUBLIC:
                raise PublishError(f"{where}: {line.strip()} is not the beginning of a public key")
        elif block:
            block += line
            if line.startswith(_END):
                yield where, _loaded(where, block)
                block = ""
    if block:
        raise PublishError(f"{where}: a public key without an end")


def _loaded(where: str, pem: str) -> bytes:
    try:
        key = load_pem_public_key(pem.encode())
    except HOSTILE as error:
        raise PublishError(f"{where}: not a public key: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise PublishError(f"{where}: a key of kind {type(key).__name__}")
    return spki_of(key)


def _of_csv(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    rows = csv.reader(lines)
    column: int | None = None
    try:
        for row in rows:
            if not any(row) or row[0].lstrip().startswith("#"):
                continue
            where = f"{path}, line {rows.line_num}"
            if column is None:
                names = [cell.strip().lower() for cell in row]
                column = names.index(COLUMN) if COLUMN in names else 0
                if COLUMN in names:
                    continue
                if len(row) > 1:
                    raise PublishError(f"{where}: {len(row)} columns, and no header names one of them {COLUMN}")
            if column >= len(row):
                raise PublishError(f"{where}: has no column {column + 1}, {COLUMN}")
            yield where, _of_hex(where, row[column])
    except csv.Error as error:
        raise PublishError(f"{path}, line {rows.line_num}: {error}") from None


def _of_hex(where: str, digits: str) -> bytes:
    try:
        octets = bytes.fromhex(digits)
    except ValueError:
        raise PublishError(f"{where}: not a key in hexadecimal") from None
    if octets[:1] == b"\x30":
        return _of_der(where, octets)
    spki = spki_of_point(octets)
    if spki is not None:
        return spki
    curve = _COMPRESSED.get(len(octets))
    if curve is None:
        raise PublishError(
            f"{where}: {len(octets)} bytes are neither a point on P-256 or P-384 nor a public key in DER"
        )
    try:
        return spki_of(ec.EllipticCurvePublicKey.from_encoded_point(curve(), octets))
    except HOSTILE:
        raise PublishError(f"{where}: not a point on {curve.name}") from None


def _of_der(where: str, der: bytes) -> bytes:
    try:
        return spki_of(load_key(der))
    except CertificateError as error:
        raise PublishError(f"{where}: {error}") from None

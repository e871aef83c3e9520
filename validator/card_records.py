"""What the cards of a batch are made from: the decrypted records file, which holds tokens and is kept like a key."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from validator.secret_files import read_secret, wipe

TOKEN_BYTES: Final = 16
MAX_BYTES: Final = 16 * 1024 * 1024
"""A file of a batch holds 50,000 records of some 120 bytes."""

_COLUMNS = ("serial", "token", "key_version")
_SERIAL = re.compile(r"[0-9]{1,18}")
_TOKEN = re.compile(r"[0-9A-Fa-f]{32}")
_VERSION = re.compile(r"[0-9]{1,3}")
_LAST_VERSION = 255


class PersonalisationError(Exception):
    """Cards cannot be personalised; the message names the file or the card and what to do, never a token or a key."""


@dataclass(frozen=True, slots=True)
class CardRecord:
    """What one card is made from.

    Attributes:
        serial: Names it in the report.
        token: The account token, 16 bytes.
        key_version: Version of the operator keys that its own are derived from.
    """

    serial: int
    token: bytes = field(repr=False)
    key_version: int


def load_records(path: Path) -> tuple[CardRecord, ...]:
    """Read a records file: CSV with a heading, its columns ``serial``, ``token`` and ``key_version`` among others.

    Raises:
        SecretError: It cannot be read, or others may read it.
        PersonalisationError: It is something else; the message tells the line, and nothing that is in it.
    """
    content = read_secret(path.parent, path, MAX_BYTES)
    try:
        lines = content.decode("ascii", "replace").splitlines()
        if len(content) > MAX_BYTES:
            raise PersonalisationError(f"{path}: more than {MAX_BYTES} bytes: give one records file of a batch")
    finally:
        wipe(content)
    heading = lines[0].split(",") if lines else []
    if not set(_COLUMNS) <= set(heading):
        raise PersonalisationError(f"{path}: give a batch's decrypted records, with the columns {', '.join(_COLUMNS)}")
    places = [heading.index(name) for name in _COLUMNS]
    records = tuple(_record(path, number, line, places, len(heading)) for number, line in enumerate(lines[1:], 2))
    if len({one.serial for one in records}) != len(records) or len({one.token for one in records}) != len(records):
        raise PersonalisationError(f"{path}: a serial number or a token is there twice: decrypt the file anew")
    return records


def _record(path: Path, number: int, line: str, places: list[int], width: int) -> CardRecord:
    cells = line.split(",")
    if len(cells) == width:
        serial, token, version = (cells[place] for place in places)
        blank = len(set(token)) <= 1  # what an unwritten file holds, zeros or ones
        formed = _SERIAL.fullmatch(serial) and _TOKEN.fullmatch(token) and _VERSION.fullmatch(version)
        if formed and not blank and int(version) <= _LAST_VERSION:
            return CardRecord(int(serial), bytes.fromhex(token), int(version))
    raise PersonalisationError(f"{path}, line {number}: is no record of a card: decrypt the file anew")

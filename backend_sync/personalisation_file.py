"""What a card bureau gets for one batch: a folder of files that only it can read, and a manifest that we signed.

    manifest.json                  what the batch is, and the SHA-256 of every other file
    manifest.json.p7s              detached signature (CMS SignedData, DER)
    records-0001.csv.p7m ...       serial, token, key_version, reference: 50,000 cards each (CMS EnvelopedData, DER)
    NAME.VERSION.p7m               an operator key, 16 octets (CMS EnvelopedData, DER)

Tokens are encrypted although no gate believes a token alone: it is read under a key of the card's own. But that key
follows from the operator key, and whoever has stolen a gate may have that one. Then tokens are all that is missing to
copy the card of any account, and a million of them must not lie readable on a stick in the post. Whole CSV files are
encrypted, so that a bureau needs no program but ``openssl``; of bounded size, since CMS is made in memory.

What is in the files follows from the ledger alone. They may be written again as often as it takes. A card that ended
before they are written is left out, and the manifest says which.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend_sync.bureau import Bureau, OperatorKey, Signer, fingerprint
from backend_sync.enrolment import CardOrder, CardRecord
from backend_sync.enrolment_errors import EnrolmentError

RECORDS_PER_FILE = 50_000
FORMAT = "pilet-card-batch/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.p7s"

_COLUMNS = {
    "serial": "decimal number, unique over all batches; the answer names the card by it",
    "token": "16 octets, hexadecimal; written where the family's layout has the account token",
    "key_version": "version of the operator keys that the card's own keys are derived from, by its UID (AN10922)",
    "reference": "for the shipping label; may be empty",
}


@dataclass(frozen=True, slots=True)
class Packing:
    """Who a batch is for, who answers for it, and which keys go along."""

    bureau: Bureau
    signer: Signer
    keys: Sequence[OperatorKey]


def write_batch(
    folder: Path,
    order: CardOrder,
    records: Callable[[int, int], tuple[Sequence[CardRecord], Sequence[int]]],
    packing: Packing,
    progress: Callable[[int], None],
) -> bytes:
    """Write all files of a batch into an empty folder; when this returns, they are durable.

    Args:
        folder: Where to.
        order: The batch.
        records: Returns what cards are made from, and which are not to be made, by first serial number and count.
        packing: Who it is for.
        progress: Told how many records are written.

    Returns:
        SHA-256 of the manifest.

    Raises:
        EnrolmentError: A record is not there although its card is to be made.
        OSError: A file cannot be written.
    """
    parts: list[dict[str, Any]] = []
    left_out: list[int] = []
    for number, first in enumerate(range(order.first_serial, order.serials.stop, RECORDS_PER_FILE), 1):
        count = min(RECORDS_PER_FILE, order.serials.stop - first)
        part, ended = records(first, count)
        if sorted([*(one.serial for one in part), *ended]) != list(range(first, first + count)):
            raise EnrolmentError(
                f"batch {order.name}: the ledger lacks what some of its cards are made from; was it changed by hand? "
                "Order those accounts under a new name, with --replace"
            )
        left_out += ended
        if part:
            plain = _table(part, order.key_version)
            written = _seal(folder / f"records-{number:04}.csv.p7m", plain, packing.bureau)
            parts.append({"first_serial": part[0].serial, "records": len(part), **written})
        progress(first + count - order.first_serial)
    keys = [_key(folder, key, packing.bureau) for key in packing.keys]
    manifest = json.dumps(_manifest(order, packing, parts, left_out, keys), indent=1).encode() + b"\n"
    _write(folder / MANIFEST, manifest)
    _write(folder / SIGNATURE, packing.signer.sign(manifest))
    sync(folder)
    return hashlib.sha256(manifest).digest()


def manifest_digest(folder: Path) -> bytes | None:
    """Return the SHA-256 of a folder's manifest; None if there is none."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).digest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def put_in_place(building: Path, home: Path) -> None:
    """Give a folder that is durable its name, durably."""
    building.rename(home)
    sync(home.parent)


def sync(path: Path) -> None:
    """Have a file or a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(records: Sequence[CardRecord], key_version: int) -> bytes:
    """No cell needs a quote: what may be in one has neither comma nor line break."""
    lines = [",".join(_COLUMNS)]
    lines += [f"{one.serial},{one.token.hex()},{key_version},{one.reference}" for one in records]
    return ("\n".join(lines) + "\n").encode()


def _key(folder: Path, key: OperatorKey, bureau: Bureau) -> dict[str, Any]:
    sealed = _seal(folder / f"{key.name}.{key.version}.p7m", key.octets, bureau)
    if key.context is None:
        use, context = "the same in all cards", None
    else:
        use, context = (
            "each card holds the AES-128 key that AN10922 derives: CMAC of 01, UID, context",
            key.context.hex(),
        )
    # The hash of a key would let anybody try keys on it; three octets of a CMAC say enough.
    return {
        "name": key.name,
        "version": key.version,
        "use": use,
        "context": context,
        "check_value": key.check_value,
        "file": sealed["file"],
        "sha256": sealed["sha256"],
    }


def _seal(path: Path, plain: bytes, bureau: Bureau) -> dict[str, Any]:
    sealed = bureau.wrap(plain)
    _write(path, sealed)
    return {
        "file": path.name,
        "bytes": len(sealed),
        "sha256": hashlib.sha256(sealed).hexdigest(),
        "content_sha256": hashlib.sha256(plain).hexdigest(),
    }


def _manifest(
    order: CardOrder,
    packing: Packing,
    parts: list[dict[str, Any]],
    left_out: list[int],
    keys: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "batch": order.name,
        "family": order.family.value,
        "ordered": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(order.ordered_ms // 1000)),
        "cards": order.cards - len(left_out),
        "first_serial": order.first_serial,
        "last_serial": order.serials[-1],
        "left_out": left_out,
        "key_version": order.key_version,
        "bureau_certificate_sha256": fingerprint(packing.bureau.certificate),
        "signer_certificate_sha256": fingerprint(packing.signer.certificate),
        "layout": {"encoding": "CSV, UTF-8, one heading in each file, lines end with LF", "columns": _COLUMNS},
        "records": parts,
        "keys": keys,
    }


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

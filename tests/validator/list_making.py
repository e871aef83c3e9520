"""Makes signed lists, and what is on them, for the tests of the list directory."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ObjectIdentifier

from tests.fares.travel import TARIFFS
from tests.validator.authority import Authority, Extension, card_key, usage
from validator.card_index import TOKENS
from validator.certificates import credential_id, spki_of
from validator.fares.editions import Edition, Place, encode_editions
from validator.list_facts import CardStatus
from validator.lists.deny_list import encode_deny_list
from validator.lists.directory import payload_root
from validator.lists.enrolled_list import write_enrolled_file
from validator.lists.gate_rules import GateRules, StalePolicy, encode_gate_rules
from validator.lists.manifest import ListKind, Manifest, seal_manifest
from validator.lists.status_array import pack, write_status_file
from validator.lists.ticket_store import write_ticket_store
from validator.lists.trust_list import encode_trust_list
from validator.model import KeyAlgorithm
from validator.rights import Product, ProductKind

KEY = Ed25519PrivateKey.generate()
KEYS = {"publisher": KEY.public_key()}
ISSUED, NOT_AFTER = 1_790_000_000, 1_790_086_400
SOMEBODY = bytes(range(16))
PASS = Product(1, ProductKind.PERIOD_PASS, 1_780_000_000, 1_800_000_000, 1_780_000_000)
TARIFF_PLACES = {"central": Place("city", "A1", "A1", "metro")}

CONTENT_SIGNING = ObjectIdentifier("2.16.840.1.101.3.6.7")


@functools.cache
def enrolled_spkis() -> tuple[bytes, ...]:
    """Keys of each kind that can be enrolled, most of them P-256."""
    kinds = [*[KeyAlgorithm.P256] * 12, KeyAlgorithm.P384, KeyAlgorithm.RSA2048, KeyAlgorithm.RSA3072]
    return tuple(spki_of(card_key(kind, number).public_key()) for number, kind in enumerate(kinds))


def enrolled_one() -> tuple[bytes, bytes]:
    """The credential id and the key that are on each good list of enrolled keys."""
    spki = enrolled_spkis()[0]
    return credential_id(spki), spki


def gate_rules(version: int) -> GateRules:
    """A configuration that says something else in each version."""
    return GateRules({ListKind.DENY: StalePolicy(version, value_limit=100)})


def for_signing(identifier: bytes, *, purpose: ObjectIdentifier = CONTENT_SIGNING) -> Sequence[Extension]:
    """What a content signer's certificate carries."""
    return (
        (x509.ExtendedKeyUsage([purpose]), True),
        (usage(sign=True), True),
        (x509.SubjectKeyIdentifier(identifier), False),
    )


def content_signer(name: str, identifier: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> x509.Certificate:
    """A content signer's certificate; who issued it is nobody's concern who has it on a list."""
    return Authority.root(name, extensions=for_signing(identifier), key=key).certificate


@dataclass(frozen=True)
class Candidate:
    """A list as it reaches a device."""

    manifest: Manifest
    sealed: bytes
    payload: Path


def candidate(
    payload: Path,
    kind: ListKind,
    version: int,
    *,
    key: Ed25519PrivateKey = KEY,
    signer: str = "publisher",
    issued_s: int = ISSUED,
    horizons: Mapping[str, tuple[int, int]] | None = None,
    root: bytes = b"",
) -> Candidate:
    """Sign whatever a payload file holds."""
    with payload.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    manifest = Manifest(
        kind=kind,
        region="north",
        version=version,
        issued_s=issued_s,
        not_after_s=NOT_AFTER,
        payload_sha256=digest,
        payload_bytes=payload.stat().st_size,
        horizons=horizons or {},
        root=root,
    )
    return Candidate(manifest, seal_manifest(manifest, key, signer), payload)


def good(folder: Path, kind: ListKind, version: int, authority: Authority) -> Candidate:
    """A list that a device takes; the version shows in what it says about `SOMEBODY`."""
    folder.mkdir(parents=True, exist_ok=True)
    payload = folder / f"{kind}-{version}"
    payload.unlink(missing_ok=True)
    match kind:
        case ListKind.TRUST:
            payload.write_bytes(encode_trust_list([authority.certificate], []))
        case ListKind.DENY:
            payload.write_bytes(encode_deny_list([SOMEBODY, version.to_bytes(16)]))
        case ListKind.TICKETS:
            write_ticket_store(payload, [(SOMEBODY, PASS)])
        case ListKind.ENROLLED:
            write_enrolled_file(payload, enrolled_spkis()[:3])
        case ListKind.CONFIG:
            payload.write_bytes(encode_gate_rules(gate_rules(version)))
        case ListKind.STATUS:
            write_status_file(payload, [(TOKENS, version + 1, pack([CardStatus.LOW] * version + [CardStatus.OK]))])
        case ListKind.TARIFF:
            payload.write_bytes(encode_editions([Edition(version, ISSUED, TARIFFS, TARIFF_PLACES)]))
    horizons = {"gate-1": (1, version)} if kind is ListKind.TICKETS else None
    return candidate(payload, kind, version, horizons=horizons, root=payload_root(kind, payload))

"""PKOC, secure element profile 1 (NFC v1.x): a card signs a fresh number and shows a bare key.

Two exchanges: SELECT, AUTHENTICATE. The card signs the 16 bytes of our transaction identifier and nothing else: neither
the gate nor the moment nor the version is covered, so that only the freshness of that number keeps a signature from
being worth something elsewhere. It is drawn anew for every AUTHENTICATE, the repeated one included.

Nobody vouches for the key but an enrolment. Any phone can make a key and sign with it: the presented key says where to
look, the enrolled one decides (`validator.trust`).

A card of profile 2 may speak profile 1 as well. Where a gate takes both, profile 2 is asked first, so that its issuer's
word is not lost.
"""

import hashlib
from collections.abc import Generator

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, ApduExchange, CommandApdu, ResponseApdu, drain, send
from hardware.tlv import TlvError
from validator.certificates import spki_of
from validator.model import Assurance, KeyAlgorithm
from validator.pkoc_cvc import PkocCvcError, der_signature, load_point
from validator.profiles.attempt import Attempt
from validator.profiles.errors import CardMalformed, CardRefused, WrongFamily
from validator.proof import BareKey, CardProof, Signed

NAME = "pkoc1"

AID = bytes.fromhex("A000000898000001")
"""PKOC application; both profiles live under it."""

VERSION = b"\x01\x00"
"""Protocol version that is spoken here; the answer to SELECT lists those of the card."""

TRANSACTION_BYTES = 16

_VERSIONS, _TRANSACTION, _READER, _KEY, _SIGNATURE = 0x5C, 0x4C, 0x4D, 0x5A, 0x9E
_STEP = "AUTHENTICATE"
_INTERINDUSTRY = 0x00
_LE_MATTERS = frozenset({SW.WRONG_LENGTH, SW.UNKNOWN_ERROR})
_UNKNOWN = frozenset({SW.INSTRUCTION_NOT_SUPPORTED, SW.CLASS_NOT_SUPPORTED})

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def reader_identifier(region: str, gate: str) -> bytes:
    """Return what a gate calls itself, so that a phone can choose among its keys: site and reader, 16 bytes each.

    Always the same for one gate, and unlike that of any other; the names themselves are not told to a card.

    Args:
        region: The network: the site.
        gate: The gate: the reader.
    """
    return _hashed(b"pilet-pkoc-site/1", region) + _hashed(b"pilet-pkoc-reader/1", gate)


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Talk to one card until it has signed our transaction identifier, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: What the card answered when its application was selected.

    Returns:
        The key that it showed and its signature. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    if not selected.ok:
        raise WrongFamily(f"no PKOC application: {selected.sw:04X}")
    if VERSION not in _versions(selected.data):
        raise WrongFamily("a PKOC application that does not offer version 1.0")
    try:
        return (yield from _collect(attempt))
    except (ApduError, TlvError, PkocCvcError) as error:
        raise CardMalformed(str(error)) from None


def _versions(answer: bytes) -> list[bytes]:
    """Versions of two bytes each that the answer to SELECT lists; none where it cannot be read."""
    try:
        lists = [item.value for item in tlv.parse(answer) if item.tag == _VERSIONS]
    except TlvError:
        return []
    if len(lists) != 1 or len(lists[0]) % 2:
        return []
    return [lists[0][at : at + 2] for at in range(0, len(lists[0]), 2)]


def _collect(attempt: Attempt) -> _Collect:
    transaction = attempt.random(TRANSACTION_BYTES)
    answer = yield from _authenticate(attempt, transaction, le=SHORT_LE_MAX)
    if answer.sw in _LE_MATTERS:  # some cards take a command with Le for one of the wrong length
        transaction = attempt.random(TRANSACTION_BYTES)
        answer = yield from _authenticate(attempt, transaction, le=None)
    if answer.sw in _UNKNOWN:
        raise WrongFamily(f"a PKOC application that does not know {_STEP}: {answer.sw:04X}")
    if not answer.ok:
        raise CardRefused(_STEP, answer.sw)
    point, raw = _read(answer.data)
    shown = BareKey(spki_of(load_point(point)))
    return CardProof(NAME, Assurance.CHIP, shown, Signed(transaction, der_signature(raw), KeyAlgorithm.P256))


def _authenticate(attempt: Attempt, transaction: bytes, *, le: int | None) -> ApduExchange:
    data = (
        tlv.encode(_VERSIONS, VERSION)
        + tlv.encode(_TRANSACTION, transaction)
        + tlv.encode(_READER, reader_identifier(attempt.region, attempt.gate))
    )
    first = yield from send(CommandApdu(0x80, 0x80, 0x00, 0x01, data, le=le))
    return (yield from drain(_INTERINDUSTRY, first))  # GET RESPONSE is no command of PKOC's own class


def _read(answer: bytes) -> tuple[bytes, bytes]:
    """Return key and signature, in whichever order they came; objects that are not known here are left alone."""
    items = tlv.parse(answer)
    objects = {item.tag: item.value for item in items}
    if len(objects) != len(items):
        raise CardMalformed(f"an object twice in the answer to {_STEP}")
    if not {_KEY, _SIGNATURE} <= objects.keys():
        raise CardMalformed(f"no key or no signature in the answer to {_STEP}")
    return objects[_KEY], objects[_SIGNATURE]


def _hashed(domain: bytes, name: str) -> bytes:
    return hashlib.sha256(domain + b"\x00" + name.encode()).digest()[:16]

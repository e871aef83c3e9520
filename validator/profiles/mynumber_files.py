"""How each application of a MyNumber card is selected, read, opened and made to sign (JICSAP 1.1, and J-LIS's own).

There is no published specification. The commands are those of OpenSC's ``card-jpki.c``, jpki/myna and
soltia48/myna-card, which agree; the last one measured its status words on cards. All of it crosses the air in the
clear, secrets included: the card has no secure messaging for these applications.
"""

import hashlib
from collections.abc import Generator

from hardware.apdu import SHORT_LE_MAX, ApduExchange, CommandApdu, ResponseApdu, drain, exchange, send
from validator.profiles.errors import CardMalformed, CardRefused, PinAtRisk, PinBlocked, WrongPin

SIGNATURE_BYTES = 256
"""Every key that this card signs with is RSA-2048."""

MAX_OBJECT_BYTES = 4096
"""Bound on an object in a file: certificates have some 1.6 KiB, records and card-verifiable certificates 0.6."""

CURRENT_FILE, DEFAULT_KEY = 0x80, 0x00
"""P2 of the signing command: the key file that is selected, or the key that an application signs with by itself."""

_MAX_READS = 32
_DIGEST_INFO_SHA256 = bytes.fromhex("3031300D060960864801650304020105000420")  # RFC 8017 §9.2, note 1
_END_OF_FILE = 0x6282
_BLOCKED = frozenset({0x63C0, 0x6983, 0x6984})
_BLANK = frozenset({0x00, 0xFF})


def select_application(name: bytes) -> ApduExchange:
    """Select an application by its whole name, without asking for a template: no other form is known to be answered."""
    return (yield from exchange(CommandApdu(0x00, 0xA4, 0x04, 0x0C, name)))


def select_file(identifier: int) -> ApduExchange:
    """Select a file or a secret of the application that is selected, by its file identifier."""
    return (yield from exchange(CommandApdu(0x00, 0xA4, 0x02, 0x0C, identifier.to_bytes(2))))


def read_object(what: str) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Read the data object that the selected file begins with; filler behind it is left out.

    Args:
        what: The file, in words, for messages.

    Returns:
        The object with its tag and length; empty where the file was never written.

    Raises:
        CardRefused: The card does not let it be read.
        CardMalformed: The file ends early, or does not begin with an object of at most 4 KiB.
        ApduError: An answer left its bounds.
    """
    content, wanted = b"", SHORT_LE_MAX
    for _ in range(_MAX_READS):
        le = min(SHORT_LE_MAX, wanted - len(content))
        offset = len(content)
        answer = yield from exchange(CommandApdu(0x00, 0xB0, offset >> 8, offset & 0xFF, le=le))
        if not answer.ok and answer.sw != _END_OF_FILE:
            raise CardRefused(f"READ BINARY of {what}", answer.sw)
        if not content:
            if _BLANK.issuperset(answer.data):
                return b""
            wanted = _object_bytes(answer.data, what)
        if not answer.data:
            raise CardMalformed(f"{what} ends early")
        content += answer.data
        if len(content) >= wanted:
            return content[:wanted]
    raise CardMalformed(f"{what} comes in more than {_MAX_READS} pieces")


def present(reference: int, secret: bytearray, *, digits: int, what: str) -> Generator[CommandApdu, ResponseApdu, None]:
    """Show the card a secret, once, where enough tries are left to be wrong.

    Args:
        reference: File identifier of the secret.
        secret: Digits in ASCII.
        digits: How many it has; another number of them is not shown to the card, which would count it as a try.
        what: The secret, in words, for messages.

    Raises:
        PinBlocked: No tries are left.
        PinAtRisk: One is left, and was not spent.
        WrongPin: It is not the secret.
        CardRefused: The card has no such secret, or does not answer as one that has.
        CardMalformed: The card does not say how many tries are left.
        ApduError: An answer left its bounds.
    """
    selected = yield from select_file(reference)
    if not selected.ok:
        raise CardRefused(f"SELECT of {what}", selected.sw)
    left = yield from _tries_left(what)
    if left == 1:
        raise PinAtRisk(f"one try is left for {what}, and it is its holder's to spend")
    if len(secret) != digits or not secret.isdigit():
        raise WrongPin(left)
    answer = yield CommandApdu(0x00, 0x20, 0x00, CURRENT_FILE, bytes(secret))
    if answer.ok:
        return
    if answer.sw in _BLOCKED:
        raise PinBlocked(f"no tries are left for {what}")
    if answer.sw & 0xFFF0 == 0x63C0:
        raise WrongPin(answer.sw & 0x0F)
    raise CardRefused(f"VERIFY of {what}", answer.sw)


def sign(key: int, message: bytes) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Have a key of the selected application sign a message: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2).

    Args:
        key: `CURRENT_FILE` or `DEFAULT_KEY`.
        message: What is signed; the card is given the DigestInfo of its digest, and pads that.

    Returns:
        The signature, 256 bytes.

    Raises:
        CardRefused: The card does not sign.
        CardMalformed: What it answers is no signature of RSA-2048.
        ApduError: An answer left its bounds.
    """
    digest_info = _DIGEST_INFO_SHA256 + hashlib.sha256(message).digest()
    first = yield from send(CommandApdu(0x80, 0x2A, 0x00, key, digest_info, le=SHORT_LE_MAX))
    answer = yield from drain(0x00, first)  # GET RESPONSE is no command of J-LIS's own class
    if not answer.ok:
        raise CardRefused("COMPUTE DIGITAL SIGNATURE", answer.sw)
    if len(answer.data) != SIGNATURE_BYTES:
        raise CardMalformed(f"a signature of {len(answer.data)} bytes by an RSA-2048 key")
    return answer.data


def _tries_left(what: str) -> Generator[CommandApdu, ResponseApdu, int]:
    """VERIFY without data asks and spends nothing (JICSAP 1.1 §6.4.9); at least 1."""
    answer = yield CommandApdu(0x00, 0x20, 0x00, CURRENT_FILE)
    if answer.sw in _BLOCKED:
        raise PinBlocked(f"no tries are left for {what}")
    if answer.sw & 0xFFF0 != 0x63C0:
        raise CardMalformed(f"the card does not say how many tries are left for {what}")
    return answer.sw & 0x0F


def _object_bytes(head: bytes, what: str) -> int:
    """How long an object is, tag and length included: tags of one or two bytes, lengths of up to two."""
    position = 2 if head[0] & 0x1F == 0x1F else 1
    form = head[position : position + 1]
    count = max(0, form[0] - 0x80) if form else 0
    length = head[position + 1 : position + 1 + count]
    if not form or form[0] == 0x80 or count > 2 or len(length) != count:
        raise CardMalformed(f"{what} does not begin with a data object")
    total = position + 1 + count + (int.from_bytes(length) if count else form[0])
    if total > MAX_OBJECT_BYTES:
        raise CardMalformed(f"{what} says that it has {total} bytes")
    return total

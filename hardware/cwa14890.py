"""Internal authentication of CWA 14890-1 (§8.4.1) as the Spanish DNIe speaks it, in both roles: what proves its chip.

The terminal sends RND.IFD || SN.IFD. The card signs 74 random bytes (PRND1), 32 bytes of a key (K.ICC), RND.IFD and
SN.IFD with its component key (`hardware.iso9796`, SHA-1), and encrypts the smaller one of the two signatures to the
terminal's public key::

    E[PK.IFD](SIGMIN),  SIGMIN = min(SIG, n - SIG),  SIG over 6A || PRND1 || K.ICC || SHA-1(… || RND || SN) || BC

Before that the card wants to be shown who asks: a card-verifiable certificate of the terminal and one of its issuer,
both ISO/IEC 9796-2 signatures that carry most of what they certify (§14.7). The terminals' keys are published, the
private ones as well, and are the same in every reader: they prove no terminal, and only open what the card says.

The session that could follow (external authentication, secure messaging with triple DES) is not opened here.
"""

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from hardware import iso9796, tlv
from hardware.iso9796 import Iso9796Error, Production
from hardware.tlv import TlvError

CHALLENGE_BYTES = 8
"""RND.IFD."""
SERIAL_BYTES = 8
"""SN.IFD: the last eight bytes of the name in the terminal's certificate."""
KEY_BYTES = 32
"""K.ICC, half of the keys of a session."""
PUBLIC_EXPONENT = 65537

_REFERENCE_BYTES = 12
_AUTHORITY_BYTES = 8
_AUTHORIZATION_BYTES = 7
_EXPONENT_BYTES = 4
_MAX_OID_BYTES = 16
_CERTIFICATE, _SIGNATURE, _REMAINDER, _AUTHORITY = 0x7F21, 0x5F37, 0x5F38, 0x42


class Cwa14890Error(ValueError):
    """A message, certificate or file of keys is none of this protocol's."""


def challenge_of(message: bytes) -> bytes:
    """Return RND.IFD, 8 bytes: a message that binds gate, time and fresh randomness, hashed and cut.

    Args:
        message: What the answer is to be bound to.
    """
    return hashlib.sha256(b"cwa14890/1" + message).digest()[:CHALLENGE_BYTES]


def answer(
    card: tuple[int, int],
    terminal: RSAPublicNumbers,
    command: bytes,
    session_key: bytes,
    random: Callable[[int], bytes],
) -> bytes:
    """Answer INTERNAL AUTHENTICATE, as a card does.

    Args:
        card: Modulus and private exponent of the component key.
        terminal: The key of the terminal that showed its certificate.
        command: RND.IFD || SN.IFD, 16 bytes.
        session_key: K.ICC, 32 bytes.
        random: Returns that many random bytes.

    Returns:
        The encrypted signature, as long as the terminal's modulus.

    Raises:
        Cwa14890Error: The command or the key has another length, or the keys do not fit each other.
        Iso9796Error: The component key is none of this scheme.
    """
    if len(command) != CHALLENGE_BYTES + SERIAL_BYTES or len(session_key) != KEY_BYTES:
        raise Cwa14890Error(f"{len(command)} bytes are no challenge of a terminal")
    modulus, exponent = card
    filling = random(iso9796.capacity((modulus.bit_length() + 7) // 8) - KEY_BYTES)
    signature = iso9796.sign(modulus, exponent, filling + session_key + command, production=Production.SMALLER)
    number = int.from_bytes(signature)
    if number >= terminal.n:
        raise Cwa14890Error("the signature is larger than the terminal's modulus")
    return pow(number, terminal.e, terminal.n).to_bytes((terminal.n.bit_length() + 7) // 8)


def verify_answer(card: RSAPublicNumbers, challenge: bytes, serial: bytes, signature: bytes) -> bytes:
    """Verify SIGMIN, as a terminal does once it has opened the card's answer.

    Args:
        card: The component key, which somebody has to vouch for.
        challenge: RND.IFD, 8 bytes: ours, and fresh.
        serial: SN.IFD, 8 bytes.
        signature: SIGMIN, as long as the component key's modulus.

    Returns:
        K.ICC, 32 bytes.

    Raises:
        Cwa14890Error: It does not hold.
    """
    if len(challenge) != CHALLENGE_BYTES or len(serial) != SERIAL_BYTES:
        raise Cwa14890Error("a challenge or a serial number of another length")
    try:
        message = iso9796.recover(card, signature, challenge + serial, production=Production.SMALLER)
    except Iso9796Error as error:
        raise Cwa14890Error(str(error)) from None
    return message[-KEY_BYTES:]


@dataclass(frozen=True, slots=True)
class TerminalCertificate:
    """A card-verifiable certificate, opened (CWA 14890-1 §14.7).

    Attributes:
        profile: CPI, how the rest is laid out.
        authority: CAR, 8 bytes: names the key that signed it.
        holder: CHR, 12 bytes: names the key that it certifies.
        authorization: CHA, 7 bytes.
        oid: Value of the object identifier of what the key is for.
        key: The key.
    """

    profile: int
    authority: bytes
    holder: bytes
    authorization: bytes
    oid: bytes
    key: RSAPublicNumbers

    @classmethod
    def open(cls, octets: bytes, issuer: RSAPublicNumbers) -> Self:
        """Verify a certificate and take out what it carries, as a card does.

        Args:
            octets: The whole ``7F21`` object.
            issuer: The key that has to have signed it.

        Raises:
            Cwa14890Error: It does not hold, or it is not one.
        """
        try:
            fields = {item.tag: item.value for item in tlv.parse(tlv.parse_one(octets, _CERTIFICATE))}
            if fields.keys() != {_SIGNATURE, _REMAINDER, _AUTHORITY}:
                raise Cwa14890Error("a certificate that does not consist of signature, remainder and authority")
            remainder = fields[_REMAINDER]
            body = iso9796.recover(issuer, fields[_SIGNATURE], remainder) + remainder
        except (TlvError, Iso9796Error) as error:
            raise Cwa14890Error(f"no certificate of this issuer: {error}") from None
        modulus_bytes = len(fields[_SIGNATURE])  # issuer and terminal have keys of the same size
        key_at = len(body) - modulus_bytes - _EXPONENT_BYTES
        oid_at = 1 + _AUTHORITY_BYTES + _REFERENCE_BYTES + _AUTHORIZATION_BYTES
        if not 0 < key_at - oid_at <= _MAX_OID_BYTES or body[1 : 1 + _AUTHORITY_BYTES] != fields[_AUTHORITY]:
            raise Cwa14890Error("a certificate that contradicts itself")
        holder_at = 1 + _AUTHORITY_BYTES
        return cls(
            profile=body[0],
            authority=fields[_AUTHORITY],
            holder=body[holder_at : holder_at + _REFERENCE_BYTES],
            authorization=body[holder_at + _REFERENCE_BYTES : oid_at],
            oid=body[oid_at:key_at],
            key=RSAPublicNumbers(
                int.from_bytes(body[-_EXPONENT_BYTES:]), int.from_bytes(body[key_at:-_EXPONENT_BYTES])
            ),
        )


@dataclass(frozen=True, slots=True)
class TerminalKeys:
    """What a terminal shows to the cards under one component root, and opens their answers with.

    Attributes:
        unit: Organizational unit of the component root: the issuer of a card's 6020 file names it.
        root: Public key of the component root, which signs the certificates of both sides.
        root_reference: Under which a card holds the root key.
        authority_certificate: C_CV_CA, a whole ``7F21`` object.
        authority_reference: Name of the key that it certifies, 8 bytes.
        certificate: C_CV_IFD, the same for the terminal.
        reference: Name of the terminal's key, 12 bytes.
        card_key_reference: Under which a card holds its component key.
        modulus: Of the terminal's key.
        private_exponent: Of the terminal's key. It is published.

    Raises:
        Cwa14890Error: A reference has another length.
    """

    unit: str
    root: RSAPublicNumbers
    root_reference: bytes
    authority_certificate: bytes
    authority_reference: bytes
    certificate: bytes
    reference: bytes
    card_key_reference: bytes
    modulus: int
    private_exponent: int

    def __post_init__(self) -> None:
        if len(self.authority_reference) != _AUTHORITY_BYTES or len(self.reference) != _REFERENCE_BYTES:
            raise Cwa14890Error(f"{self.unit}: a reference of another length")

    @property
    def serial(self) -> bytes:
        """SN.IFD."""
        return self.reference[-SERIAL_BYTES:]

    @property
    def key(self) -> RSAPublicNumbers:
        """The terminal's public key."""
        return RSAPublicNumbers(PUBLIC_EXPONENT, self.modulus)

    def open(self, octets: bytes, card_bytes: int) -> bytes:
        """Open the answer to INTERNAL AUTHENTICATE.

        Args:
            octets: What the card answered.
            card_bytes: Length of the modulus of the card's key.

        Returns:
            SIGMIN, or what it is if the card's key did not make it: whoever asks verifies it.

        Raises:
            Cwa14890Error: It is not encrypted to this terminal.
        """
        number = int.from_bytes(octets)
        if len(octets) != (self.modulus.bit_length() + 7) // 8 or number >= self.modulus:
            raise Cwa14890Error(f"{len(octets)} bytes are no answer to this terminal")
        opened = pow(number, self.private_exponent, self.modulus)
        if opened.bit_length() > 8 * card_bytes:
            raise Cwa14890Error("an answer that is longer than a signature of this card")
        return opened.to_bytes(card_bytes)


def parse_terminals(octets: bytes) -> tuple[TerminalKeys, ...]:
    """Read a file of terminal keys: JSON as in ``dnie_terminal.json``.

    Raises:
        Cwa14890Error: It is not such a file.
    """
    try:
        return tuple(_terminal(entry) for entry in json.loads(octets)["sets"])
    except (ValueError, KeyError, TypeError) as error:
        raise Cwa14890Error(f"not a file of terminal keys: {type(error).__name__}") from None


@functools.cache
def published_terminals() -> tuple[TerminalKeys, ...]:
    """Return the keys that the Spanish police publishes for every reader, one set for each component root."""
    return parse_terminals(importlib.resources.files("hardware").joinpath("dnie_terminal.json").read_bytes())


def _terminal(entry: dict[str, Any]) -> TerminalKeys:
    def octets(name: str) -> bytes:
        return bytes.fromhex(entry[name])

    return TerminalKeys(
        unit=str(entry["unit"]),
        root=RSAPublicNumbers(PUBLIC_EXPONENT, int.from_bytes(octets("root_modulus"))),
        root_reference=octets("root_reference"),
        authority_certificate=octets("authority_certificate"),
        authority_reference=octets("authority_reference"),
        certificate=octets("certificate"),
        reference=octets("reference"),
        card_key_reference=octets("card_key_reference"),
        modulus=int.from_bytes(octets("modulus")),
        private_exponent=int.from_bytes(octets("private_exponent")),
    )

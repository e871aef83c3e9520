"""The secure messaging key of a virtual PIV card and its certificate (SP 800-73-5 part 2, §4.1): the card's half.

Only the key is established; no command is taken under the session keys. That is all that SM-AUTH asks of a card.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from hardware import opacity, tlv
from hardware.opacity import CardMessage, HostMessage, OpacityError
from hardware.virtual.piv_key import CardFileError, read_certificate, read_key
from hardware.virtual.timing import KeyType

SIGNER_CERTIFICATE = 0x5FC122
"""The object that holds the certificate of the content signer."""

_KEY_TYPES = {0x27: KeyType.P_256, 0x2E: KeyType.P_384}
_SUITES = {suite.curve.name: suite for suite in opacity.SUITES.values()}
_TEMPLATE = 0x61


class AgreementRefused(ValueError):  # noqa: N818 - names the card's answer
    """The reader's message has another length, asks for persistent binding, or holds no point on the curve."""


@dataclass(frozen=True, slots=True)
class SmKey:
    """The key in reference 04 and what a PIV chip does with it.

    Attributes:
        key: The private key, on P-256 (CS2) or P-384 (CS7).
        certificate: C_ICC, a whole ``7F21`` object; it need not belong to the key: a card like that is a clone.
        signer: What object 5FC122 holds: the signer's certificate, DER. None leaves the object out.
        random: Where N_ICC comes from: returns that many bytes.

    Raises:
        CardFileError: No cipher suite has this curve.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    signer: bytes | None = None
    random: Callable[[int], bytes] = os.urandom

    def __post_init__(self) -> None:
        if self.key.curve.name not in _SUITES:
            raise CardFileError(f"secure messaging has no suite for {self.key.curve.name}: make a P-256 or P-384 key")

    @classmethod
    def from_files(
        cls, key: Path, certificate: Path, password: bytes | None = None, *, signer: Path | None = None
    ) -> "SmKey":
        """Read a key (PEM or DER), its card-verifiable certificate (the bare octets), and the signer's certificate.

        Raises:
            CardFileError: A file cannot be read or used; the message names it.
        """
        private = read_key(key, password)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise CardFileError(f"{key}: secure messaging takes a P-256 or P-384 key")
        try:
            octets = certificate.read_bytes()
        except OSError as error:
            raise CardFileError(f"{certificate}: {error.strerror}") from error
        return cls(private, octets, read_certificate(signer) if signer is not None else None)

    @property
    def suite(self) -> opacity.Suite:
        """The cipher suite."""
        return _SUITES[self.key.curve.name]

    @property
    def kind(self) -> KeyType:
        """The type of the key."""
        return _KEY_TYPES[self.suite.identifier]

    def announced(self, template: bytes) -> bytes:
        """Add the cipher suite to an application property template (part 2, table 3): AC {80 suite, 06 01 00}."""
        mechanism = tlv.encode(0x80, bytes([self.suite.identifier])) + tlv.encode(0x06, b"\x00")
        return tlv.encode(_TEMPLATE, tlv.parse_one(template, _TEMPLATE) + tlv.encode(0xAC, mechanism))

    def agree(self, message: bytes) -> bytes:
        """Answer a reader's message: steps C1 to C11.

        Args:
            message: CB_H, ID_sH and Q_eH: what stands in object 81.

        Returns:
            CB_ICC, N_ICC, AuthCryptogram and C_ICC: what stands in object 82.

        Raises:
            AgreementRefused: The message cannot be answered.
        """
        suite = self.suite
        try:
            received = HostMessage.parse(suite, message)
            host = ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, received.point)
        except OpacityError as error:
            raise AgreementRefused(str(error)) from None
        except ValueError:
            raise AgreementRefused("the reader's point is not on the curve") from None
        control = received.control & 0xF0
        if control != opacity.CONTROL:
            raise AgreementRefused("the reader asks for persistent binding")
        nonce = self.random(suite.nonce_bytes)
        run = opacity.Run(suite, received.host_id, received.point, opacity.card_id(self.certificate), nonce)
        cryptogram = run.cryptogram(self.key.exchange(ec.ECDH(), host))
        return bytes(CardMessage(control, nonce, cryptogram, self.certificate))

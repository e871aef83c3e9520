"""An operator that issues media of its own: cards of each family, and what a gate needs to believe them.

For benchmarks and tests; what it writes is what depot staff would write. Keys are made anew each time.
"""

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from backend_sync.demo.issuer import DAY, Issuer
from hardware.medium import Technology
from hardware.virtual.air import AirCard, AirTiming
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_sm import SmKey
from hardware.virtual.pkoc import PkocChip, Profile
from hardware.virtual.timing import ChipTiming
from hardware.virtual.ultralight_aes import Settings, UltralightAes
from validator import operator_keys, piv_cvc, pkoc_cvc
from validator.certificates import card_credential_id, credential_id, spki_of, token_id
from validator.operator_keys import OperatorKeys
from validator.profiles import ntag424, piv, piv_sm, pkoc1, pkoc2, ultralight_aes
from validator.profiles.attempt import TOKEN_BYTES

ID_PIV_CONTENT_SIGNING = ObjectIdentifier("2.16.840.1.101.3.6.7")
PKOC_REFERENCE = "PILETDEMOISSUER1"
KEY_VERSION = 1
_KEY_NAMES = (ntag424.OPERATOR_KEY, ultralight_aes.DATA_KEY_NAME, ultralight_aes.UID_KEY_NAME)


@dataclass(frozen=True, slots=True)
class OperatorCard:
    """One card that an operator issued.

    Attributes:
        family: Its family.
        credential_id: The key of its tickets.
        chip: Its application.
        uid: What anticollision finds; None for one that changes.
    """

    family: str
    credential_id: bytes
    chip: PivChip | PkocChip | Ntag424Chip | UltralightAes
    uid: bytes | None

    def on_air(self, *, timed: bool = False, tear_after: int | None = None) -> AirCard:
        """Give it an antenna."""
        timing = AirTiming() if timed else None
        return AirCard(self.chip, Technology.TYPE_A, uid=self.uid, timing=timing, tear_after=tear_after)


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that issues cards, and the files by which gates believe them.

    Attributes:
        folder: Where the files lie.
        issuer: Issues X.509 certificates.
        pkoc_key: Signs PKOC certificates.
        signer_key: Signs certificates of PIV secure messaging.
        signer: Its certificate.
        keys: Operator keys.
        now: The moment of issuing, UTC.
    """

    folder: Path
    issuer: Issuer
    pkoc_key: ec.EllipticCurvePrivateKey
    signer_key: ec.EllipticCurvePrivateKey
    signer: x509.Certificate
    keys: OperatorKeys
    now: dt.datetime

    @classmethod
    def create(cls, folder: Path, now: dt.datetime) -> "Operator":
        """Make an operator's keys, and write the files into a folder."""
        issuer = Issuer.create("Demo operator", now)
        pkoc_key, signer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        signer = _content_signer(signer_key, now)
        (folder / "operator-keys").mkdir(parents=True)
        for name in _KEY_NAMES:
            path = folder / "operator-keys" / f"{name}.{KEY_VERSION}"
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(16))
        trust = folder / "trust"
        trust.mkdir()
        (trust / "issuer.pem").write_bytes(issuer.pem)
        (trust / "signer.pem").write_bytes(signer.public_bytes(Encoding.PEM))
        (trust / f"pkoc-issuer-{PKOC_REFERENCE}.pem").write_bytes(
            pkoc_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        return cls(folder, issuer, pkoc_key, signer_key, signer, operator_keys.load(folder / "operator-keys"), now)

    @property
    def trust(self) -> Path:
        """Directory of issuers, as `validator read --trust` takes it."""
        return self.folder / "trust"

    @property
    def key_directory(self) -> Path:
        """Directory of operator keys."""
        return self.folder / "operator-keys"

    @property
    def pkoc_issuers(self) -> Mapping[str, Path]:
        """Files of PKOC issuers by reference."""
        return {PKOC_REFERENCE: self.trust / f"pkoc-issuer-{PKOC_REFERENCE}.pem"}

    @property
    def sm_signers(self) -> tuple[Path, ...]:
        """Files of content signers."""
        return (self.trust / "signer.pem",)

    def enrol(self, card: OperatorCard) -> bytes:
        """Enrol a bare key with the desk, and return its SubjectPublicKeyInfo."""
        assert isinstance(card.chip, PkocChip)
        spki = spki_of(card.chip.public_key)
        (self.trust / f"enrolled-{card.credential_id.hex()}.der").write_bytes(spki)
        return spki

    def issue(self, family: str, model: str | None = None, *, random_uid: bool = False) -> OperatorCard:
        """Issue a card of a family.

        Args:
            family: Its name.
            model: Card model whose compute times the chip has, or None for a chip that answers at once. A family whose
                chip has no public key has no model.
            random_uid: Whether an Ultralight AES hides its true UID.
        """
        timing = ChipTiming.of(model) if model else None
        match family:
            case piv.NAME | piv_sm.NAME:
                return self._piv(family, timing)
            case pkoc1.NAME | pkoc2.NAME:
                return self._pkoc(family, timing)
            case ntag424.NAME:
                return self._ntag424()
            case ultralight_aes.NAME:
                return self._ultralight(random_uid=random_uid)
        raise ValueError(f"no family {family!r}")

    def _piv(self, family: str, timing: ChipTiming | None) -> OperatorCard:
        key, sm_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        certificate = self.issuer.issue(key, self.now - DAY, self.now + 365 * DAY)
        messaging = None
        if family == piv_sm.NAME:
            identifier = x509.SubjectKeyIdentifier.from_public_key(self.signer_key.public_key()).digest[:8]
            guid = secrets.token_bytes(16)
            cvc = piv_cvc.issue(issuer=identifier, guid=guid, key=sm_key.public_key(), signer=self.signer_key)
            messaging = SmKey(sm_key, cvc, self.signer.public_bytes(Encoding.DER))
        chip = PivChip(key, certificate, timing=timing, secure_messaging=messaging)
        shown = sm_key if family == piv_sm.NAME else key
        return OperatorCard(family, credential_id(spki_of(shown.public_key())), chip, _uid())

    def _pkoc(self, family: str, timing: ChipTiming | None) -> OperatorCard:
        key = ec.generate_private_key(ec.SECP256R1())
        cvc, spoken = None, {Profile.SE_V1}
        if family == pkoc2.NAME:
            spoken = {Profile.SE_V2}
            cvc = pkoc_cvc.issue(
                self.pkoc_key,
                issuer=PKOC_REFERENCE.encode(),
                subject=secrets.token_bytes(16),
                key=key.public_key(),
                first_day=(self.now - DAY).date(),
                last_day=(self.now + 365 * DAY).date(),
            )
        chip = PkocChip(key, cvc=cvc, profiles=spoken, timing=timing)
        # A phone's identifier changes with the field.
        return OperatorCard(family, credential_id(spki_of(key.public_key())), chip, None)

    def _ntag424(self) -> OperatorCard:
        uid, token = _uid(), secrets.token_bytes(TOKEN_BYTES)
        with self.keys.card_key(ntag424.OPERATOR_KEY, KEY_VERSION, uid) as gate_key:
            keys = [bytes(gate_key) if number == ntag424.KEY_NUMBER else secrets.token_bytes(16) for number in range(5)]
        credential = card_credential_id(token_id(ntag424.NAME, token), uid)
        return OperatorCard(ntag424.NAME, credential, Ntag424Chip(uid, keys, token), uid)

    def _ultralight(self, *, random_uid: bool) -> OperatorCard:
        uid, token = _uid(), secrets.token_bytes(TOKEN_BYTES)
        with (
            self.keys.card_key(ultralight_aes.DATA_KEY_NAME, KEY_VERSION, uid) as data_key,
            self.keys.card_key(ultralight_aes.UID_KEY_NAME, KEY_VERSION, b"") as uid_key,
        ):
            tag = UltralightAes(
                uid=uid,
                data_key=bytes(data_key),
                uid_key=bytes(uid_key),
                pages={ultralight_aes.TOKEN_PAGE: token},
                settings=Settings(random_uid=random_uid),
            )
        credential = card_credential_id(token_id(ultralight_aes.NAME, token), uid)
        # A tag says itself what anticollision shows of it.
        return OperatorCard(ultralight_aes.NAME, credential, tag, None)


def _uid() -> bytes:
    return b"\x04" + secrets.token_bytes(6)


def _content_signer(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Demo content signer")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + 3650 * DAY)
        .add_extension(x509.ExtendedKeyUsage([ID_PIV_CONTENT_SIGNING]), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )

"""Makes a virtual card of each family from what describes it: files of keys and certificates, and a few numbers."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from types import MappingProxyType

from hardware import tlv
from hardware.tlv import TlvError
from hardware.virtual.card_tree import MOST_TRIES
from hardware.virtual.chip import Chip
from hardware.virtual.esteid2018 import FIELDS as PERSONAL_FIELDS
from hardware.virtual.esteid2018 import EstEid2018Chip
from hardware.virtual.esteid2025 import EstEid2025Chip
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.ntag424_keys import KEY_COUNT
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import CardFileError, read_certificate, read_key
from hardware.virtual.piv_sm import SmKey
from hardware.virtual.pkoc import PkocChip
from hardware.virtual.pkoc import Profile as PkocProfile
from hardware.virtual.timing import ChipTiming
from hardware.virtual.type2_target import TagChip
from hardware.virtual.ultralight_aes import Settings, UltralightAes

#: How an operator's cards are laid out; the gate's profiles of these families look for the token there.
NTAG424_GATE_KEY = 1
ULTRALIGHT_TOKEN_PAGE = 0x04
TOKEN_BYTES = 16
CAN_DIGITS = 6

_AES_BYTES = 16
_CERTIFICATE = 0x7F21
_UID_SIZES = (4, 7, 10)


@unique
class Profile(StrEnum):
    """The card families that exist in software."""

    PIV = "piv"
    PIV_SM = "piv-sm"
    PKOC1 = "pkoc1"
    PKOC2 = "pkoc2"
    NTAG424 = "ntag424"
    ULTRALIGHT_AES = "ultralight-aes"
    ESTEID2018 = "esteid2018"
    ESTEID2025 = "esteid2025"


class NotThisCard(ValueError):  # noqa: N818 - says what is amiss with a description, not that something failed
    """What was given makes no card of this family; the message says what does."""


@dataclass(frozen=True, slots=True)
class CardFiles:
    """What describes a card; each family needs some of it, and takes no more than it has a use for.

    Attributes:
        key: Private key, PEM or DER.
        certificate: X.509 certificate, PEM or DER.
        p12: Key and certificate in one PKCS#12 file.
        password: Of the key or of the PKCS#12 file.
        pin: The PIV PIN, or PIN1 of an Estonian card; None leaves it blocked.
        compress: Whether a PIV certificate is stored compressed.
        sm_key: Private key of PIV secure messaging, without password.
        cvc: Card-verifiable certificate, the bare octets of ``7F21``.
        uid: UID of 4, 7 or 10 bytes; the true one, 7 bytes, of a family whose key is derived from it.
        card_key: File with the card's own AES key, 32 hexadecimal digits.
        uid_key: File with the key that all cards share, the same.
        token: Account token, 16 bytes.
        random_uid: Whether anticollision hides the true UID.
        can: Number on the front of an Estonian card, which it asks for over the air; None puts it at its contacts.
        timing: The silicon that its answers are modelled on.
    """

    key: Path | None = None
    certificate: Path | None = None
    p12: Path | None = None
    password: bytes | None = None
    pin: str | None = None
    compress: bool = False
    sm_key: Path | None = None
    cvc: Path | None = None
    uid: bytes | None = None
    card_key: Path | None = None
    uid_key: Path | None = None
    token: bytes | None = None
    random_uid: bool = False
    can: str | None = None
    timing: ChipTiming | None = None


_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "key": "--key",
        "certificate": "--cert",
        "p12": "--p12",
        "password": "--password-file",
        "pin": "--pin-file",
        "compress": "--gzip",
        "sm_key": "--sm-key",
        "cvc": "--cvc",
        "uid": "--uid",
        "card_key": "--card-key-file",
        "uid_key": "--uid-key-file",
        "token": "--token",
        "random_uid": "--random-uid",
        "can": "--can",
        "timing": "--model",
    }
)

_PIV_TAKES = frozenset({"key", "certificate", "p12", "password", "pin", "compress", "uid", "timing"})
_PKOC_TAKES = frozenset({"key", "password", "uid", "timing"})
_ESTONIAN_TAKES = frozenset({"key", "certificate", "password", "pin", "can", "uid"})
_NXP_NEEDS = frozenset({"uid", "card_key", "token"})
_TAKES: Mapping[Profile, frozenset[str]] = MappingProxyType(
    {
        Profile.PIV: _PIV_TAKES,
        Profile.PIV_SM: _PIV_TAKES | {"sm_key", "cvc"},
        Profile.PKOC1: _PKOC_TAKES,
        Profile.PKOC2: _PKOC_TAKES | {"cvc"},
        Profile.NTAG424: _NXP_NEEDS,
        Profile.ULTRALIGHT_AES: _NXP_NEEDS | {"uid_key", "random_uid"},
        Profile.ESTEID2018: _ESTONIAN_TAKES,
        Profile.ESTEID2025: _ESTONIAN_TAKES,
    }
)


def make(profile: Profile, files: CardFiles) -> tuple[Chip | TagChip, str]:
    """Make a card, and name its key.

    Args:
        profile: Its family.
        files: What describes it.

    Raises:
        NotThisCard: Something that the family needs is missing, or it has no use for something.
        CardFileError: A file cannot be read or used.
        NoFigure: The card model was never measured with this key.
        ValueError: A number, or the PIN, is none that such a card could have.
    """
    given = [name for name in _OPTIONS if getattr(files, name) not in (None, False)]
    if useless := [_OPTIONS[name] for name in given if name not in _TAKES[profile]]:
        raise NotThisCard(f"{profile} has no use for {', '.join(useless)}: leave it out")
    if files.uid is not None and len(files.uid) not in _UID_SIZES:
        raise NotThisCard(f"a UID has 4, 7 or 10 bytes, not {len(files.uid)}: give another --uid")
    match profile:
        case Profile.PIV:
            piv = _piv(files, None)
            return piv, piv.key_type.value
        case Profile.PIV_SM:
            return _piv_sm(files)
        case Profile.PKOC1 | Profile.PKOC2:
            return _pkoc(profile, files), "P-256"
        case Profile.NTAG424:
            return _ntag424(files), "AES-128"
        case Profile.ULTRALIGHT_AES:
            return _ultralight_aes(files), "AES-128"
        case Profile.ESTEID2018 | Profile.ESTEID2025:
            return _estonian(profile, files), "P-384"


def _piv(files: CardFiles, messaging: SmKey | None) -> PivChip:
    if files.p12 is not None and files.key is None and files.certificate is None:
        return PivChip.from_pkcs12(
            files.p12,
            files.password,
            compress=files.compress,
            timing=files.timing,
            pin=files.pin,
            secure_messaging=messaging,
        )
    if files.key is None or files.certificate is None or files.p12 is not None:
        raise NotThisCard("a card needs --key and --cert, or --p12")
    return PivChip.from_pem(
        files.key,
        files.certificate,
        files.password,
        compress=files.compress,
        timing=files.timing,
        pin=files.pin,
        secure_messaging=messaging,
    )


def _piv_sm(files: CardFiles) -> tuple[PivChip, str]:
    if files.sm_key is None or files.cvc is None:
        raise NotThisCard("secure messaging needs --sm-key and --cvc beside what a PIV card needs")
    _cvc(files.cvc)
    messaging = SmKey.from_files(files.sm_key, files.cvc)
    return _piv(files, messaging), messaging.kind.value


def _pkoc(profile: Profile, files: CardFiles) -> PkocChip:
    spoken = PkocProfile.SE_V1 if profile is Profile.PKOC1 else PkocProfile.SE_V2
    if files.key is None or (spoken is PkocProfile.SE_V2 and files.cvc is None):
        raise NotThisCard(f"a {profile} card needs --key" + " and --cvc" * (spoken is PkocProfile.SE_V2))
    cvc = None if files.cvc is None else _cvc(files.cvc)
    return PkocChip(read_key(files.key, files.password), cvc=cvc, profiles={spoken}, timing=files.timing)


def _ntag424(files: CardFiles) -> Ntag424Chip:
    if files.uid is None or files.card_key is None or files.token is None:
        raise NotThisCard("an NTAG 424 DNA needs --uid, --card-key-file and --token")
    keys = [secrets.token_bytes(_AES_BYTES) for _ in range(KEY_COUNT)]
    keys[NTAG424_GATE_KEY] = _aes_key(files.card_key)
    return Ntag424Chip(files.uid, keys, files.token)


def _ultralight_aes(files: CardFiles) -> UltralightAes:
    if files.uid is None or files.card_key is None or files.token is None:
        raise NotThisCard("an Ultralight AES needs --uid, --card-key-file and --token")
    if files.random_uid and files.uid_key is None:
        raise NotThisCard("an Ultralight AES that hides its UID needs --uid-key-file")
    if len(files.token) != TOKEN_BYTES:
        raise NotThisCard(f"a token of {len(files.token)} bytes: it has {TOKEN_BYTES}")
    uid_key = secrets.token_bytes(_AES_BYTES) if files.uid_key is None else _aes_key(files.uid_key)
    return UltralightAes(
        uid=files.uid,
        data_key=_aes_key(files.card_key),
        uid_key=uid_key,
        pages={ULTRALIGHT_TOKEN_PAGE: files.token},
        settings=Settings(random_uid=files.random_uid),
    )


def _estonian(profile: Profile, files: CardFiles) -> EstEid2018Chip | EstEid2025Chip:
    """Make a card of nobody: its personal data file is empty, its certificate says what it says."""
    if files.key is None or files.certificate is None:
        raise NotThisCard("an Estonian card needs --key and --cert")
    if files.can is not None and not (files.can.isascii() and files.can.isdigit() and len(files.can) == CAN_DIGITS):
        raise NotThisCard(f"a CAN has {CAN_DIGITS} digits: give another --can")
    make_one = EstEid2018Chip if profile is Profile.ESTEID2018 else EstEid2025Chip
    pin, tries = ("0000", 0) if files.pin is None else (files.pin, MOST_TRIES)
    return make_one(
        read_key(files.key, files.password),
        read_certificate(files.certificate),
        [""] * PERSONAL_FIELDS,
        can=files.can,
        pin=pin,
        tries=tries,
    )


def _cvc(path: Path) -> bytes:
    """Read a certificate as a card gives it out. What it says is not checked, least of all against the key."""
    content = _read(path)
    try:
        tlv.parse_one(content, _CERTIFICATE)
    except TlvError as error:
        raise CardFileError(f"{path}: not the octets of a card-verifiable certificate ({error})") from error
    return content


def _aes_key(path: Path) -> bytes:
    content = _read(path)
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _AES_BYTES:
        raise CardFileError(f"{path}: an AES key has {2 * _AES_BYTES} hexadecimal digits")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CardFileError(f"{path}: {error.strerror}") from error

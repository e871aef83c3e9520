"""Travel documents, and identity cards that are made like them (ICAO Doc 9303-10 and -11): LDS1 behind PACE.

Before PACE a document gives EF.CardAccess and no more. The CAN or the machine-readable zone opens it: `SHARED_SECRET`,
whoever copied the number can do the same. What then proves the chip, without any PIN, is one of three:

- PACE with chip authentication mapping: a key in data group 14 made the mapping; nothing more is exchanged;
- Chip Authentication: the key in data group 14 leads to the keys of a new session, and its first answer shows it;
- Active Authentication: the key in data group 15 signs our challenge. Done only where there is neither of the others.

Each makes it `CHIP`, if the country signed the key together with the machine-readable zone, which is
`validator.passive_authentication`'s to say. EF.CardSecurity is signed apart from them, and could be another document's:
a key that stands there alone proves nothing of this one. A document that has none of the three stays on the lower rung.

Read are the security object, the machine-readable zone, and the files that the proof's key is in, or may be in. Neither
the face nor the fingers are.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hardware import chip_authentication, lds
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, ApduExchange, CommandApdu, ResponseApdu, drain, exchange, send
from hardware.chip_authentication import ChipAuthenticationError, Offer, SessionKeys
from hardware.ec_keys import canonical
from hardware.lds import DG1, DG14, DG15, LdsError, SecurityInfos
from hardware.pace import Mapping as PaceMapping
from hardware.pace import PaceError, PaceInfo, PasswordKind, preferred
from hardware.secure_messaging import SecureChannel
from hardware.tlv import TlvError
from validator.certificates import CertificateError, KeyUnsupportedError, key_algorithm, load_key
from validator.model import Assurance, KeyAlgorithm
from validator.profiles import pace
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import CanNeeded, CardMalformed, CardRefused, KeyUnsupported, WrongFamily
from validator.profiles.pace import Dialogue, Established
from validator.proof import CardProof, Confirmed, Mutual, Signed, TravelDocument
from validator.signed_data import SignatureUnsupported, SignedDataError, parse_signed_data

NAME = "emrtd"

AID = b""
"""Empty: EF.CardAccess comes before the application, which a document with PACE may keep behind it."""

PIECE_BYTES = 223
"""What a document is asked for at a time: so much fits a short answer once it is sealed."""

CHALLENGE_BYTES = 8
"""RND.IFD of Active Authentication."""

_END_OF_FILE = 0x6282
_MASTER_FILE = bytes.fromhex("3F00")
_LOCKED = (SW.OK, SW.SECURITY_STATUS_NOT_SATISFIED, SW.CONDITIONS_OF_USE_NOT_SATISFIED)
"""What a document says where its application is, before PACE."""

#: ecdsa-plain-SHA256 and -SHA384 (TR-03111 §5.2.1.1): the digests that a proof with these keys is verified with.
_PLAIN_ECDSA = {
    KeyAlgorithm.P256: bytes.fromhex("04007F00070101040103"),
    KeyAlgorithm.P384: bytes.fromhex("04007F00070101040104"),
}


@dataclass(frozen=True, slots=True)
class _Files:
    security_object: bytes
    groups: Mapping[int, bytes]
    card_security: bytes | None

    @property
    def security_infos(self) -> SecurityInfos:
        return lds.parse_dg14(self.groups[DG14]) if DG14 in self.groups else SecurityInfos((), (), None)

    def document(self, chip_key: bytes | None = None) -> TravelDocument:
        return TravelDocument(self.security_object, self.groups, self.card_security, chip_key)


@dataclass(frozen=True, slots=True)
class _ActiveKey:
    spki: bytes
    algorithm: KeyAlgorithm


def authenticate(attempt: Attempt, selected: ResponseApdu) -> Dialogue[CardProof]:  # noqa: ARG001 - it selects for itself
    """Talk to one document until its chip is proved, or as much as it can prove.

    Args:
        attempt: What this attempt may use: the CAN, or what the machine-readable zone gives (`lds.Mrz.pace_secret`).
        selected: Nothing was selected yet.

    Returns:
        What the document showed. Nothing in it is verified here.

    Raises:
        WrongFamily: There is no PACE, or no travel document application.
        CanNeeded: There is, and nobody gave the CAN or the machine-readable zone.
        ProfileError: Whatever else the document says; each subclass names the reason that is recorded.
    """
    try:
        return (yield from _collect(attempt))
    except SignatureUnsupported as error:
        raise KeyUnsupported(str(error)) from None
    except (ApduError, TlvError, LdsError, PaceError, ChipAuthenticationError, SignedDataError) as error:
        raise CardMalformed(str(error)) from None


def _collect(attempt: Attempt) -> Dialogue[CardProof]:
    access = yield from _card_access()
    can, mrz = attempt.secrets.can, attempt.secrets.mrz
    secret = mrz if can is None else can
    if secret is None:
        found = yield from exchange(_select(0x04, lds.APPLICATION))
        if found.sw not in _LOCKED:
            raise WrongFamily(f"no travel document application: {found.sw:04X}")
        raise CanNeeded("a travel document says nothing without its CAN or its machine-readable zone")
    if not access:
        raise KeyUnsupported("a document that speaks no PACE with elliptic curves and AES")
    info = preferred(access)
    kind = PasswordKind.MRZ if can is None else PasswordKind.CAN
    established = yield from pace.establish(info, kind, secret, attempt.random)
    try:
        return (yield from _prove(attempt, info, established))
    except WrongFamily:
        yield _select(0x00, _MASTER_FILE)  # in clear: it ends the session, so that no other family is answered in it
        raise
    finally:
        established.channel.wipe()


def _card_access() -> Dialogue[tuple[PaceInfo, ...]]:
    """Read EF.CardAccess, from the master file wherever another family may have left the card."""
    try:
        return (yield from pace.read_card_access())
    except CardRefused:
        yield _select(0x00, _MASTER_FILE)
    try:
        return (yield from pace.read_card_access())
    except CardRefused as refused:
        raise WrongFamily(f"a card without PACE: {refused.sw:04X}") from None


def _prove(attempt: Attempt, info: PaceInfo, established: Established) -> Dialogue[CardProof]:
    channel = established.channel
    by_mapping = info.mapping is PaceMapping.CAM
    files = yield from pace.through(channel, _read_files(with_card_security=by_mapping))
    infos = files.security_infos
    mapped = _mapped(info, established, files) if by_mapping else None
    if mapped is not None:
        shown, evidence = mapped
        attempt.begin(shown)
        return CardProof(NAME, Assurance.CHIP, shown, evidence)
    chosen = chip_authentication.offer(infos)
    if chosen is not None:
        return (yield from _by_agreement(attempt, channel, files, chosen))
    active = _active_key(files, infos)
    if active is not None:
        return (yield from pace.through(channel, _by_signature(attempt, files, active)))
    shown = files.document()
    attempt.begin(shown)
    return CardProof(NAME, Assurance.SHARED_SECRET, shown, Mutual(established.expected, established.received))


def _mapped(info: PaceInfo, established: Established, files: _Files) -> tuple[TravelDocument, Confirmed] | None:
    """Find what PACE has proved already (Doc 9303-11 §4.4.3.5.3); None without a key for it in data group 14."""
    if files.card_security is None or established.chip_data is None:
        raise CardMalformed("chip authentication mapping without its data")
    infos = lds.parse_security_infos(parse_signed_data(files.card_security).content)
    named = {each.key.spki for each in infos.chip_keys if each.key.parameters is info.parameters}
    if not named:
        raise CardMalformed("chip authentication mapping without a key for it")
    keys = [each.key for each in files.security_infos.chip_keys if each.key.spki in named]
    if not keys:
        return None
    products = [chip_authentication.mapped(key, established.chip_data) for key in keys]
    # Of several keys on this curve it is the one that fits, and any where none does.
    used = products.index(established.mapping_key) if established.mapping_key in products else 0
    return files.document(keys[used].spki), Confirmed(established.mapping_key, products[used])


def _by_agreement(attempt: Attempt, channel: SecureChannel, files: _Files, chosen: Offer) -> Dialogue[CardProof]:
    """Chip Authentication, and the first exchange of the session that it opens."""
    shown = files.document(chosen.key.spki)
    attempt.begin(shown)
    parameters = chosen.key.parameters
    private = parameters.private_number(attempt.random(parameters.random_bytes))
    keys = chip_authentication.session_keys(chosen.oid, parameters, private, chosen.key.point)
    try:
        yield from pace.through(channel, _agree(chosen, parameters.public_point(private)))
        expected, received = chip_authentication.confirmation(keys, (yield from _first_exchange(keys)))
    finally:
        keys.wipe()
    return CardProof(NAME, Assurance.CHIP, shown, Confirmed(expected, received))


def _agree(chosen: Offer, point: bytes) -> Dialogue[None]:
    response = yield from exchange(chip_authentication.set_template(chosen))
    if not response.ok:
        raise CardRefused("MSE:Set AT for Chip Authentication", response.sw)
    response = yield from exchange(chip_authentication.agree(point))
    if not response.ok:
        raise CardRefused("GENERAL AUTHENTICATE for Chip Authentication", response.sw)
    chip_authentication.check_agreed(response.data)


def _first_exchange(keys: SessionKeys) -> ApduExchange:
    """Select a file that is there under the new keys. A chip without its key cannot even read the command."""
    channel = keys.channel()
    try:
        sealed = channel.seal_command(_select(0x02, lds.EF_SOD.to_bytes(2)))
        first = yield from send(sealed)
        return (yield from drain(0x00, first))
    finally:
        channel.wipe()


def _active_key(files: _Files, infos: SecurityInfos) -> _ActiveKey | None:
    """Find the key for Active Authentication; None where there is none, or none whose signature can be verified."""
    if DG15 not in files.groups:
        return None
    try:
        spki = canonical(lds.parse_dg15(files.groups[DG15]))
        algorithm = key_algorithm(load_key(spki))
    except KeyUnsupportedError:
        return None
    except (CertificateError, ValueError):
        raise CardMalformed("a key for Active Authentication that cannot be read") from None
    if algorithm in _PLAIN_ECDSA and infos.active_authentication != _PLAIN_ECDSA[algorithm]:
        return None
    return _ActiveKey(spki, algorithm)


def _by_signature(attempt: Attempt, files: _Files, key: _ActiveKey) -> Dialogue[CardProof]:
    """INTERNAL AUTHENTICATE (Doc 9303-11 §6.1). A document signs eight bytes: our challenge is hashed to that."""
    message = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    challenge = hashlib.sha256(message).digest()[:CHALLENGE_BYTES]
    shown = files.document(key.spki)
    attempt.begin(shown)
    response = yield from exchange(CommandApdu(0x00, 0x88, 0x00, 0x00, challenge, le=SHORT_LE_MAX))
    if not response.ok:
        raise CardRefused("INTERNAL AUTHENTICATE", response.sw)
    signature = response.data
    if key.algorithm in _PLAIN_ECDSA:
        half = len(signature) // 2
        if not half or len(signature) % 2:
            raise CardMalformed(f"{len(signature)} bytes are no signature of two numbers")
        signature = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    return CardProof(NAME, Assurance.CHIP, shown, Signed(challenge, signature, key.algorithm))


def _read_files(*, with_card_security: bool) -> Dialogue[_Files]:
    """Read what a proof needs: data group 15 only where 14 offers no Chip Authentication.

    Args:
        with_card_security: Read EF.CardSecurity as well. It is in the master file, where PACE leaves the document.
    """
    card_security = (yield from _file(lds.EF_CARD_SECURITY, "EF.CardSecurity")) if with_card_security else None
    yield from _enter()
    groups: dict[int, bytes] = {}
    security_information = yield from _optional_group(DG14)
    if security_information is not None:
        groups[DG14] = security_information
    if security_information is None or chip_authentication.offer(lds.parse_dg14(security_information)) is None:
        active = yield from _optional_group(DG15)
        if active is not None:
            groups[DG15] = active
    groups[DG1] = yield from _group(DG1)
    return _Files((yield from _file(lds.EF_SOD, "EF.SOD")), groups, card_security)


def _enter() -> Dialogue[None]:
    response = yield from exchange(_select(0x04, lds.APPLICATION))
    if response.sw == SW.FILE_NOT_FOUND:
        raise WrongFamily("a card with PACE, and without a travel document application")
    if not response.ok:
        raise CardRefused("SELECT of the travel document application", response.sw)


def _group(number: int) -> Dialogue[bytes]:
    return (yield from _file(lds.group_file(number), f"EF.DG{number}"))


def _optional_group(number: int) -> Dialogue[bytes | None]:
    try:
        return (yield from _group(number))
    except CardRefused as refused:
        if refused.sw == SW.FILE_NOT_FOUND:
            return None
        raise


def _file(identifier: int, name: str) -> Dialogue[bytes]:
    """Select a file and read it, as long as its own first bytes say.

    Raises:
        CardRefused: It is not there, or may not be read.
        CardMalformed: It ends early.
        LdsError: It is longer than any file that is read here.
    """
    selected = yield from exchange(_select(0x02, identifier.to_bytes(2)))
    if not selected.ok:
        raise CardRefused(f"SELECT {name}", selected.sw)
    content = yield from _piece(0, PIECE_BYTES, name)
    size = lds.whole_length(content)
    while len(content) < size:
        found = yield from _piece(len(content), min(PIECE_BYTES, size - len(content)), name)
        if not found:
            raise CardMalformed(f"{name} ends before its own length")
        content += found
    return content[:size]


def _piece(offset: int, size: int, name: str) -> Dialogue[bytes]:
    response = yield from exchange(CommandApdu(0x00, 0xB0, offset >> 8, offset & 0xFF, le=size))
    if response.sw not in (SW.OK, _END_OF_FILE):
        raise CardRefused(f"READ BINARY {name}", response.sw)
    return response.data


def _select(p1: int, data: bytes) -> CommandApdu:
    return CommandApdu(0x00, 0xA4, p1, 0x0C, data)

"""The Spanish DNIe, 3.0 and 4.0: its chip proves itself without a PIN, and its files claim who the holder is.

The chip has a key of its own, which signs our challenge by the internal authentication of CWA 14890-1: `CHIP`. That
names a chip, and nothing is read about a person. Where a card refuses it, the authentication certificate is read
instead and says whose card this claims to be. Over the air both sides have shown by then that they know the number that
is printed on it, `SHARED_SECRET`; through contacts that is all, `CLAIMED`. The holder's keys are behind the PIN, in a
session with triple DES that is not spoken here: a PIN is never asked for, and one that is given is not sent.

A card is recognised by the name of its master file. What one says to that name over the air, before PACE, is published
nowhere. If it is found, or there but not allowed, the card is a DNIe. If it is not found, a card that offers just the
suite of the DNIe in EF.CardAccess may be one, and is asked again behind PACE; what is then no DNIe is left to others.
So is a travel document to which nobody told a number.

A card that was asked in clear and refuses to be read is asked again behind PACE, since a reader does not always tell
which way a card speaks. Readers in the field never ask for EF.CardAccess; where a DNIe has none its one suite is used.
"""

import zlib
from collections.abc import Generator, Sequence
from typing import TypeVar

from hardware import cwa14890, lds, tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, ApduExchange, CommandApdu, ResponseApdu, exchange
from hardware.cwa14890 import Cwa14890Error, TerminalKeys
from hardware.pace import Mapping, PaceInfo, PasswordKind, preferred
from hardware.tlv import TlvError
from validator import dnie_component
from validator.certificates import CertificateError, KeyUnsupportedError
from validator.model import Assurance, Scheme
from validator.profiles import pace
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import CanNeeded, CardMalformed, CardRefused, KeyUnsupported, PinNeeded, WrongFamily
from validator.profiles.pace import Established
from validator.proof import CardProof, DnieComponent, IdCertificate, Mutual, Recovered, Unproved

NAME = "dnie"

AID = b""
"""It selects for itself: the master file has a name, and no identifier of an application."""

MASTER_FILE = b"Master.File"
SUITE = PaceInfo.of(Mapping.GM, 16, 13)
"""What every reader of a DNIe uses: AES-128 over brainpoolP256r1, generic mapping."""

HISTORICAL = bytes.fromhex("E1F35E1177")
"""Among the historical bytes of a DNIe over the air, and of other cards: a hint."""

MAX_FILE_BYTES = 4 * 1024
MAX_CERTIFICATE_BYTES = 8 * 1024
"""Bound on an inflated certificate; those in the field have 2 KiB."""

PIECE_BYTES = 223
"""So much of a file fits a short answer once it is sealed."""

_COMPONENT, _COMPONENT_ISSUER = bytes.fromhex("601F"), bytes.fromhex("6020")
_DIRECTORY, _CERTIFICATES = bytes.fromhex("5015"), bytes.fromhex("6004")
_MASTER = bytes.fromhex("3F00")
_AUTHENTICATION = b"CertAutenticacion"
_MAX_DEPTH = 4

_FCI, _PROPRIETARY = 0x6F, 0x85
_SEQUENCE, _OCTETS, _LABEL, _TYPE_ATTRIBUTES = 0x30, 0x04, 0x0C, 0xA1
_COMPRESSED_HEADER = 8

_T = TypeVar("_T")
_Steps = Generator[CommandApdu, ResponseApdu, _T]


def authenticate(
    attempt: Attempt, selected: ResponseApdu, terminals: Sequence[TerminalKeys] | None = None
) -> _Steps[CardProof]:
    """Prove the chip, or read what it claims.

    Args:
        attempt: What this attempt may use.
        selected: Of no meaning here, since there is no application identifier to select before.
        terminals: Keys to show to the card, one set for each component root; by default those that are published.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    if not selected.ok:
        raise WrongFamily(f"no card to select in: {selected.sw:04X}")
    keys = cwa14890.published_terminals() if terminals is None else terminals
    try:
        return (yield from _recognise(attempt, keys))
    except (ApduError, TlvError, Cwa14890Error, CertificateError) as error:
        if isinstance(error, KeyUnsupportedError):
            raise KeyUnsupported(str(error)) from None
        raise CardMalformed(str(error)) from None


def _recognise(attempt: Attempt, keys: Sequence[TerminalKeys]) -> _Steps[CardProof]:
    master = yield from _select_master()
    if master.ok and not attempt.contactless:
        try:
            return (yield from _prove(attempt, keys, None))
        except CardRefused as refused:
            if refused.sw != SW.SECURITY_STATUS_NOT_SATISFIED:
                raise
    return (yield from _behind_pace(attempt, keys, recognised=master.ok or _not_allowed(master)))


def _behind_pace(attempt: Attempt, keys: Sequence[TerminalKeys], *, recognised: bool) -> _Steps[CardProof]:
    suites = yield from _offered(recognised=recognised)
    if not recognised and suites != (SUITE,):
        raise WrongFamily("no master file of a DNIe")
    if not suites and not attempt.contactless and recognised:
        raise PinNeeded("a card that shows its certificate to its holder alone")
    secret, kind = attempt.secrets.can, PasswordKind.CAN
    if secret is None:
        secret, kind = attempt.secrets.mrz, PasswordKind.MRZ
    if secret is None:
        if not recognised and (yield from _is_travel_document()):
            raise WrongFamily("a travel document, as far as it tells before PACE")
        raise CanNeeded("the card says nothing over the air without a number that is printed on it")
    established = yield from pace.establish(preferred(suites or (SUITE,)), kind, secret, attempt.random)
    try:
        return (
            yield from pace.through(established.channel, _inside(attempt, keys, established, recognised=recognised))
        )
    finally:
        established.channel.wipe()


def _inside(
    attempt: Attempt, keys: Sequence[TerminalKeys], established: Established, *, recognised: bool
) -> _Steps[CardProof]:
    master = yield from _select_master()
    if not master.ok:
        if recognised:
            raise CardRefused("SELECT of the master file", master.sw)
        raise WrongFamily("no master file of a DNIe")
    return (yield from _prove(attempt, keys, Mutual(established.expected, established.received)))


def _is_travel_document() -> _Steps[bool]:
    """Whether the card names the application that documents of all countries have, most of them with the same suite.

    Asked only where nobody told a number: so such a document is not put on record as a DNIe.
    """
    found = yield from exchange(CommandApdu(0x00, 0xA4, 0x04, 0x0C, lds.APPLICATION))
    return found.ok or _not_allowed(found)


def _offered(*, recognised: bool) -> _Steps[tuple[PaceInfo, ...]]:
    """Read the suites in EF.CardAccess; none where the card has no such file for us."""
    try:
        return (yield from pace.read_card_access())
    except CardRefused:
        return ()
    except CardMalformed:
        if recognised:
            raise
        raise WrongFamily("no master file of a DNIe, and no EF.CardAccess that can be read") from None


def _prove(attempt: Attempt, keys: Sequence[TerminalKeys], shared: Mutual | None) -> _Steps[CardProof]:
    """Prove the chip; where the card refuses that, read the certificate. The master file is selected."""
    try:
        proof = yield from _prove_chip(attempt, keys)
    except CardRefused as refused:
        if shared is None and refused.sw == SW.SECURITY_STATUS_NOT_SATISFIED:
            raise
        proof = None
    if proof is not None:
        return proof
    shown = IdCertificate(Scheme.SPAIN, (yield from _read_certificate(shared is not None)))
    attempt.begin(shown)
    if shared is None:
        return CardProof(NAME, Assurance.CLAIMED, shown, Unproved())
    return CardProof(NAME, Assurance.SHARED_SECRET, shown, shared)


def _prove_chip(attempt: Attempt, keys: Sequence[TerminalKeys]) -> _Steps[CardProof | None]:
    """Run the internal authentication (CWA 14890-1 §8.4.1); None where we have no keys to show under the card's root.

    Raises:
        CardRefused: The card does not do this, or not here.
    """
    issuer = _whole((yield from _read_file(_COMPONENT_ISSUER)))
    shown = DnieComponent(_whole((yield from _read_file(_COMPONENT))), issuer)
    units = dnie_component.root_units(shown.issuer)
    terminal = next((each for each in keys if each.unit in units), None)
    if terminal is None:
        return None
    card_bytes = dnie_component.chip_key(shown.certificate).key_size // 8
    yield from _introduce(terminal)
    message = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    attempt.begin(shown)
    data = cwa14890.challenge_of(message) + terminal.serial
    answer = yield from _must(CommandApdu(0x00, 0x88, 0, 0, data, le=128), "INTERNAL AUTHENTICATE")
    evidence = Recovered(message, terminal.serial, terminal.open(answer.data, card_bytes))
    return CardProof(NAME, Assurance.CHIP, shown, evidence)


def _introduce(terminal: TerminalKeys) -> _Steps[None]:
    """Show the card the terminal's certificates, and name the keys to use (CWA 14890-1 §8.4.1, steps 2 to 9)."""
    yield from _verify(terminal.root_reference, terminal.authority_certificate)
    yield from _verify(terminal.authority_reference, terminal.certificate)
    references = tlv.encode(0x83, terminal.reference) + tlv.encode(0x84, terminal.card_key_reference)
    yield from _must(CommandApdu(0x00, 0x22, 0xC1, 0xA4, references), "MSE:Set AT")


def _verify(reference: bytes, certificate: bytes) -> _Steps[None]:
    yield from _must(CommandApdu(0x00, 0x22, 0x81, 0xB6, tlv.encode(0x83, reference)), "MSE:Set DST")
    yield from _must(CommandApdu(0x00, 0x2A, 0x00, 0xAE, certificate), "PSO:Verify Certificate")


def _read_certificate(behind_pace: bool) -> _Steps[bytes]:  # noqa: FBT001 - said by the one caller
    """Find the authentication certificate in the directory (PKCS #15 §6.6), read it, and unpack it."""
    master = yield from _select_master()
    if not master.ok:
        raise CardRefused("SELECT of the master file", master.sw)
    yield from _enter(_DIRECTORY)
    *directories, name = _path_of(_AUTHENTICATION, (yield from _read_file(_CERTIFICATES)))
    yield from _select_master()
    for directory in directories:
        yield from _enter(directory)
    try:
        return _inflated((yield from _read_file(name)))
    except CardRefused as refused:
        if behind_pace and refused.sw == SW.SECURITY_STATUS_NOT_SATISFIED:
            raise PinNeeded("a card that shows its certificate to its holder alone") from None
        raise


def _path_of(label: bytes, directory: bytes) -> list[bytes]:
    """Return the path of a certificate below the master file, file by file.

    Each entry is ``30 { 30 {0C label …} 30 {04 id} A1 { 30 { 30 {04 path …} … } } }``; zeros follow the last one.
    """
    while directory[:1] == bytes([_SEQUENCE]):
        entry = _whole(directory)
        directory = directory[len(entry) :]
        fields = tlv.parse(tlv.parse_one(entry, _SEQUENCE))
        if fields and fields[0].tag == _SEQUENCE and tlv.find(fields[0].value, _LABEL) == label:
            attributes = [field.value for field in fields if field.tag == _TYPE_ATTRIBUTES]
            if len(attributes) != 1:
                raise CardMalformed("an entry of the certificate directory without its attributes")
            path = tlv.find(tlv.find(tlv.parse_one(attributes[0], _SEQUENCE), _SEQUENCE) or b"", _OCTETS) or b""
            return _split(path.removeprefix(_MASTER))
    raise CardMalformed("no authentication certificate in the certificate directory")


def _split(path: bytes) -> list[bytes]:
    files = [path[at : at + 2] for at in range(0, len(path), 2)]
    if not 1 <= len(files) <= _MAX_DEPTH or len(path) % 2 or _MASTER in files:
        raise CardMalformed(f"a path of {len(path)} bytes")
    return files


def _inflated(content: bytes) -> bytes:
    """Unpack a certificate file: a bare certificate, or its length, its packed length (little-endian) and zlib."""
    if content[:2] == b"\x30\x82":
        return _whole(content)
    size, packed = int.from_bytes(content[:4], "little"), int.from_bytes(content[4:_COMPRESSED_HEADER], "little")
    inflater = zlib.decompressobj()
    try:
        certificate = inflater.decompress(content[_COMPRESSED_HEADER:][:packed], MAX_CERTIFICATE_BYTES + 1)
    except zlib.error:
        raise CardMalformed("a certificate file that is neither bare nor packed") from None
    if len(certificate) != size or not inflater.eof or inflater.unused_data:
        raise CardMalformed("a packed certificate of another length than it says")
    return certificate


def _whole(octets: bytes) -> bytes:
    """Cut off what follows the SEQUENCE that comes first."""
    count = octets[1] & 0x7F if len(octets) > 1 and octets[1] & 0x80 else 0
    if len(octets) < 2 + count or octets[0] != _SEQUENCE or octets[1] == 0x80 or count > 2:
        raise CardMalformed("a file that does not begin with a sequence")
    end = 2 + count + (int.from_bytes(octets[2 : 2 + count]) if count else octets[1])
    if end > len(octets):
        raise CardMalformed("a sequence that is cut short")
    return octets[:end]


def _select_master() -> ApduExchange:
    return exchange(CommandApdu(0x00, 0xA4, 0x04, 0x00, MASTER_FILE, le=SHORT_LE_MAX))


def _enter(directory: bytes) -> _Steps[None]:
    yield from _must(_select(directory), "SELECT of a directory")


def _select(file: bytes) -> CommandApdu:
    return CommandApdu(0x00, 0xA4, 0x00, 0x00, file, le=SHORT_LE_MAX)


def _read_file(file: bytes) -> _Steps[bytes]:
    """Select a file of the current directory and read it, as long as its control information says that it is."""
    control = yield from _must(_select(file), f"SELECT of {file.hex().upper()}")
    size = _size(control.data)
    content = b""
    while len(content) < size:
        at = len(content)
        command = CommandApdu(0x00, 0xB0, at >> 8, at & 0xFF, le=min(PIECE_BYTES, size - at))
        piece = yield from _must(command, f"READ BINARY of {file.hex().upper()}")
        if not 0 < len(piece.data) <= size - at:
            raise CardMalformed("a file that ends before or after its end")
        content += piece.data
    return content


def _size(control: bytes) -> int:
    """Find a file's length: bytes 4 and 5 of object 85 in its control information, as the DNIe has it."""
    told = tlv.find(tlv.parse_one(control, _FCI), _PROPRIETARY)
    if told is None or len(told) < 5:
        raise CardMalformed("a file whose control information does not tell its length")
    size = int.from_bytes(told[3:5])
    if not 0 < size <= MAX_FILE_BYTES:
        raise CardMalformed(f"a file of {size} bytes")
    return size


def _must(command: CommandApdu, step: str) -> ApduExchange:
    response = yield from exchange(command)
    if not response.ok:
        raise CardRefused(step, response.sw)
    return response


def _not_allowed(response: ResponseApdu) -> bool:
    """Whether the card has what was selected, and does not give it now: 69xx, "command not allowed"."""
    return response.sw >> 8 == 0x69

"""How a PC/SC reader is chosen by its name, and what its ATR tells."""

import importlib.util

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hardware.atr import contactless_atr
from hardware.medium import MediumLost, MediumTimeout, ReaderError, ReaderGone, Target, Technology
from tests.missing import missing

if importlib.util.find_spec("smartcard") is None:
    missing("pyscard is not installed")

from smartcard import scard

from hardware import pcsc_slot

READERS = ["ACS ACR1252 00 00", "ACS ACR1252 00 01", "HID Omnikey 5427 00 00"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("ACS ACR1252 00 01", "ACS ACR1252 00 01"),
        ("HID", "HID Omnikey 5427 00 00"),
        ("HID Omnikey 5427", "HID Omnikey 5427 00 00"),
    ],
)
def test_a_reader_by_its_name_or_a_beginning(wanted: str, found: str) -> None:
    assert pcsc_slot._choose("pcsc:x", wanted, READERS) == found


def test_a_whole_name_wins_over_a_longer_one() -> None:
    assert pcsc_slot._choose("pcsc:x", "Reader", ["Reader 2", "Reader"]) == "Reader"


@pytest.mark.parametrize(("wanted", "why"), [("ACS", "more than one"), ("SCM", "no reader"), ("", "more than one")])
def test_a_name_that_chooses_none_lists_the_readers(wanted: str, why: str) -> None:
    with pytest.raises(ReaderGone, match=why + r".*'ACS ACR1252 00 00', 'ACS ACR1252 00 01', 'HID Omnikey 5427 00 00'"):
        pcsc_slot._choose("pcsc:x", wanted, READERS)


def test_no_readers_at_all() -> None:
    with pytest.raises(ReaderGone, match="no reader has this name: readers found: none"):
        pcsc_slot._choose("pcsc:x", "", [])


def test_without_a_name_the_only_reader_is_taken() -> None:
    assert pcsc_slot._choose("pcsc:", "", ["Reader"]) == "Reader"


@pytest.mark.parametrize(
    ("atr", "technology", "historical"),
    [
        (contactless_atr(b"\x80Pilet"), Technology.TYPE_A, b"\x80Pilet"),
        (contactless_atr(b""), Technology.TYPE_A, b""),
        (contactless_atr(bytes.fromhex("8073C021C057597F")), Technology.TYPE_A, bytes.fromhex("8073C021C057597F")),
        (contactless_atr(bytes.fromhex("0011223300818170")), Technology.TYPE_B, bytes.fromhex("0011223300818170")),
        (bytes.fromhex("3B670000") + b"Contact", Technology.CONTACT, b"Contact"),
    ],
)
def test_what_an_atr_tells(atr: bytes, technology: Technology, historical: bytes) -> None:
    target = pcsc_slot._target(atr, lambda: b"")
    assert target.technology is technology
    assert target.historical == historical
    assert target.uid == b""


@pytest.mark.parametrize(
    ("uid", "technology"),
    [
        (bytes.fromhex("11223344"), Technology.TYPE_B),
        (bytes.fromhex("04112233445566"), Technology.TYPE_A),
        (bytes.fromhex("04112233445566778899"), Technology.TYPE_A),
    ],
)
def test_an_identifier_too_long_for_type_b_tells_type_a(uid: bytes, technology: Technology) -> None:
    shaped_like_an_atqb = contactless_atr(bytes.fromhex("0011223300818170"))
    target = pcsc_slot._target(shaped_like_an_atqb, lambda: uid)
    assert (target.technology, target.uid) == (technology, uid)


CONTEXT, HANDLE = 1, 2
PRESENT = scard.SCARD_STATE_PRESENT | 0x0003_0000
SELECT = bytes.fromhex("00A40400")
GET_UID = bytes.fromhex("FFCA000000")
UIDS = st.sampled_from([4, 7, 10]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


class Service:
    """PC/SC's answers, played: what a reader that is pulled out or a card that is torn away makes it say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = PRESENT
        self.status = scard.SCARD_S_SUCCESS
        self.connected = scard.SCARD_S_SUCCESS
        self.transmitted = scard.SCARD_S_SUCCESS
        self.response = [0x90, 0x00]
        self.told = (scard.SCARD_S_SUCCESS, bytes.fromhex("6A81"))
        self.asked: list[tuple[str, bytes]] = []
        self.atr = list(contactless_atr(b"hist"))
        self.disposed: list[int] = []
        answers = {
            "SCardEstablishContext": lambda _scope: (scard.SCARD_S_SUCCESS, CONTEXT),
            "SCardReleaseContext": lambda _context: scard.SCARD_S_SUCCESS,
            "SCardListReaders": lambda _context, _groups: (scard.SCARD_S_SUCCESS, ["Reader"]),
            "SCardGetStatusChange": lambda _context, _ms, _known: (self.status, [("Reader", self.state, self.atr)]),
            "SCardConnect": lambda *_: (self.connected, HANDLE, scard.SCARD_PROTOCOL_T1),
            "SCardBeginTransaction": self._begin,
            "SCardEndTransaction": lambda _card, _disposition: scard.SCARD_S_SUCCESS,
            "SCardStatus": lambda _card: (scard.SCARD_S_SUCCESS, "Reader", 0, 0, self.atr),
            "SCardTransmit": self._transmit,
            "SCardDisconnect": self._disconnect,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(scard, name, answer)

    def _begin(self, _card: int) -> int:
        self.asked.append(("transaction", b""))
        return scard.SCARD_S_SUCCESS

    def _transmit(self, _card: int, pci: int, apdu: list[int]) -> tuple[int, list[int]]:
        assert pci == scard.SCARD_PCI_T1
        self.asked.append(("apdu", bytes(apdu)))
        if bytes(apdu) == GET_UID:
            return self.told[0], list(self.told[1])
        return self.transmitted, self.response

    def _disconnect(self, card: int, disposition: int) -> int:
        assert card == HANDLE
        self.disposed.append(disposition)
        return scard.SCARD_S_SUCCESS


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(monkeypatch)


@pytest.fixture
def slot(service: Service) -> pcsc_slot.Slot:
    slot = pcsc_slot.Slot("pcsc:Reader")
    slot.open("Reader")
    return slot


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (scard.SCARD_W_REMOVED_CARD, MediumLost),
        (scard.SCARD_W_RESET_CARD, MediumLost),
        (scard.SCARD_W_UNPOWERED_CARD, MediumLost),
        (scard.SCARD_W_UNRESPONSIVE_CARD, MediumLost),
        (scard.SCARD_E_NO_SMARTCARD, MediumLost),
        (scard.SCARD_E_NOT_TRANSACTED, MediumLost),
        (scard.SCARD_E_TIMEOUT, MediumTimeout),
        (scard.SCARD_E_NO_SERVICE, ReaderGone),
        (scard.SCARD_E_READER_UNAVAILABLE, ReaderGone),
        (scard.SCARD_E_INVALID_HANDLE, ReaderGone),
        (scard.SCARD_F_COMM_ERROR, ReaderGone),
        (0x8010_FFFF, ReaderGone),
    ],
)
def test_each_code_is_one_of_the_three_errors(
    service: Service, slot: pcsc_slot.Slot, result: int, error: type[ReaderError]
) -> None:
    card = slot.connect()
    assert card is not None
    service.transmitted = result
    with pytest.raises(error) as caught:
        slot.transmit(card, SELECT)
    assert type(caught.value) is error
    service.connected = result
    with pytest.raises(error):
        slot.connect()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (scard.SCARD_S_SUCCESS, scard.SCARD_STATE_CHANGED | scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_IGNORE),
        (scard.SCARD_S_SUCCESS, scard.SCARD_STATE_CHANGED | scard.SCARD_STATE_UNAVAILABLE),
        (scard.SCARD_E_UNKNOWN_READER, 0),
        (scard.SCARD_E_READER_UNAVAILABLE, 0),
        (scard.SCARD_E_NO_SERVICE, 0),
        (scard.SCARD_E_INVALID_HANDLE, 0),
    ],
)
def test_a_pulled_reader_is_gone_wherever_it_is_noticed(
    service: Service, slot: pcsc_slot.Slot, status: int, state: int
) -> None:
    card = slot.connect()
    assert card is not None
    service.status, service.state = status, state
    with pytest.raises(ReaderGone):
        slot.look()
    with pytest.raises(ReaderGone):
        slot.holds(card, 0)
    with pytest.raises(ReaderGone):
        slot.connect()
    slot.close()


def test_another_card_in_its_place_is_not_the_same(service: Service, slot: pcsc_slot.Slot) -> None:
    card = slot.connect()
    assert card is not None
    assert slot.holds(card, 0)
    service.state = PRESENT + 0x0002_0000  # out, and in again
    assert not slot.holds(card, 0)


def test_a_card_that_was_let_go_answers_no_more(service: Service, slot: pcsc_slot.Slot) -> None:
    card = slot.connect()
    assert card is not None
    slot.release()
    assert service.disposed == [scard.SCARD_RESET_CARD]
    assert not slot.holds(card, 0)
    with pytest.raises(MediumLost, match="let go already"):
        slot.transmit(card, SELECT)


def test_a_card_in_other_hands_is_no_card_yet(service: Service, slot: pcsc_slot.Slot) -> None:
    service.connected = scard.SCARD_E_SHARING_VIOLATION
    assert slot.connect() is None


@pytest.mark.parametrize("response", [[], [0x90]])
def test_an_answer_without_a_status_word_is_a_garbled_one(
    service: Service, slot: pcsc_slot.Slot, response: list[int]
) -> None:
    card = slot.connect()
    assert card is not None
    service.response = response
    with pytest.raises(MediumLost, match="an answer of"):
        slot.transmit(card, SELECT)


def test_an_atr_that_is_none_lets_the_card_go(service: Service, slot: pcsc_slot.Slot) -> None:
    service.atr = [0x3B]
    with pytest.raises(MediumLost, match="3b is not an answer to reset"):
        slot.connect()
    assert service.disposed == [scard.SCARD_RESET_CARD]


def connected(service: Service) -> pcsc_slot.Connection:
    """Connect to the card that lies there, as for a new tap."""
    slot = pcsc_slot.Slot("pcsc:Reader")
    slot.open("Reader")
    card = slot.connect()
    assert card is not None
    return card


KEEPS_ITS_PATCHES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@KEEPS_ITS_PATCHES
@given(uid=UIDS)
def test_the_reader_is_asked_for_the_uid_once_before_the_dialogue(service: Service, uid: bytes) -> None:
    service.told = scard.SCARD_S_SUCCESS, uid + b"\x90\x00"
    service.asked.clear()
    slot = pcsc_slot.Slot("pcsc:Reader")
    slot.open("Reader")
    card = slot.connect()
    assert card is not None
    slot.transmit(card, SELECT)
    slot.transmit(card, SELECT)
    assert card.target.uid == uid
    assert service.asked == [("transaction", b""), ("apdu", GET_UID), ("apdu", SELECT), ("apdu", SELECT)]


@pytest.mark.parametrize(
    "answer", ["6A81", "6E00", "6D00", "6300", "6C07", "", "90", "9000", "04A1B2C3D4E5F6" + "6282"]
)
def test_a_reader_that_tells_no_uid_fails_no_tap(service: Service, answer: str) -> None:
    service.told = scard.SCARD_S_SUCCESS, bytes.fromhex(answer)
    assert connected(service).target.uid == b""


@KEEPS_ITS_PATCHES
@given(answer=st.binary(max_size=40) | st.binary(max_size=40).map(lambda octets: octets + b"\x90\x00"))
def test_no_answer_for_a_uid_fails_a_tap(service: Service, answer: bytes) -> None:
    assume(len(answer) - 2 not in (4, 7, 10) or not answer.endswith(b"\x90\x00"))
    service.told = scard.SCARD_S_SUCCESS, answer
    assert connected(service).target.uid == b""


@pytest.mark.parametrize(
    "result",
    [
        scard.SCARD_E_NOT_TRANSACTED,
        scard.SCARD_E_TIMEOUT,
        scard.SCARD_E_PROTO_MISMATCH,
        scard.SCARD_F_COMM_ERROR,
        scard.SCARD_W_RESET_CARD,
        0x8010_FFFF,
    ],
)
@pytest.mark.parametrize("octets", [b"", bytes.fromhex("04A1B2C3D4E5F69000")])
def test_an_error_instead_of_a_uid_fails_no_tap(service: Service, result: int, octets: bytes) -> None:
    service.told = result, octets
    assert connected(service).target.uid == b""


def test_a_contact_card_is_not_asked_for_a_uid(service: Service) -> None:
    service.atr = list(bytes.fromhex("3B670000") + b"Contact")
    service.told = scard.SCARD_S_SUCCESS, bytes.fromhex("04A1B2C3D4E5F69000")
    target = connected(service).target
    assert (target.technology, target.uid) == (Technology.CONTACT, b"")
    assert service.asked == [("transaction", b"")]


@given(technology=st.sampled_from(Technology), uid=UIDS | st.just(b""))
def test_which_identifiers_change_with_the_field(technology: Technology, uid: bytes) -> None:
    """ISO/IEC 14443-3 §6.5.4: four bytes of which the first is 08 are drawn anew; a PUPI may be."""
    random = technology is Technology.TYPE_B or not uid or (len(uid) == 4 and uid.startswith(b"\x08"))
    assert Target(technology, uid, b"").uid_is_random is random


@pytest.mark.parametrize("technology", [Technology.TYPE_A, Technology.CONTACT])
@pytest.mark.parametrize(("uid", "random"), [("08112233", True), ("09112233", False), ("08112233445566", False)])
def test_a_random_uid_has_four_bytes_and_begins_with_08(technology: Technology, uid: str, *, random: bool) -> None:
    assert Target(technology, bytes.fromhex(uid), b"").uid_is_random is random

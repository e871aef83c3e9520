"""The security module: against a chip in software through a played slot, and over vpcd through a real PC/SC service."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import CommandApdu
from hardware.atr import historical_bytes
from hardware.medium import MediumLost, MediumTimeout, ReaderGone
from hardware.sam import Sam, SamError, SamGone, SamKey, SamLocked, SamRefused
from hardware.virtual.sam import ATR, SamChip
from tests.strangers.conftest import PORT, PcscService
from validator.operator_keys import FileKey, OperatorKeys

NAME = "pcsc:Module Slot"
KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
BLOCK = bytes(range(16))
PIN = "123456"
SELECT = bytes.fromhex("00A4040009A0000003080000100000")
STATE = bytes.fromhex("00200080")
OK, GONE = bytes.fromhex("9000"), b""


def aes(block: bytes, key: bytes = KEY) -> bytes:
    return Cipher(algorithms.AES128(key), modes.ECB()).encryptor().update(block)


def question(block: bytes = BLOCK, reference: int = 0x82) -> bytes:
    return bytes([0x00, 0x87, 0x08, reference, 0x16, 0x7C, 0x14, 0x82, 0x00, 0x81, 0x10]) + block + b"\0"


# The chip in software.


def unlocked(pin: str | None = None) -> SamChip:
    chip = SamChip({0x82: KEY, 0x83: KEY[::-1]}, pin)
    assert chip.process(SELECT).response == bytes.fromhex("61164F0BA00000030800001000010079074F05A0000003089000")
    return chip


@given(key=st.binary(min_size=16, max_size=16), block=st.binary(min_size=16, max_size=16), swapped=st.booleans())
def test_a_module_encrypts_blocks(key: bytes, block: bytes, swapped: bool) -> None:  # noqa: FBT001 - Hypothesis fills it
    chip = SamChip({0x9E: key})
    chip.process(SELECT)
    command = question(block, 0x9E)
    if swapped:
        command = command[:7] + b"\x81\x10" + block + b"\x82\x00\x00"
    assert chip.process(command).response == b"\x7c\x12\x82\x10" + aes(block, key) + OK


@given(command=st.binary(max_size=40) | st.builds(lambda tail: question()[:5] + tail, st.binary(max_size=30)))
def test_any_bytes_get_a_status_word_and_never_a_key(command: bytes) -> None:
    chip = unlocked()
    response = chip.process(command).response
    assert response is not None
    assert len(response) >= 2
    assert KEY not in response
    assert KEY[::-1] not in response


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (question(reference=0x84), "6A86"),
        (question().replace(b"\x87\x08", b"\x87\x0a"), "6A86"),
        (question().replace(b"\x82\x00", b"\x83\x00"), "6A80"),
        (question()[:5] + b"\x7c\x15" + question()[7:], "6A80"),
        (bytes.fromhex("0087088204 7C028200 00"), "6A80"),
        (bytes.fromhex("00CB3FFF055C035FC10100"), "6D00"),
        (bytes.fromhex("80A40400"), "6E00"),
        (bytes.fromhex("00A4000009A00000030800001000"), "6A86"),
        (bytes.fromhex("00A4040006D27600012401"), "6A82"),
        (bytes.fromhex("00200081"), "6A88"),
        (bytes.fromhex("00"), "6700"),
    ],
)
def test_what_a_module_refuses(command: bytes, status: str) -> None:
    assert unlocked().process(command).response == bytes.fromhex(status)


def test_nothing_is_answered_before_it_is_selected() -> None:
    assert SamChip({0x82: KEY}).process(question()).response == bytes.fromhex("6D00")


def verify(pin: str) -> bytes:
    return bytes.fromhex("0020008008") + pin.encode().ljust(8, b"\xff")


def test_a_pin_unlocks_until_the_next_reset_and_blocks_after_three_wrong_ones() -> None:
    chip = unlocked(PIN)
    says = [chip.process(c).response for c in (question(), STATE, verify("000000"), STATE, verify(PIN), STATE)]
    assert [said.hex() for said in says if said] == ["6982", "63c3", "63c2", "63c2", "9000", "9000"]
    assert chip.process(question()).response == b"\x7c\x12\x82\x10" + aes(BLOCK) + OK
    chip.reset()
    assert chip.process(STATE).response == bytes.fromhex("6D00")
    chip.process(SELECT)
    assert chip.process(question()).response == bytes.fromhex("6982")
    says = [chip.process(verify("000000")).response for _ in range(3)] + [chip.process(verify(PIN)).response]
    assert [said.hex() for said in says if said] == ["63c2", "63c1", "6983", "6983"]


@pytest.mark.parametrize(
    ("keys", "pin"), [({0x82: bytes(24)}, None), ({0x100: KEY}, None), ({}, "12345"), ({}, "12345a")]
)
def test_a_module_that_cannot_be(keys: dict[int, bytes], pin: str | None) -> None:
    with pytest.raises(ValueError, match=r"key reference|PIV PIN"):
        SamChip(keys, pin)


def test_the_answer_to_reset_is_one() -> None:
    assert historical_bytes(ATR) == SamChip({}).historical
    check = 0
    for byte in ATR[1:]:
        check ^= byte
    assert check == 0


# The port, above a slot that is played.


@dataclass
class World:
    """What lies in the slot, and what goes wrong there: each fault is taken once, at the next call of its kind."""

    chip: SamChip | None = field(default_factory=lambda: SamChip({0x82: KEY}))
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    scripted: dict[bytes, bytes] = field(default_factory=dict)
    busy: bool = False
    stall: threading.Event | None = None
    calls: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def called(self, what: str) -> None:
        self.calls.append(what)
        self.threads.add(threading.current_thread().name)
        if self.faults.get(what):
            raise self.faults[what].pop(0)


class Slot:
    """What `hardware.pcsc_slot.Slot` does, with a chip in it."""

    world: World

    def __init__(self, name: str) -> None:
        assert name == NAME
        self._card: object = None

    def open(self, wanted: str) -> None:
        assert wanted == "Module Slot"
        self.world.called("open")

    def look(self) -> bool:
        self.world.called("look")
        return self.world.chip is not None

    def connect(self) -> object | None:
        self.world.called("connect")
        if self.world.busy:
            return None
        assert self.world.chip is not None
        assert self._card is None, "connected while an older connection is open"
        self.world.chip.reset()
        self._card = SimpleNamespace()
        return self._card

    def transmit(self, card: object, apdu: bytes) -> tuple[bytes, float]:
        assert card is self._card, "an old connection was used again"
        self.world.called("transmit")
        if self.world.stall is not None:
            self.world.stall.wait(10)
        if self.world.chip is None:
            raise MediumLost(NAME, "the card was removed")
        if apdu[:2] in self.world.scripted:
            return self.world.scripted[apdu[:2]], 0.0
        response = self.world.chip.process(apdu).response
        assert response is not None
        return response, 0.0

    def close(self) -> None:
        self.world.called("close")
        self._card = None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    module = ModuleType("hardware.pcsc_slot")
    monkeypatch.setattr(Slot, "world", world, raising=False)
    monkeypatch.setattr(module, "Slot", Slot, raising=False)
    monkeypatch.setitem(sys.modules, "hardware.pcsc_slot", module)
    return world


@pytest.fixture
def sams() -> Iterator[Callable[..., Sam]]:
    made: list[Sam] = []

    def make(pin: bytes | None = None, limit_s: float = 5.0) -> Sam:
        made.append(Sam(NAME, pin, limit_s=limit_s))
        return made[-1]

    yield make
    for sam in made:
        sam.close()
        sam._worker.join()


def test_a_key_of_a_module_encrypts_as_one_in_a_file(world: World, sams: Callable[..., Sam]) -> None:
    key = SamKey(sams(), 0x82)
    assert key.encrypt_block(BLOCK) == FileKey(bytearray(KEY)).encrypt_block(BLOCK) == aes(BLOCK)
    assert key.encrypt_block(bytes(16)) == aes(bytes(16))
    assert world.calls == ["open", "look", "connect", "transmit", "transmit", "transmit"], "it connects once"
    assert world.threads == {NAME}, "calls that may hang belong to a thread of their own"


def test_the_same_card_keys_wherever_the_operator_key_lies(world: World, sams: Callable[..., Sam]) -> None:
    name, uid = "ntag424-application", bytes.fromhex("04782E21801D80")
    from_module = OperatorKeys({name: {1: SamKey(sams(), 0x82)}})
    from_file = OperatorKeys({name: {1: FileKey(bytearray(KEY))}})
    with from_module.card_key(name, 1, uid) as one, from_file.card_key(name, 1, uid) as other:
        assert one == other


def test_it_can_be_opened_before_the_first_tap(world: World, sams: Callable[..., Sam]) -> None:
    sam = sams()
    assert sam.name == NAME
    sam.open()
    sam.open()
    assert world.calls == ["open", "look", "connect", "transmit"]


def test_a_pin_is_given_after_every_reset_and_only_then(world: World, sams: Callable[..., Sam]) -> None:
    world.chip = SamChip({0x82: KEY}, PIN)
    sam = sams(PIN.encode())
    for _ in range(3):
        assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)
    assert world.calls.count("transmit") == 1 + 2 + 3
    world.faults["transmit"] = [MediumLost(NAME, "the card was reset")]
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)
    assert world.calls.count("connect") == 2


def test_a_key_that_wants_a_pin_which_is_not_here(world: World, sams: Callable[..., Sam]) -> None:
    world.chip = SamChip({0x82: KEY}, PIN)
    with pytest.raises(SamLocked, match="key 82 wants a PIN: give the gate the credential"):
        sams().encrypt_block(0x82, BLOCK)


def test_a_module_that_locked_itself_is_unlocked_for_the_next_question(world: World, sams: Callable[..., Sam]) -> None:
    world.chip = SamChip({0x82: KEY}, PIN)
    sam = sams(PIN.encode())
    sam.open()
    world.chip.reset()
    world.chip.process(SELECT)
    with pytest.raises(SamLocked):
        sam.encrypt_block(0x82, BLOCK)
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)


def test_a_wrong_pin_costs_one_try_and_no_more(world: World, sams: Callable[..., Sam]) -> None:
    world.chip = SamChip({0x82: KEY}, PIN)
    sam = sams(b"000000")
    for _ in range(5):
        with pytest.raises(SamLocked):
            sam.encrypt_block(0x82, BLOCK)
    world.chip.reset()
    world.chip.process(SELECT)
    assert world.chip.process(STATE).response == bytes.fromhex("63C2")


@pytest.mark.parametrize("state", ["63C1", "63C0", "6983", "6A88"])
def test_a_pin_is_not_given_where_it_could_block_the_module(world: World, sams: Callable[..., Sam], state: str) -> None:
    world.scripted[bytes.fromhex("0020")] = bytes.fromhex(state)
    sent: list[int] = []
    with pytest.raises(SamLocked, match="its PIN is blocked or one wrong try from it"):
        sams(PIN.encode()).encrypt_block(0x82, BLOCK)
    sent += [call == "transmit" for call in world.calls]
    assert sum(sent) == 2, "SELECT, and the question for the state"


def test_a_module_that_was_put_back_is_found_within_the_same_tap(world: World, sams: Callable[..., Sam]) -> None:
    sam = sams()
    sam.open()
    chip, world.chip = world.chip, None
    for _ in range(2):
        with pytest.raises(SamGone, match="security module in pcsc:Module Slot: no module is in it"):
            sam.encrypt_block(0x82, BLOCK)
    world.chip = chip
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)


@pytest.mark.parametrize("error", [MediumLost, MediumTimeout, ReaderGone])
@pytest.mark.parametrize("call", ["look", "connect", "transmit"])
def test_whatever_breaks_is_tried_once_more_and_then_told(
    world: World, sams: Callable[..., Sam], error: type[ReaderGone], call: str
) -> None:
    sam = sams()
    world.faults[call] = [error(NAME, "broke")]
    with pytest.raises(SamGone, match="broke"):
        sam.encrypt_block(0x82, BLOCK)
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)
    world.faults["transmit"] = [error(NAME, "broke")]
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)
    world.faults["transmit"] = [error(NAME, "broke"), error(NAME, "broke again")]
    with pytest.raises(SamGone, match="broke again"):
        sam.encrypt_block(0x82, BLOCK)


def test_a_reader_that_is_not_there_is_looked_for_again(world: World, sams: Callable[..., Sam]) -> None:
    sam = sams()
    world.faults["open"] = [ReaderGone(NAME, "no reader has this name")]
    with pytest.raises(SamGone, match="no reader has this name"):
        sam.open()
    sam.open()


def test_a_module_in_other_hands(world: World, sams: Callable[..., Sam]) -> None:
    world.busy = True
    with pytest.raises(SamGone, match="another program keeps it"):
        sams().encrypt_block(0x82, BLOCK)


def test_without_pyscard_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, sams: Callable[..., Sam]) -> None:
    monkeypatch.setitem(sys.modules, "hardware.pcsc_slot", None)
    with pytest.raises(SamGone, match="install pilet with its extra `pcsc`"):
        sams().open()


def test_a_module_that_hangs_is_not_waited_for_twice(world: World, sams: Callable[..., Sam]) -> None:
    sam = sams(limit_s=0.05)
    sam.open()
    world.stall = threading.Event()
    with pytest.raises(SamGone, match=r"did not answer for 0\.05 s"):
        sam.encrypt_block(0x82, BLOCK)
    asked = len(world.calls)
    with pytest.raises(SamGone, match="still hangs"):
        sam.encrypt_block(0x82, BLOCK)
    assert len(world.calls) == asked
    hanging = sam._running
    assert hanging is not None
    world.stall.set()
    hanging.result(5)
    world.stall = None
    sam._limit_s = 5.0
    assert sam.encrypt_block(0x82, BLOCK) == aes(BLOCK)


@pytest.mark.parametrize(
    ("ins", "response", "why"),
    [
        ("00A4", "6A82", "6A82 to SELECT: it has no PIV application"),
        ("0087", "6A86", "6A86 to key 82: no AES-128 key is there, or it may not be used"),
        ("0087", "9000", "key 82 answered something else"),
        ("0087", "7C119000", "key 82 answered something else"),
        ("0087", "7C11820F" + "00" * 15 + "9000", "key 82 answered something else"),
        ("0087", "7C12811000112233445566778899AABBCCDDEEFF9000", "key 82 answered something else"),
        ("0087", "6100", "promises more"),
    ],
)
def test_what_a_strange_module_answers(
    world: World, sams: Callable[..., Sam], ins: str, response: str, why: str
) -> None:
    world.scripted[bytes.fromhex(ins)] = bytes.fromhex(response)
    world.scripted[bytes.fromhex("00C0")] = bytes.fromhex("6100")
    with pytest.raises(SamRefused, match=why) as caught:
        sams().encrypt_block(0x82, BLOCK)
    assert "0011" not in str(caught.value)


@given(response=st.binary(min_size=2, max_size=40))
def test_any_answer_is_a_block_or_a_typed_error(response: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(scripted={bytes.fromhex("0087"): response, bytes.fromhex("00C0"): response})
        module = ModuleType("hardware.pcsc_slot")
        patch.setattr(Slot, "world", world, raising=False)
        patch.setattr(module, "Slot", Slot, raising=False)
        patch.setitem(sys.modules, "hardware.pcsc_slot", module)
        sam = Sam(NAME, limit_s=5.0)
        try:
            said = sam.encrypt_block(0x82, BLOCK)
        except SamError as error:
            said = str(error).encode()
        finally:
            sam.close()
            sam._worker.join()
        assert len(said) == 16 or said.startswith(f"security module in {NAME}: ".encode())
        assert BLOCK.hex().encode() not in said


def test_bytes_that_came_in_pieces(world: World, sams: Callable[..., Sam]) -> None:
    """T=0 readers hand 61xx up; the answer is fetched."""
    whole = b"\x7c\x12\x82\x10" + aes(BLOCK)
    world.scripted = {bytes.fromhex("0087"): bytes.fromhex("6114"), bytes.fromhex("00C0"): whole + OK}
    assert sams().encrypt_block(0x82, BLOCK) == aes(BLOCK)


def test_a_block_of_another_length_is_a_mistake_of_ours(sams: Callable[..., Sam]) -> None:
    with pytest.raises(ValueError, match="a block of 15 bytes"):
        sams().encrypt_block(0x82, BLOCK[1:])


@pytest.mark.parametrize("pin", [b"", b"12345", b"123456789", b"12345x", b"12 456"])
def test_a_pin_that_is_none(pin: bytes) -> None:
    with pytest.raises(ValueError, match="6 to 8 decimal digits") as caught:
        Sam(NAME, pin)
    assert not pin or pin.decode() not in str(caught.value)


@given(pin=st.from_regex(r"[0-9]{6,8}", fullmatch=True))
def test_no_repr_says_the_pin(pin: str) -> None:
    sam = Sam("pcsc:Slot", pin.encode())
    said = f"{sam!r}{SamKey(sam, 0x82)!r}{sam}"
    sam.close()
    sam._worker.join()
    assert pin not in said.replace(f"{id(sam):x}", "")


def test_questions_from_many_threads_wait_for_each_other(world: World, sams: Callable[..., Sam]) -> None:
    sam = sams()
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        answers[number] = sam.encrypt_block(0x82, number.to_bytes(16))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: aes(number.to_bytes(16)) for number in range(16)}
    assert world.calls.count("connect") == 1


# The same, over vpcd through pcscd: the second virtual slot is a module's.

READER = "pcsc:Virtual PCD 00 01"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PcscService]:
    running = PcscService(tmp_path_factory.mktemp("sam"))
    try:
        running.start()
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def module_in_slot(service: PcscService, pin: str | None = None) -> Iterator[None]:
    command = [sys.executable, str(HERE / "holding_sam.py"), str(PORT + 1), f"82={KEY.hex()}"]
    holder = service.popen([*command, *([] if pin is None else [pin])])
    waiter = [sys.executable, str(HERE.parent / "strangers" / "await_card.py"), READER.removeprefix("pcsc:")]
    try:
        assert service.run([*waiter, "present", "15"]).returncode == 0
        yield
    finally:
        holder.communicate()
        assert service.run([*waiter, "empty", "15"]).returncode == 0


@contextlib.contextmanager
def session(service: PcscService, *folder: str) -> Iterator[Callable[[bytes], str]]:
    command = [sys.executable, str(HERE / "sam_session.py"), READER, "82", "ntag424-application", *folder]
    process: subprocess.Popen[str] = service.popen(command)
    assert process.stdin is not None
    assert process.stdout is not None
    to, answers = process.stdin, process.stdout

    def derive(uid: bytes) -> str:
        to.write(uid.hex() + "\n")
        to.flush()
        return answers.readline().rstrip("\n")

    try:
        yield derive
    finally:
        process.communicate()


def from_file(uid: bytes) -> str:
    keys = OperatorKeys({"ntag424-application": {1: FileKey(bytearray(KEY))}})
    with keys.card_key("ntag424-application", 1, uid) as key:
        return key.hex()


def test_over_pcsc_the_card_keys_are_those_of_a_file_also_after_it_was_taken_out(service: PcscService) -> None:
    uids = [bytes.fromhex("04782E21801D80"), bytes(7), b"\xff" * 7]
    with session(service) as derive:
        assert "no module is in it: put it in" in derive(uids[0])
        for _ in range(2):
            with module_in_slot(service):
                assert [derive(uid) for uid in uids] == [from_file(uid) for uid in uids]
        assert "security module in pcsc:Virtual PCD 00 01" in derive(uids[0])


def test_over_pcsc_a_pin_unlocks_it(service: PcscService, tmp_path: Path) -> None:
    pin = tmp_path / "sam.pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o400)
    uid = bytes.fromhex("04782E21801D80")
    with module_in_slot(service, PIN):
        with session(service) as derive:
            assert "wants a PIN" in derive(uid)
        with session(service, str(tmp_path)) as derive:
            assert derive(uid) == from_file(uid)


def test_the_question_is_as_the_standard_prints_it() -> None:
    apdu = CommandApdu.from_bytes(question())
    assert (apdu.ins, apdu.p1, apdu.p2, apdu.le) == (0x87, 0x08, 0x82, 256)

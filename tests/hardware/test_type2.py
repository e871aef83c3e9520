"""Type 2 tags: their answers as bytes, the virtual one on the air, and the nfcpy driver that carries their frames."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import nfc
import nfc.clf
import nfc.tag
import nfc.tag.tt2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nfc.clf import pn53x

from hardware.isodep_initiator import Fault
from hardware.medium import Medium, MediumLost, Target, Technology
from hardware.nfcpy import NfcpyReader
from hardware.nfcpy_radio import Radio
from hardware.type2 import ACK, TagAnswer, TagCommand
from hardware.virtual.air import BYTE_AIR_S, AirCard, AirTiming, Field
from hardware.virtual.chip import Answer
from hardware.virtual.isodep_target import Reply
from hardware.virtual.type2_target import Type2Target
from hardware.virtual.ultralight_aes import OPEN, PROGRAM_S, VERSION, Settings, UltralightAes
from tests.conversing import transceive
from tests.hardware.echo import OK, Echo, WatchedCard

T = TypeVar("T")
A = Technology.TYPE_A
UID = bytes.fromhex("04A1B2C3D4E5F6")
PLENTY_S = 20
READ_4, WRITE_4 = bytes.fromhex("3004"), bytes.fromhex("A204CAFED00D")
PLAIN = Settings(cmac=False, auth0=OPEN)


def tag(settings: Settings = PLAIN) -> UltralightAes:
    return UltralightAes(uid=UID, data_key=bytes(16), pages={4: bytes(range(16))}, settings=settings)


class Stranger:
    """A MIFARE Classic: SAK 08, a UID of its own, and nothing to say to a type 2 tag's commands."""

    shown_uid = UID
    sak = 0x08

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.heard: list[bytes] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def process(self, frame: bytes) -> Answer:
        self.heard.append(frame)
        return Answer(self._answer)


async def found(reader: NfcpyReader) -> Medium:
    async with asyncio.timeout(PLENTY_S):
        return await reader.wait()


async def with_stranger(field: Field, read: Callable[[nfc.ContactlessFrontend], T]) -> T:
    def run() -> T:
        frontend = nfc.ContactlessFrontend(field.path)
        try:
            return read(frontend)
        finally:
            frontend.close()

    return await asyncio.to_thread(run)


@given(st.binary(max_size=70))
def test_every_frame_is_data_an_acknowledgement_or_silence(frame: bytes) -> None:
    answer = TagAnswer.from_bytes(frame)
    four_bits = len(frame) == 1 and frame[0] < 0x10
    assert answer.acknowledgement == (frame[0] if four_bits else None)
    assert answer.data == (b"" if four_bits else frame)
    assert answer.refused == (four_bits and frame[0] != ACK)
    assert answer.silent == (frame == b"")
    assert bytes(TagCommand(frame)) == frame


def test_a_refusal_or_silence_ends_the_selected_state() -> None:
    for frame, dropped in ((b"\x60", False), (WRITE_4, False), (b"\x30\x3c", True), (b"\x99", True), (b"\x26", True)):
        target = Type2Target(tag())
        target.receive(frame)
        assert target.dropped is dropped
        assert not target.halted
    target = Type2Target(tag())
    assert target.receive(b"\x50\x00") is None
    assert target.halted
    assert target.answered == 0


async def test_nfcpys_own_tag_layer_reads_and_writes_the_virtual_tag(field: Field) -> None:
    chip = tag()
    field.place(AirCard(chip, A))

    def read(frontend: nfc.ContactlessFrontend) -> list[bytes]:
        target = frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        assert target is not None
        assert [bytes(part or b"") for part in (target.sens_res, target.sel_res, target.sdd_res)] == [
            b"\x44\x00",
            b"\0",
            UID,
        ]
        stranger: Any = nfc.tag.activate(frontend, target)
        assert stranger.type == "Type2Tag"
        assert stranger.write(4, b"\xca\xfe\xd0\x0d") is True
        return [bytes(stranger.read(4)), bytes(stranger.transceive(b"\x60"))]

    assert await with_stranger(field, read) == [b"\xca\xfe\xd0\x0d" + bytes(range(4, 16)), VERSION]


@pytest.mark.parametrize("random_uid", [False, True])
async def test_frames_are_carried_there_and_back(field: Field, reader: NfcpyReader, *, random_uid: bool) -> None:
    field.place(AirCard(tag(Settings(cmac=False, auth0=OPEN, random_uid=random_uid)), A))
    medium = await found(reader)
    assert medium.target.uid_is_random is random_uid
    if not random_uid:
        assert medium.target == Target(A, UID, b"", 0x00, apdus=False)
    assert await transceive(medium, b"\x60") == VERSION
    assert await transceive(medium, WRITE_4) == bytes([ACK])
    assert await transceive(medium, READ_4) == b"\xca\xfe\xd0\x0d" + bytes(range(4, 16))


async def test_a_refused_command_costs_a_new_selection_and_nothing_more(field: Field, reader: NfcpyReader) -> None:
    chip = tag()
    card = WatchedCard(chip, A)
    field.place(card)
    medium = await found(reader)
    selection = [frame.hex() for frame in card.reached]
    assert selection[0] == "26"
    assert TagAnswer.from_bytes(await transceive(medium, b"\x30\x3c")).refused
    assert await transceive(medium, READ_4) == bytes(range(16))
    assert [frame.hex() for frame in card.reached] == [*selection, "303c", *selection, "3004"]


@pytest.mark.parametrize("answer", [None, b"\x00", b"\x04"])
async def test_a_stranger_is_known_by_its_silence_or_its_refusal(
    field: Field, reader: NfcpyReader, answer: bytes | None
) -> None:
    chip = Stranger(answer)
    field.place(AirCard(chip, A))
    medium = await found(reader)
    assert medium.target == Target(A, UID, b"", 0x08, apdus=False)
    assert await transceive(medium, b"\x60") == (answer or b"")
    assert await transceive(medium, b"\x60") == (answer or b"")
    assert chip.heard == [b"\x60", b"\x60"]
    assert await medium.present()


async def test_silence_after_an_answer_is_a_lost_tag(field: Field, reader: NfcpyReader) -> None:
    field.place(AirCard(tag(), A))
    medium = await found(reader)
    assert await transceive(medium, b"\x60") == VERSION
    with pytest.raises(MediumLost, match="silence where a tag should answer"):
        await transceive(medium, b"\x99")


async def test_a_frame_is_sent_once(field: Field, reader: NfcpyReader) -> None:
    """Nobody knows whether a tag that falls silent carried it out; nfcpy's own layer sends it three times."""
    card, count = WatchedCard(tag(), A), b"\xa5\x00\x01\x00\x00\x00"
    card.leaves_at = 6  # after REQA, two cascade levels, and one command
    field.place(card)

    def insist(frontend: nfc.ContactlessFrontend) -> None:
        target = frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        assert target is not None
        stranger = nfc.tag.tt2.Type2Tag(frontend, target)
        stranger.transceive(b"\x60")
        with pytest.raises(nfc.tag.TagCommandError):
            stranger.transceive(count)

    await with_stranger(field, insist)
    assert card.reached[6:] == [count] * 3
    field.place(card)
    medium = await found(reader)
    assert await transceive(medium, b"\x60") == VERSION
    with pytest.raises(MediumLost):
        await transceive(medium, count)
    assert card.reached[6:] == [count]


@pytest.mark.parametrize("tear_after", range(4))
async def test_a_tag_torn_away_after_any_frame_is_lost(field: Field, reader: NfcpyReader, tear_after: int) -> None:
    card = AirCard(tag(), A, tear_after=tear_after)
    field.place(card)
    medium = await found(reader)
    for _ in range(tear_after):
        assert await transceive(medium, b"\x60") == VERSION
    assert card.torn
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x60")
    assert not await medium.present()
    async with asyncio.timeout(PLENTY_S):
        await medium.removed()
    field.place(AirCard(Echo(), A))
    assert await transceive(await found(reader), b"\x11\x22") == b"\x11\x22" + OK


async def test_a_tag_that_left_after_a_refusal_is_lost(field: Field, reader: NfcpyReader) -> None:
    field.place(AirCard(tag(), A))
    medium = await found(reader)
    assert TagAnswer.from_bytes(await transceive(medium, b"\x30\x3c")).refused
    field.remove()
    with pytest.raises(MediumLost, match="after it had refused"):
        await transceive(medium, READ_4)


async def test_presence_changes_nothing_on_the_tag_and_ends_its_session(field: Field, reader: NfcpyReader) -> None:
    chip = tag()
    field.place(AirCard(chip, A))
    medium = await found(reader)
    await transceive(medium, WRITE_4)
    stored, heard = bytes(chip.memory), chip.heard
    assert await medium.present()
    assert (bytes(chip.memory), chip.heard) == (stored, heard)
    assert await transceive(medium, b"\x60") == VERSION
    removed = asyncio.ensure_future(medium.removed())
    polls = reader.polls
    while reader.polls < polls + 3:  # noqa: ASYNC110 - the port offers a count, as the watchdog reads it
        await asyncio.sleep(0.005)
    assert not removed.done()
    field.remove()
    await removed
    assert not await medium.present()


async def test_another_tag_in_its_place_is_not_the_same(field: Field, reader: NfcpyReader) -> None:
    field.place(AirCard(tag(), A))
    medium = await found(reader)
    field.place(AirCard(UltralightAes(uid=UID[::-1], data_key=bytes(16)), A))
    assert not await medium.present()
    await medium.removed()


async def test_a_tag_that_halts_or_is_polled_again_is_selected_anew(field: Field) -> None:
    chip = Stranger(b"\x0a")
    field.place(AirCard(chip, A))
    card = AirCard(chip, A)
    for command, woken_by in ((b"\x50\x00", b"\x52"), (b"\x26", b"\x26")):
        assert card.receive(b"\x52") is not None
        reply = card.receive(b"\x93\x20")
        assert reply is not None
        card.receive(b"\x93\x70" + reply.frame)
        level = card.receive(b"\x95\x20")
        assert level is not None
        assert card.receive(b"\x95\x70" + level.frame) == Reply(b"\x08")
        assert card.receive(READ_4) is not None
        resets = chip.resets
        assert card.receive(command) is None
        assert chip.resets == resets + (command == b"\x26")
        if command == b"\x50\x00":
            assert card.receive(b"\x26") is None
        assert card.receive(woken_by) is not None


async def test_the_floor_counts_frames_acknowledgements_and_writing(field: Field, reader: NfcpyReader) -> None:
    card = AirCard(tag(), A, timing=AirTiming())
    field.place(card)
    medium = await found(reader)
    before_s, answered, out = card.floor_s, card.frames, card.bytes_out
    assert await transceive(medium, WRITE_4) == bytes([ACK])
    assert card.floor_s - before_s == pytest.approx((6 + 2 + 4 / 9) * BYTE_AIR_S + PROGRAM_S)
    before_s = card.floor_s
    assert len(await transceive(medium, READ_4)) == 16
    assert card.floor_s - before_s == pytest.approx((2 + 2 + 16 + 2) * BYTE_AIR_S)
    assert (card.frames - answered, card.bytes_out - out) == (2, 17)
    assert medium.card_s >= card.floor_s


@pytest.mark.parametrize("technology", [Technology.TYPE_B, Technology.CONTACT])
def test_a_tag_is_type_a(technology: Technology) -> None:
    with pytest.raises(ValueError, match="type A"):
        AirCard(tag(), technology)
    with pytest.raises(ValueError, match="leave the UID out"):
        AirCard(tag(), A, uid=UID)


class FakeChipset:
    """What a PN53x says to InCommunicateThru; its receiver checks no CRC for a type 2 tag, nfcpy does."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def read_register(self, *names: str) -> list[int]:
        return [0] * len(names)

    def write_register(self, *_registers: tuple[str, int]) -> None: ...

    def rf_configuration(self, _item: int, _data: bytes) -> None: ...

    def in_communicate_thru(self, _data: bytes, _timeout: float) -> bytearray:
        return bytearray(self._received)


@pytest.mark.parametrize(
    ("received", "heard"),
    [
        ("0A", b"\x0a"),
        ("00", b"\x00"),
        ("123426CF", b"\x12\x34"),  # ISO/IEC 14443-3 annex B
        ("123426CE", Fault.GARBLED),
    ],
)
def test_a_pn53x_hands_four_bits_over_as_one_byte(received: str, heard: bytes | Fault) -> None:
    device: Any = pn53x.Device.__new__(pn53x.Device)
    device.chipset, device.log = FakeChipset(bytes.fromhex(received)), nfc.clf.log  # type: ignore[attr-defined]  # its own
    frontend: Any = nfc.ContactlessFrontend()
    target: Any = nfc.clf.RemoteTarget("106A")
    target.sens_res, target.sel_res, target.sdd_res = b"\x44\x00", bytearray(b"\x00"), UID
    frontend.device, frontend.target = device, target
    radio = Radio("nfcpy:fake", "usb")
    radio._frontend = frontend
    assert radio.carry(b"\x60") == heard

"""More than one medium in the field: what the air makes of them, and how the driver tells."""

import asyncio
import itertools
from typing import Any

import nfc
import nfc.clf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nfc.clf import pn53x

from hardware.medium import Medium, MediumLost, ReaderGone, SeveralMedia, Technology, Transceive
from hardware.nfcpy import NfcpyReader
from hardware.nfcpy_media import MuteMedium
from hardware.nfcpy_radio import PAIR_WAIT_S, Radio
from hardware.virtual.air import AirCard, AirTiming, Field, superposed
from hardware.virtual.isodep_target import Reply
from hardware.virtual.ultralight_aes import UltralightAes
from tests.conversing import transceive
from tests.hardware.echo import OK, Echo, WatchedCard

A, B = Technology.TYPE_A, Technology.TYPE_B
PLENTY_S = 20
UIDS = [bytes.fromhex(uid) for uid in ("04112233", "08FEDCBA", "04112233445566", "04112264555555")]


async def found(reader: NfcpyReader) -> Medium:
    async with asyncio.timeout(PLENTY_S):
        return await reader.wait()


async def told(reader: NfcpyReader, medium: Medium) -> None:
    """The medium says that it is not alone."""
    async with asyncio.timeout(PLENTY_S):
        with pytest.raises(SeveralMedia, match="one card at a time") as caught:
            await transceive(medium, b"\x00")
    assert str(caught.value).startswith(reader.name)


def refuse(carry: Transceive) -> None:
    """A dialogue with a card of the wrong family."""
    carry(b"\x00")
    raise LookupError("not ours")


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3), st.booleans())
def test_what_arrives_is_every_set_bit_or_the_common_beginning(frames: list[bytes], crc: bool) -> None:  # noqa: FBT001 - Hypothesis draws it
    heard = superposed([Reply(frame, crc=crc) for frame in frames])
    if len(set(frames)) == 1:
        assert heard == frames[0]
    elif crc:
        assert all(frame.startswith(heard) for frame in frames)
        assert len({frame[len(heard) : len(heard) + 1] for frame in frames}) > 1
    else:
        size = max(map(len, frames))
        for bit in range(8 * size):
            is_set = any(frame.ljust(size, b"\0")[bit // 8] >> bit % 8 & 1 for frame in frames)
            assert heard[bit // 8] >> bit % 8 & 1 == is_set


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(UIDS, 2)))
async def test_two_cards_of_type_a_are_told(field: Field, reader: NfcpyReader, one: bytes, other: bytes) -> None:
    cards = [AirCard(Echo(), A, uid=one), AirCard(Echo(), A, uid=other)]
    for card in cards:
        field.add(card)
    medium = await found(reader)
    assert medium.target.uid == b""
    await told(reader, medium)
    assert await medium.present()
    removed = asyncio.ensure_future(medium.removed())
    polls = reader.polls
    while reader.polls < polls + 3:  # noqa: ASYNC110 - the port offers a count, as the watchdog reads it
        await asyncio.sleep(0.005)
    assert not removed.done()
    field.remove(cards[0])
    async with asyncio.timeout(PLENTY_S):
        await removed
    assert not await medium.present()
    left = await found(reader)
    assert await transceive(left, b"\x11\x22") == b"\x11\x22" + OK


async def test_a_tag_beside_a_card_is_told(field: Field, reader: NfcpyReader) -> None:
    field.add(AirCard(UltralightAes(uid=bytes.fromhex("04A1B2C3D4E5F6"), data_key=bytes(16)), A))
    field.add(AirCard(Echo(), A, uid=UIDS[0]))
    await told(reader, await found(reader))


async def test_two_cards_of_type_b_are_told(field: Field, reader: NfcpyReader) -> None:
    field.add(AirCard(Echo(), B))
    field.add(AirCard(Echo(), B))
    medium = await found(reader)
    assert medium.target.technology is B
    await told(reader, medium)


async def test_three_cards_on_a_slow_air_are_told(field: Field, reader: NfcpyReader) -> None:
    for first in (0x04, 0x11, 0x62):
        field.add(AirCard(Echo(), A, uid=bytes([first, 1, 2, 3]), timing=AirTiming()))
    await told(reader, await found(reader))


@pytest.mark.parametrize("first", [A, B])
async def test_one_card_of_each_kind_is_told_where_a_dialogue_fails(
    field: Field, reader: NfcpyReader, first: Technology
) -> None:
    for technology in sorted((A, B), key=lambda each: each is not first):
        field.add(AirCard(Echo(), technology))
    medium = await found(reader)
    with pytest.raises(SeveralMedia):
        await medium.converse(refuse)
    with pytest.raises(SeveralMedia):  # its activation is over, and the other one is still there
        await transceive(medium, b"\x00")


async def test_a_dialogue_that_goes_well_is_not_looked_behind(field: Field, reader: NfcpyReader) -> None:
    cards = [WatchedCard(Echo(), technology) for technology in (A, B)]
    for card in cards:
        field.add(card)
    medium = await found(reader)
    reached, polls = sum(len(card.reached) for card in cards), reader.polls
    assert await transceive(medium, b"\x01") == b"\x01" + OK
    assert sum(len(card.reached) for card in cards) == reached + 1
    assert reader.polls == polls


@pytest.mark.parametrize("technology", [A, B])
async def test_one_medium_that_fails_alone_keeps_its_own_error(
    field: Field, reader: NfcpyReader, technology: Technology
) -> None:
    field.place(AirCard(Echo(), technology))
    medium = await found(reader)
    polls = reader.polls
    with pytest.raises(LookupError, match="not ours"):
        await medium.converse(refuse)
    assert reader.polls == polls + 1  # one look, for the other kind
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x00")
    assert await medium.present()
    field.remove()
    assert not await medium.present()
    field.place(AirCard(Echo(), technology))
    assert await transceive(await found(reader), b"\x01") == b"\x01" + OK


async def test_a_card_torn_away_while_another_one_comes_is_not_company(field: Field, reader: NfcpyReader) -> None:
    card = AirCard(Echo(), A, tear_after=0)
    field.add(card)
    medium = await found(reader)
    field.add(AirCard(Echo(), B))
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x00")


async def test_a_card_that_comes_and_goes_is_not_two(field: Field, reader: NfcpyReader) -> None:
    """Fewer looks than it takes hear somebody and single out nobody, then the card is there."""

    class Shy(AirCard):
        looks = 0

        def receive(self, frame: bytes) -> Reply | None:
            if frame == b"\x26":
                Shy.looks += 1
            return super().receive(frame) if frame == b"\x26" or Shy.looks >= 3 else None

    field.place(Shy(Echo(), A))
    assert await transceive(await found(reader), b"\x01") == b"\x01" + OK


async def test_a_reader_that_dies_while_it_looks_around_is_gone(
    field: Field, reader: NfcpyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object) -> None:
        raise OSError(19, "No such device")

    def unplug(carry: Transceive) -> None:
        monkeypatch.setattr("nfc.clf.udp.Device._send_data", dead)
        refuse(carry)

    field.place(AirCard(Echo(), A))
    medium = await found(reader)
    with pytest.raises(ReaderGone, match="plug it in"):
        await medium.converse(unplug)


class FakeChipset:
    """A PN53x that is asked for two targets at once."""

    def __init__(self, answer: bytes | Exception | None, most: int = 2) -> None:
        self.in_list_passive_target_max_target = most
        self._answer = answer
        self.commands: list[tuple[int, bytes, float]] = []

    def rf_configuration(self, item: int, data: bytes) -> None:
        self.commands.append((0x32, bytes([item]) + data, 0.0))

    def command(self, code: int, data: bytes, timeout: float) -> bytearray | None:
        self.commands.append((code, data, timeout))
        if isinstance(self._answer, Exception):
            raise self._answer
        return None if self._answer is None else bytearray(self._answer)


def asked(chipset: FakeChipset) -> Radio:
    device: Any = pn53x.Device.__new__(pn53x.Device)
    device.chipset = chipset
    frontend: Any = nfc.ContactlessFrontend()
    frontend.device, frontend.target = device, nfc.clf.RemoteTarget("106A")
    radio = Radio("nfcpy:fake", "usb")
    radio._frontend = frontend
    return radio


@pytest.mark.parametrize(
    ("answer", "two"),
    [
        (bytes.fromhex("02 01 0004 20 04 04112233 02 0004 08 04 08FEDCBA"), True),
        (bytes.fromhex("01 01 0004 20 04 04112233"), False),
        (b"\x00", False),
        (b"", False),
        (None, False),
        (OSError(110, "Connection timed out"), False),  # every second time, says the field
    ],
)
@pytest.mark.parametrize(("technology", "wanted"), [(A, b"\x02\x00"), (B, b"\x02\x03\x00")])
def test_a_pn53x_is_asked_for_two_at_once_after_its_field_was_reset(
    answer: bytes | Exception | None,
    two: bool,  # noqa: FBT001 - a parameter set
    technology: Technology,
    wanted: bytes,
) -> None:
    chipset = FakeChipset(answer)
    radio = asked(chipset)
    activations = radio.activations
    assert radio.pair(technology) is two
    assert chipset.commands == [(0x32, b"\x01\x02", 0.0), (0x4A, wanted, PAIR_WAIT_S)]
    assert radio.activations == activations + 1
    assert radio._open_frontend().target is None


def test_a_chip_that_lists_one_target_is_not_asked() -> None:
    chipset = FakeChipset(b"\x02", most=1)
    assert not asked(chipset).pair(A)
    assert chipset.commands == []


async def test_a_pair_behind_a_pn53x_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip keeps two cards of type A apart by itself, so that only a failed dialogue leads to the question."""
    reader = NfcpyReader("nfcpy:fake", "usb")
    radio = asked(FakeChipset(b"\x02"))
    monkeypatch.setattr(reader, "_radio", radio)
    monkeypatch.setattr(radio, "open", lambda: None)
    monkeypatch.setattr(radio, "close", lambda: None)
    await reader.open()
    target: Any = nfc.clf.RemoteTarget("106A")
    target.sens_res, target.sel_res, target.sdd_res = b"\x04\x00", bytearray(b"\x20"), b"\x04\x11\x22\x33"
    monkeypatch.setattr(radio, "sense", lambda technology: target if technology is A else None)
    monkeypatch.setattr(radio, "activate", _never)
    medium = await found(reader)
    assert isinstance(medium, MuteMedium)
    await told(reader, medium)
    await reader.close()


def _never(*_: object) -> None:
    raise MediumLost("nfcpy:fake", "garbled where activation should be answered")

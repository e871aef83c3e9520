"""Strangers' truth: nfcpy's own tag layer, unmodified, reads the virtual card over nfcpy's own simulated air."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import nfc
import nfc.clf
import nfc.tag
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.isodep import Ats, frame_waiting_time_s
from hardware.medium import Technology
from hardware.virtual.air import BYTE_AIR_S, AirCard, AirTiming, Field
from hardware.virtual.anticollision import TypeA
from tests.hardware.echo import OK, Echo, get_data, pattern

T = TypeVar("T")
A, B = Technology.TYPE_A, Technology.TYPE_B
BOTH = pytest.mark.parametrize("technology", [A, B])
UIDS = [bytes.fromhex("04112233"), bytes.fromhex("04112233445566"), bytes.fromhex("04112233445566778899")]


@pytest.fixture
async def field() -> AsyncIterator[Field]:
    field = await Field.open()
    yield field
    await field.close()


def look(frontend: nfc.ContactlessFrontend) -> nfc.clf.RemoteTarget | None:
    return frontend.sense(nfc.clf.RemoteTarget("106A"), nfc.clf.RemoteTarget("106B"), iterations=1)


async def with_stranger(field: Field, read: Callable[[nfc.ContactlessFrontend], T]) -> T:
    """Run blocking code on nfcpy's frontend in a thread, since the field lives in this loop."""

    def run() -> T:
        frontend = nfc.ContactlessFrontend(field.path)
        try:
            return read(frontend)
        finally:
            frontend.close()

    return await asyncio.to_thread(run)


async def exchange_all(field: Field, apdus: list[bytes]) -> list[bytes]:
    """Activate what lies in the field with nfcpy's tag layer and exchange the APDUs."""

    def read(frontend: nfc.ContactlessFrontend) -> list[bytes]:
        target = look(frontend)
        assert target is not None
        tag = nfc.tag.activate(frontend, target)
        assert tag is not None
        assert tag.is_present
        responses = [bytes(tag.transceive(apdu)) for apdu in apdus]
        assert tag.is_present
        return responses

    return await with_stranger(field, read)


@BOTH
@pytest.mark.parametrize("fsci", range(9))
async def test_nfcpy_reads_the_card_chained_both_ways(field: Field, technology: Technology, fsci: int) -> None:
    chip = Echo()
    card = AirCard(chip, technology, fsci=fsci)
    field.place(card)
    apdus = [b"\x00\xa4\x04\x00", pattern(13), pattern(14), pattern(253), pattern(254), pattern(600), get_data(1000)]
    assert await exchange_all(field, apdus) == [chip.answer(apdu) + OK for apdu in apdus]
    assert chip.heard == apdus


@BOTH
async def test_nfcpy_grants_more_time_before_the_first_block(field: Field, technology: Technology) -> None:
    chip = Echo()
    field.place(AirCard(chip, technology, wtx_every=1))
    assert await exchange_all(field, [b"\x01\x02", b"\x03"]) == [b"\x01\x02" + OK, b"\x03" + OK]
    assert chip.heard == [b"\x01\x02", b"\x03"]


@BOTH
async def test_nfcpy_sends_apdus_of_its_own_making(field: Field, technology: Technology) -> None:
    field.place(AirCard(Echo(), technology))

    def read(frontend: nfc.ContactlessFrontend) -> bytes:
        target = look(frontend)
        assert target is not None
        tag = nfc.tag.activate(frontend, target)
        assert tag is not None
        return bytes(tag.send_apdu(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00", mrl=256))

    assert await with_stranger(field, read) == bytes.fromhex("00A4040002A00000")


@pytest.mark.parametrize("uid", UIDS)
async def test_nfcpy_finds_every_size_of_uid(field: Field, uid: bytes) -> None:
    field.place(AirCard(Echo(), A, uid=uid))

    def read(frontend: nfc.ContactlessFrontend) -> list[bytes]:
        found = look(frontend)
        assert found is not None
        assert found.sdd_res is not None
        assert found.sel_res is not None
        return [bytes(found.sdd_res), bytes(found.sel_res)]

    assert await with_stranger(field, read) == [uid, b"\x20"]


@BOTH
async def test_no_uid_means_a_fresh_one_at_each_power_up(field: Field, technology: Technology) -> None:
    field.place(AirCard(Echo(), technology))

    def read(frontend: nfc.ContactlessFrontend) -> set[bytes]:
        found = [look(frontend) for _ in range(3)]
        return {bytes((seen.sdd_res or seen.sensb_res or b"")[:5]) for seen in found if seen is not None}

    identifiers = await with_stranger(field, read)
    assert len(identifiers) == 3
    if technology is A:
        assert {uid[:1] for uid in identifiers} == {b"\x08"}


async def test_type_b_shows_its_historical_bytes_as_application_data(field: Field) -> None:
    field.place(AirCard(Echo(b"pilet"), B, uid=b"\x01\x02\x03\x04", fsci=7, fwi=9))

    def read(frontend: nfc.ContactlessFrontend) -> bytes:
        found = look(frontend)
        assert found is not None
        return bytes(found.sensb_res or b"")

    assert await with_stranger(field, read) == b"\x50\x01\x02\x03\x04pile\x00\x71\x90"


async def test_absence_is_noticed_when_both_technologies_were_asked_for(field: Field) -> None:
    def ask(rate: str) -> Callable[[nfc.ContactlessFrontend], nfc.clf.RemoteTarget | None]:
        return lambda frontend: frontend.sense(nfc.clf.RemoteTarget(rate), iterations=1)

    noticed = asyncio.ensure_future(field.polled())
    assert await with_stranger(field, ask("106A")) is None
    assert not noticed.done()
    assert await with_stranger(field, ask("106B")) is None
    await noticed
    await field.polled()
    field.place(AirCard(Echo(), A))
    noticed = asyncio.ensure_future(field.polled())
    assert await with_stranger(field, ask("106B")) is None
    assert await with_stranger(field, ask("106A")) is not None
    assert not noticed.done()
    field.remove()
    assert await with_stranger(field, look) is None
    await noticed


@BOTH
@pytest.mark.parametrize("tear_after", [0, 1, 2])
async def test_a_torn_card_answers_so_many_apdus_and_no_more(
    field: Field, technology: Technology, tear_after: int
) -> None:
    chip = Echo()
    card = AirCard(chip, technology, tear_after=tear_after, fwi=7)
    field.place(card)

    def read(frontend: nfc.ContactlessFrontend) -> int:
        target = look(frontend)
        assert target is not None
        tag = nfc.tag.activate(frontend, target)
        assert tag is not None
        answered = 0
        try:
            for _ in range(5):
                tag.transceive(b"\x00")
                answered += 1
        except nfc.tag.tt4.Type4TagCommandError:
            pass
        assert look(frontend) is None
        return answered

    before = card.torn
    assert await with_stranger(field, read) == tear_after
    assert (before, card.torn) == (False, True)
    assert len(chip.heard) == tear_after
    await field.polled()
    field.place(card)
    assert card.frames == 0


@BOTH
async def test_power_loss_resets_the_chip(field: Field, technology: Technology) -> None:
    chip = Echo()
    field.place(AirCard(chip, technology))
    before = chip.resets
    await exchange_all(field, [b"\x00"])
    assert chip.resets > before
    between = chip.resets
    field.remove()
    assert chip.resets > between


@BOTH
async def test_the_model_of_time_is_a_floor(field: Field, technology: Technology) -> None:
    loop = asyncio.get_running_loop()
    card = AirCard(Echo(compute_s=0.02), technology, timing=AirTiming())
    field.place(card)
    started = loop.time()
    await exchange_all(field, [pattern(100), get_data(400)])
    assert loop.time() - started >= card.floor_s
    bare = (card.bytes_in + card.bytes_out) * BYTE_AIR_S + 2 * 0.02
    assert bare < card.floor_s <= bare + card.frames * 2 * 2 * BYTE_AIR_S
    assert card.bytes_in > 100
    assert card.bytes_out > 500


@BOTH
async def test_a_chip_slower_than_its_waiting_time_asks_for_more(field: Field, technology: Technology) -> None:
    chip = Echo(compute_s=0.25)
    card = AirCard(chip, technology, timing=AirTiming())
    field.place(card)
    assert await exchange_all(field, [b"\x01"]) == [b"\x01" + OK]
    assert frame_waiting_time_s(8) < 0.25 < card.floor_s
    assert chip.heard == [b"\x01"]


async def test_counters_start_anew_with_each_placing(field: Field) -> None:
    card = AirCard(Echo(), A, uid=UIDS[0])
    field.place(card)
    await exchange_all(field, [b"\x01\x02"])
    # REQA, two anticollision frames, RATS, two presence checks and one I-block.
    assert (card.frames, card.bytes_in, card.bytes_out) == (7, 1 + 2 + 7 + 2 + 3 + 2, 2 + 5 + 1 + 9 + 5 + 2)
    field.place(card)
    assert (card.frames, card.bytes_in, card.bytes_out, card.floor_s) == (0, 0, 0, 0.0)


async def test_a_second_reader_on_the_same_port_is_refused(field: Field) -> None:
    host, port = field.address
    with pytest.raises(OSError, match="in use"):
        await Field.open(host, port)


async def test_a_free_port_is_none_that_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[int] = []

    def first_two_have_names(port: int, protocol: str) -> str:
        if len(named) == 2:
            raise OSError("port/proto not found")
        named.append(port)
        return "tfido"

    monkeypatch.setattr(socket, "getservbyport", first_two_have_names)
    field = await Field.open()
    try:
        assert len(named) == 2
        assert field.address[1] not in named
    finally:
        await field.close()


async def test_closing_twice_is_harmless() -> None:
    field = await Field.open()
    field.place(AirCard(Echo(), A))
    await field.close()
    await field.close()


@pytest.mark.parametrize(
    ("technology", "arguments", "why"),
    [
        (Technology.CONTACT, {}, "no antenna"),
        (A, {"uid": bytes(5)}, "not 5"),
        (B, {"uid": bytes(7)}, "not 7"),
        (A, {"fwi": 4, "timing": AirTiming()}, "FWI 4"),
        (A, {"ats_interface_bytes": False, "timing": AirTiming()}, "FWI 4"),
    ],
)
def test_cards_that_cannot_be(technology: Technology, arguments: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AirCard(Echo(), technology, **arguments)  # type: ignore[arg-type]  # one test for arguments of several types


@BOTH
def test_deselect_halts_until_woken(technology: Technology) -> None:
    card = AirCard(Echo(), technology, uid=b"\x04\x01\x02\x03")
    wake, activate = (
        (b"\x52", [b"\x93\x20", b"\x93\x70\x04\x01\x02\x03\x04", b"\xe0\x80"])
        if technology is A
        else (b"\x05\x00\x08", [b"\x1d\x04\x01\x02\x03\x00\x08\x01\x00"])
    )
    request = b"\x26" if technology is A else b"\x05\x00\x00"
    assert all(card.receive(frame) for frame in (request, *activate))
    deselected = card.receive(b"\xc2")
    assert deselected is not None
    assert deselected.frame == b"\xc2"
    assert card.receive(b"\x02\x00") is None
    assert card.receive(request) is None
    assert all(card.receive(frame) for frame in (wake, *activate))
    response = card.receive(b"\x02\x07")
    assert response is not None
    assert response.frame == b"\x02\x07" + OK


@given(st.sampled_from(UIDS), st.lists(st.binary(min_size=1, max_size=9), max_size=12))
def test_no_frame_upsets_anticollision(uid: bytes, frames: list[bytes]) -> None:
    card = TypeA(uid, bytes(Ats()))
    for frame in frames:
        card.receive(frame)
    assert card.receive(b"\x52") is not None


@BOTH
@given(frames=st.lists(st.binary(max_size=12), max_size=12))
def test_no_frame_upsets_the_card(technology: Technology, frames: list[bytes]) -> None:
    card = AirCard(Echo(), technology)
    for frame in frames:
        card.receive(frame)
    card.power_off()
    assert card.receive(b"\x26" if technology is A else b"\x05\x00\x00") is not None


@pytest.mark.parametrize("datagram", [b"", b"106A", b"106A 0", b"106A zz", b"\xff\xfe 26", b"106A 26 26", b"RFOFF"])
async def test_datagrams_that_are_no_frames_are_ignored(field: Field, datagram: bytes) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=field.address)
    transport.sendto(datagram)
    transport.close()
    field.place(AirCard(Echo(), A))
    assert await exchange_all(field, [b"\x00"]) == [b"\x00" + OK]

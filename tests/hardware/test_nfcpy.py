"""The nfcpy driver against virtual cards on the simulated air: found, spoken to, lost and found again."""

import asyncio
import logging

import pytest

from hardware.isodep_initiator import SILENCE_RETRIES
from hardware.medium import Medium, MediumLost, MediumTimeout, ReaderGone, Target, Technology
from hardware.nfcpy import NfcpyReader
from hardware.nfcpy_radio import TRAFFIC
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.isodep_target import Reply
from tests.conversing import transceive
from tests.hardware.echo import OK, Echo, WatchedCard, get_data, pattern

A, B = Technology.TYPE_A, Technology.TYPE_B
BOTH = pytest.mark.parametrize("technology", [A, B])
PLENTY_S = 20


async def served(reader: NfcpyReader, field: Field) -> None:
    """The proof that nothing is broken: the next card is found and answers."""
    field.place(AirCard(Echo(), A))
    async with asyncio.timeout(PLENTY_S):
        medium = await reader.wait()
        assert await transceive(medium, b"\x11\x22") == b"\x11\x22" + OK


async def polled(reader: NfcpyReader, count: int) -> None:
    async with asyncio.timeout(PLENTY_S):
        while reader.polls < count:  # noqa: ASYNC110 - the port offers a count, as the watchdog reads it
            await asyncio.sleep(0.01)


async def lost(reader: NfcpyReader, medium: Medium, apdu: bytes = b"\x00") -> MediumLost:
    async with asyncio.timeout(PLENTY_S):
        with pytest.raises(MediumLost) as caught:
            await transceive(medium, apdu)
    assert str(caught.value).startswith(reader.name)
    return caught.value


@BOTH
@pytest.mark.parametrize("fsci", [0, 5, 8])
async def test_apdus_of_every_length(field: Field, reader: NfcpyReader, technology: Technology, fsci: int) -> None:
    chip = Echo()
    field.place(AirCard(chip, technology, fsci=fsci))
    medium = await reader.wait()
    apdus = [b"\x00\xa4\x04\x00", pattern(13), pattern(14), pattern(254), pattern(700), get_data(0), get_data(3000)]
    assert [await transceive(medium, apdu) for apdu in apdus] == [chip.answer(apdu) + OK for apdu in apdus]
    assert chip.heard == apdus


@BOTH
@pytest.mark.parametrize("wtx_every", [1, 2, 3])
async def test_more_time_inside_both_chains(
    field: Field, reader: NfcpyReader, technology: Technology, wtx_every: int
) -> None:
    chip = Echo()
    field.place(AirCard(chip, technology, fsci=2, wtx_every=wtx_every))
    medium = await reader.wait()
    apdus = [pattern(400), get_data(1500), b"\x00"]
    assert [await transceive(medium, apdu) for apdu in apdus] == [chip.answer(apdu) + OK for apdu in apdus]
    assert chip.heard == apdus


@pytest.mark.parametrize("historical", [b"", b"\x80pilet", bytes(15)])
async def test_an_ats_without_interface_bytes(field: Field, reader: NfcpyReader, historical: bytes) -> None:
    field.place(AirCard(Echo(historical), A, uid=b"\x04\x01\x02\x03", ats_interface_bytes=False))
    medium = await reader.wait()
    assert medium.target == Target(A, b"\x04\x01\x02\x03", historical, 0x20)
    assert await transceive(medium, pattern(500)) == pattern(500) + OK


@BOTH
async def test_the_target_says_what_anticollision_found(
    field: Field, reader: NfcpyReader, technology: Technology
) -> None:
    field.place(AirCard(Echo(b"pilet"), technology, uid=b"\x04\x01\x02\x03"))
    medium = await reader.wait()
    assert medium.target == (
        Target(A, b"\x04\x01\x02\x03", b"pilet", 0x20) if technology is A else Target(B, b"\x04\x01\x02\x03", b"pile")
    )


@BOTH
async def test_time_spent_on_the_card_is_told_apart(field: Field, reader: NfcpyReader, technology: Technology) -> None:
    card = AirCard(Echo(compute_s=0.02), technology, timing=AirTiming())
    waiting = asyncio.ensure_future(reader.wait())
    await field.polled()
    idle_from = asyncio.get_running_loop().time()
    field.place(card)
    medium = await waiting
    activation_s = medium.card_s
    assert card.floor_s <= activation_s
    await transceive(medium, pattern(200))
    assert card.floor_s <= medium.card_s <= asyncio.get_running_loop().time() - idle_from + 0.01
    assert medium.card_s - activation_s >= 0.02


@BOTH
async def test_a_medium_is_present_until_it_is_taken_away(
    field: Field, reader: NfcpyReader, technology: Technology
) -> None:
    chip = Echo()
    field.place(AirCard(chip, technology))
    medium = await reader.wait()
    polls = reader.polls
    assert await medium.present()
    assert await transceive(medium, b"\x01") == b"\x01" + OK
    assert await medium.present()
    assert reader.polls == polls + 2
    removed = asyncio.ensure_future(medium.removed())
    await polled(reader, polls + 5)
    assert not removed.done()
    assert chip.heard == [b"\x01"]
    field.remove()
    await removed
    assert not await medium.present()
    await lost(reader, medium)
    await served(reader, field)


@BOTH
async def test_another_card_in_its_place_is_not_the_same(
    field: Field, reader: NfcpyReader, technology: Technology
) -> None:
    field.place(AirCard(Echo(b"one."), technology, uid=b"\x04\x01\x02\x03"))
    medium = await reader.wait()
    other = AirCard(Echo(b"two."), technology, uid=b"\x04\x01\x02\x04")
    field.place(other)
    await medium.removed()
    assert (await reader.wait()).target.uid == b"\x04\x01\x02\x04"
    await lost(reader, medium)


@BOTH
@pytest.mark.parametrize("tear_after", [0, 1, 2])
async def test_a_card_torn_away_is_lost_and_the_next_one_served(
    field: Field, reader: NfcpyReader, technology: Technology, tear_after: int
) -> None:
    card = AirCard(Echo(), technology, tear_after=tear_after)
    field.place(card)
    medium = await reader.wait()
    for _ in range(tear_after):
        await transceive(medium, b"\x00")
    assert card.torn
    await lost(reader, medium)
    await lost(reader, medium)
    assert not await medium.present()
    await medium.removed()
    await served(reader, field)


@pytest.mark.parametrize("technology", [A, B])
@pytest.mark.parametrize("leaves_at", range(16))
async def test_a_card_may_leave_at_any_frame(
    field: Field, reader: NfcpyReader, technology: Technology, leaves_at: int
) -> None:
    card = WatchedCard(Echo(), technology, uid=b"\x04\x01\x02\x03", fsci=2, wtx_every=3)
    card.leaves_at = leaves_at
    field.place(card)
    waiting = asyncio.ensure_future(reader.wait())
    noticed = asyncio.ensure_future(field.polled())
    async with asyncio.timeout(PLENTY_S):
        await asyncio.wait([waiting, noticed], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            await lost(reader, waiting.result(), pattern(400))
        else:
            waiting.cancel()
    noticed.cancel()
    await served(reader, field)


@BOTH
async def test_a_card_that_left_is_asked_three_times_in_all(
    field: Field, reader: NfcpyReader, technology: Technology
) -> None:
    card = WatchedCard(Echo(), technology, tear_after=0)
    field.place(card)
    medium = await reader.wait()
    before = len(card.reached)
    await lost(reader, medium)
    assert [frame.hex() for frame in card.reached[before:]] == ["0200"] + ["b2"] * SILENCE_RETRIES


async def test_a_card_that_only_asks_for_time_times_out(
    field: Field, reader: NfcpyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dawdler(AirCard):
        def receive(self, frame: bytes) -> Reply | None:
            return Reply(b"\xf2\x01") if frame[:1] in (b"\x02", b"\xf2") else super().receive(frame)

    monkeypatch.setattr("hardware.nfcpy_radio.MAX_APDU_S", 0.2)
    field.place(Dawdler(Echo(), A))
    medium = await reader.wait()
    with pytest.raises(MediumTimeout, match=r"within 0\.2 s"):
        await transceive(medium, b"\x00")
    await served(reader, field)


async def test_a_response_without_a_status_word_is_no_response(field: Field, reader: NfcpyReader) -> None:
    class Terse(AirCard):
        def receive(self, frame: bytes) -> Reply | None:
            return Reply(b"\x02\x90") if frame[:1] == b"\x02" else super().receive(frame)

    field.place(Terse(Echo(), A))
    assert "status word" in str(await lost(reader, await reader.wait()))
    await served(reader, field)


async def test_a_type_b_card_without_iso_dep_refuses_apdus_too(field: Field, reader: NfcpyReader) -> None:
    class ForeignB(AirCard):
        def receive(self, frame: bytes) -> Reply | None:
            reply = super().receive(frame)
            if reply is None:
                return None
            return Reply(reply.frame[:10] + b"\x80" + reply.frame[11:])

    field.place(ForeignB(Echo(), B))
    medium = await reader.wait()
    assert await transceive(medium, b"\x00\xa4\x04\x00") == b"\x6e\x00"
    assert await medium.present()


async def test_a_card_that_cannot_be_activated_is_handed_over_as_lost(field: Field, reader: NfcpyReader) -> None:
    class Mumbler(AirCard):
        def receive(self, frame: bytes) -> Reply | None:
            return Reply(b"\xff") if frame[:1] == b"\xe0" else super().receive(frame)

    field.place(Mumbler(Echo(), A, uid=b"\x04\x01\x02\x03"))
    medium = await reader.wait()
    assert medium.target == Target(A, b"\x04\x01\x02\x03", b"", 0x20)
    assert "cannot be activated" in str(await lost(reader, medium))
    assert await medium.present()
    field.remove()
    await medium.removed()
    await served(reader, field)


async def test_cancelling_leaves_the_reader_usable(field: Field, reader: NfcpyReader) -> None:
    for _ in range(3):
        waiting = asyncio.ensure_future(reader.wait())
        await field.polled()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    field.place(AirCard(Echo(compute_s=0.05), A, timing=AirTiming()))
    medium = await reader.wait()
    talking = asyncio.ensure_future(transceive(medium, b"\x00"))
    await asyncio.sleep(0.01)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    await served(reader, field)


async def test_closing_ends_a_wait(field: Field, reader: NfcpyReader) -> None:
    waiting = asyncio.ensure_future(reader.wait())
    await field.polled()
    await reader.close()
    with pytest.raises(ReaderGone, match="closed"):
        await waiting
    with pytest.raises(ReaderGone, match="not open"):
        await reader.wait()
    await reader.close()
    await reader.open()
    await served(reader, field)
    await reader.open()
    await served(reader, field)


async def test_nobody_on_the_air_is_an_empty_field() -> None:
    field = await Field.open()
    path = field.path
    await field.close()
    reader = NfcpyReader("nfcpy:lonely", path)
    await reader.open()
    waiting = asyncio.ensure_future(reader.wait())
    await polled(reader, 2)
    assert not waiting.done()
    waiting.cancel()
    await reader.close()


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("tty:NOSUCH0:pn532", "plug it in"),
        ("usb:ffff:ffff", "plug it in|not permitted|does not answer"),
        ("udp:127.0.0.1:door", "write usb"),
        ("serial", "plug it in"),
        ("", "write usb"),
    ],
)
async def test_a_reader_that_is_not_there_says_what_to_do(path: str, step: str) -> None:
    reader = NfcpyReader(f"nfcpy:{path}", path)
    with pytest.raises(ReaderGone, match=step) as caught:
        await reader.open()
    assert caught.value.reader == f"nfcpy:{path}"
    await reader.close()


async def test_a_reader_that_dies_is_gone_and_can_be_opened_again(
    field: Field, reader: NfcpyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object) -> None:
        raise OSError(19, "No such device")

    field.place(AirCard(Echo(), A))
    medium = await reader.wait()
    with monkeypatch.context() as unplugged:
        unplugged.setattr("nfc.clf.udp.Device._send_data", dead)
        for verb in (transceive(medium, b"\x00"), reader.wait(), medium.present(), medium.removed()):
            with pytest.raises(ReaderGone, match="plug it in"):
                await verb
    await reader.open()
    await served(reader, field)


async def test_nfcpy_itself_is_silent_unless_traffic_is_asked_for(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = logging.getLogger("nfc")
    for level, wanted in ((logging.NOTSET, logging.CRITICAL), (TRAFFIC, logging.INFO)):
        vendor.setLevel(logging.INFO)  # as the import of nfcpy leaves it
        reader = NfcpyReader(f"nfcpy:{field.path}", field.path)
        with caplog.at_level(level, "hardware.nfcpy_radio"):
            await reader.open()
        await reader.close()
        assert vendor.level == wanted


async def test_traffic_is_logged_only_on_request(
    field: Field, reader: NfcpyReader, caplog: pytest.LogCaptureFixture
) -> None:
    field.place(AirCard(Echo(), A))
    with caplog.at_level(logging.DEBUG):
        await transceive(await reader.wait(), b"\x00\xa4")
    assert not caplog.records
    with caplog.at_level(TRAFFIC, "hardware.nfcpy_radio"):
        await transceive(await reader.wait(), b"\x00\xa4")
    assert f"{reader.name} > 0200a4" in caplog.messages
    assert f"{reader.name} < 0200a49000" in caplog.messages

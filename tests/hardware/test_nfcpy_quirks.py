"""What nfcpy's own tag layer gets wrong for us, and that the driver does not; `hardware/README.md` lists them."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import nfc
import nfc.clf
import nfc.tag
import nfc.tag.tt4
import pytest

from hardware.apdu import CommandApdu
from hardware.isodep_initiator import SILENCE_RETRIES
from hardware.medium import MediumLost, Technology
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, Field
from hardware.virtual.isodep_target import Reply
from tests.conversing import transceive
from tests.hardware.echo import OK, Echo, WatchedCard, get_data, pattern

T = TypeVar("T")
A = Technology.TYPE_A


async def with_frontend(field: Field, read: Callable[[nfc.ContactlessFrontend], T]) -> T:
    def run() -> T:
        frontend = nfc.ContactlessFrontend(field.path)
        try:
            return read(frontend)
        finally:
            frontend.close()

    return await asyncio.to_thread(run)


async def with_tag(field: Field, read: Callable[[nfc.tag.tt4.Type4Tag], T]) -> T:
    """Run blocking code on the tag that nfcpy's own layer activates."""

    def activate(frontend: nfc.ContactlessFrontend) -> T:
        target = frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        assert target is not None
        tag = nfc.tag.activate(frontend, target)
        assert tag is not None
        return read(tag)

    return await with_frontend(field, activate)


async def test_missing_le(field: Field, reader: NfcpyReader) -> None:
    chip = Echo()
    field.place(AirCard(chip, A))
    await with_tag(field, lambda tag: tag.send_apdu(0x00, 0xA4, 0x04, 0x00, b"\xa0"))
    medium = await reader.wait()
    await transceive(medium, bytes(CommandApdu(0x00, 0xA4, 0x04, 0x00, b"\xa0", le=256)))
    assert [apdu.hex() for apdu in chip.heard] == ["00a4040001a0", "00a4040001a000"]


async def test_extended_length(field: Field, reader: NfcpyReader) -> None:
    chip = Echo()
    field.place(AirCard(chip, A))
    with pytest.raises(ValueError, match="unsupported command data length"):
        await with_tag(field, lambda tag: tag.send_apdu(0x00, 0x87, 0x07, 0x9E, bytes(266)))
    extended = b"\x00\x87\x07\x9e" + b"\x00\x01\x0a" + bytes(266) + b"\x00\x00"
    assert await transceive(await reader.wait(), extended) == extended + OK


@pytest.mark.parametrize("historical", [b"", b"\x80\x51"])
async def test_ats_without_interface_bytes(field: Field, reader: NfcpyReader, historical: bytes) -> None:
    field.place(AirCard(Echo(historical), A, ats_interface_bytes=False))
    if historical:
        # The second historical byte is taken for TB: FWI 5 where the default of 4 is in force.
        assert "FWT=0.009" in await with_tag(field, str)
    else:
        with pytest.raises(IndexError):
            await with_tag(field, str)
    medium = await reader.wait()
    assert medium.target.historical == historical
    assert await transceive(medium, b"\x01") == b"\x01" + OK


async def test_waiting_time_extension_inside_response_chaining(field: Field, reader: NfcpyReader) -> None:
    field.place(AirCard(Echo(), A, wtx_every=2))
    whole = pattern(900) + OK

    def read(tag: nfc.tag.tt4.Type4Tag) -> bytes | None:
        try:
            return bytes(tag.transceive(get_data(900)))
        except nfc.tag.tt4.Type4TagCommandError:
            return None

    assert await with_tag(field, read) != whole
    assert await transceive(await reader.wait(), get_data(900)) == whole


async def test_retry_storm(field: Field, reader: NfcpyReader) -> None:
    card = WatchedCard(Echo(), A, tear_after=0, fwi=6)
    field.place(card)

    def storm(tag: nfc.tag.tt4.Type4Tag) -> int:
        before = len(card.reached)
        with pytest.raises(nfc.tag.tt4.Type4TagCommandError):
            tag.transceive(b"\x00")
        return len(card.reached) - before

    assert await with_tag(field, storm) == 6
    field.place(card)
    medium = await reader.wait()
    before = len(card.reached)
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x00")
    assert len(card.reached) - before == 1 + SILENCE_RETRIES


class Sleeper(AirCard):
    """Asks for time and never comes back."""

    def receive(self, frame: bytes) -> Reply | None:
        if frame[:1] == b"\x02":
            return Reply(b"\xf2\x01")
        return None if frame[0] & 0xEE in (0xA2, 0xE2) else super().receive(frame)


async def test_errors_in_other_classes(field: Field, reader: NfcpyReader) -> None:
    field.place(Sleeper(Echo(), A, fwi=6))
    with pytest.raises(nfc.clf.TimeoutError):
        await with_tag(field, lambda tag: tag.transceive(b"\x00"))
    medium = await reader.wait()
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x00")


async def test_connect_rests_half_a_second(field: Field, reader: NfcpyReader, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr("nfc.clf.time.sleep", rests.append)
    found = await with_frontend(field, lambda frontend: frontend.connect(rdwr={}, terminate=lambda: len(rests) > 0))
    assert not found
    assert max(rests) > 0.3
    monkeypatch.undo()
    waiting = asyncio.ensure_future(reader.wait())
    polls = reader.polls
    await field.polled()
    field.place(AirCard(Echo(), A))
    await waiting
    assert reader.polls > polls

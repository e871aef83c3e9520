"""Meeting a medium: the dialogue has begun before the event loop hears of it."""

import asyncio
import threading

import pytest

from hardware.medium import Medium, MediumLost, ReaderGone, Technology, Transceive
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, Field
from tests.hardware.echo import Echo

LIMIT_S = 10.0
HELLO = b"\x00\xa4\x04\x00"


def card() -> AirCard:
    return AirCard(Echo(), Technology.TYPE_A, uid=b"\x04\x01\x02\x03")


async def test_the_greeting_speaks_in_the_readers_thread_before_anybody_asks(field: Field, reader: NfcpyReader) -> None:
    heard, goes_on = threading.Event(), threading.Event()
    seen: list[tuple[Medium, str]] = []

    def greeting(medium: Medium, transceive: Transceive) -> bytes:
        seen.append((medium, threading.current_thread().name))
        answer = transceive(HELLO)
        heard.set()
        goes_on.wait(LIMIT_S)
        return answer

    field.place(card())
    met = await asyncio.wait_for(reader.meet(greeting), LIMIT_S)
    assert await asyncio.to_thread(heard.wait, LIMIT_S)
    assert seen == [(met.medium, reader.name)]
    goes_on.set()
    assert await asyncio.wait_for(met.outcome, LIMIT_S) == HELLO + b"\x90\x00"
    assert await met.medium.present()


async def test_what_the_greeting_raises_is_the_outcome(field: Field, reader: NfcpyReader) -> None:
    def greeting(_medium: Medium, _transceive: Transceive) -> None:
        raise MediumLost("test", "made up")

    field.place(card())
    met = await asyncio.wait_for(reader.meet(greeting), LIMIT_S)
    with pytest.raises(MediumLost, match="made up"):
        await met.outcome


async def test_giving_up_the_outcome_ends_the_dialogue(field: Field, reader: NfcpyReader) -> None:
    began, ended = threading.Event(), threading.Event()

    def greeting(_medium: Medium, transceive: Transceive) -> None:
        began.set()
        try:
            while True:
                transceive(HELLO)
        finally:
            ended.set()

    field.place(card())
    met = await asyncio.wait_for(reader.meet(greeting), LIMIT_S)
    assert await asyncio.to_thread(began.wait, LIMIT_S)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await met.outcome
    assert await asyncio.to_thread(ended.wait, LIMIT_S)


async def test_giving_up_the_meeting_leaves_the_reader_usable(field: Field, reader: NfcpyReader) -> None:
    greeted: list[Medium] = []
    meeting = asyncio.ensure_future(reader.meet(lambda medium, _transceive: greeted.append(medium)))
    await field.polled()
    meeting.cancel()
    await asyncio.wait([meeting])
    field.place(card())
    medium = await asyncio.wait_for(reader.wait(), LIMIT_S)
    assert medium.target.uid == b"\x04\x01\x02\x03"
    assert greeted == []


async def test_a_reader_that_is_closed_meanwhile_says_so(field: Field, reader: NfcpyReader) -> None:
    meeting = asyncio.ensure_future(reader.meet(lambda _medium, transceive: transceive(HELLO)))
    await field.polled()
    await reader.close()
    with pytest.raises(ReaderGone, match="closed"):
        await meeting
    with pytest.raises(ReaderGone, match="not open"):
        await reader.meet(lambda _medium, transceive: transceive(HELLO))

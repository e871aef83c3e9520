"""Cards and airs that mean harm: every tap ends in an answer or a ReaderError, and the next card is served."""

import asyncio
import contextlib
import os
import random

import pytest

from hardware.medium import ReaderError, Technology
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, Field
from hardware.virtual.isodep_target import Reply
from tests.conversing import transceive
from tests.hardware.echo import OK, Echo

SOAK = os.environ.get("PILET_SOAK") == "1"
SEEDS = range(60 if SOAK else 3)
PLENTY_S = 20
#: REQA, two of anticollision, RATS, then blocks; or REQB, ATTRIB, then blocks.
STAGES = range(8)


class Garbler(AirCard):
    """A card that from a given frame on answers with anything at all, and mostly with something that looks right."""

    def __init__(self, technology: Technology, rng: random.Random, honest: int) -> None:
        self._rng = rng
        self._honest = honest
        self.heard = 0
        super().__init__(Echo(), technology, uid=b"\x04\x01\x02\x03")

    def receive(self, frame: bytes) -> Reply | None:
        self.heard += 1
        reply = super().receive(frame)
        if self.heard <= self._honest:
            return reply
        kind = self._rng.randrange(4)
        if kind == 0 or reply is None:
            return Reply(self._rng.randbytes(self._rng.randrange(1, 20)))
        if kind == 1:
            return Reply(reply.frame[: self._rng.randrange(len(reply.frame) + 1)])
        if kind == 2:
            return Reply(bytes([reply.frame[0] ^ 1 << self._rng.randrange(8)]) + reply.frame[1:])
        return Reply(reply.frame + self._rng.randbytes(3))


class RawAir(asyncio.DatagramProtocol):
    """An air that answers every datagram with a malformed one; the at sign stands for the technology asked for."""

    DATAGRAMS = (
        b"106@", b"106@ zz", b"106@ 123", b"\xff\xfe 00", b"", b" ", b"106@ 04 00", b"106@ 5", b"RFOFF", b"106@ 44",
        b"106@ 4400", b"106@ 50", b"106@ 0c00", b"106@ 20",
    )  # fmt: skip

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.startswith(b"RFOFF"):
            self.transport.sendto(self._rng.choice(self.DATAGRAMS).replace(b"@", data[3:4]), addr)  # type: ignore[attr-defined]  # asyncio hands over the wider type


async def tap(reader: NfcpyReader) -> None:
    """One tap as a station makes it."""
    medium = await reader.wait()
    for apdu in (b"\x00\xa4\x04\x00", bytes(300), b"\x00\xca\x02\x00\x00"):
        response = await transceive(medium, apdu)
        assert len(response) >= 2
        await medium.present()


async def polled(reader: NfcpyReader, more: int) -> None:
    goal = reader.polls + more
    while reader.polls < goal:  # noqa: ASYNC110 - the port offers a count, as the watchdog reads it
        await asyncio.sleep(0.005)


async def tapped_or_ignored(reader: NfcpyReader) -> None:
    """A tap that may fail in the ReaderError tree, or never begin because nobody answered intelligibly."""
    tapping = asyncio.ensure_future(tap(reader))
    ignored = asyncio.ensure_future(polled(reader, 12))
    await asyncio.wait([tapping, ignored], return_when=asyncio.FIRST_COMPLETED)
    ignored.cancel()
    if not tapping.done():
        tapping.cancel()
    with contextlib.suppress(ReaderError, asyncio.CancelledError):
        await tapping


@pytest.mark.slow
@pytest.mark.parametrize("technology", [Technology.TYPE_A, Technology.TYPE_B])
@pytest.mark.parametrize("honest", STAGES)
async def test_garbage_at_every_stage(field: Field, reader: NfcpyReader, technology: Technology, honest: int) -> None:
    for seed in SEEDS:
        rng = random.Random(f"{technology} {honest} {seed}")
        field.place(Garbler(technology, rng, honest))
        async with asyncio.timeout(PLENTY_S):
            await tapped_or_ignored(reader)
            field.place(AirCard(Echo(), technology))
            medium = await reader.wait()
            assert await transceive(medium, b"\x07") == b"\x07" + OK


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_malformed_datagrams(seed: int) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: RawAir(random.Random(seed)), local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    reader = NfcpyReader("nfcpy:raw", f"udp:{host}:{port}")
    await reader.open()
    async with asyncio.timeout(PLENTY_S):
        for _ in range(3):
            await tapped_or_ignored(reader)
    transport.close()
    await reader.close()

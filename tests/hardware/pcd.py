"""The reader's end of vpcd's wire, played by a test."""

import asyncio
import contextlib


class Pcd:
    """vpcd's half: it listens, and the card comes to it."""

    def __init__(self) -> None:
        self.cards: asyncio.Queue[Slot] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._inserted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _inserted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.cards.put(Slot(reader, writer))

    async def inserted(self) -> "Slot":
        return await asyncio.wait_for(self.cards.get(), 10)


class Slot:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def tell(self, message: bytes) -> None:
        self._writer.write(len(message).to_bytes(2) + message)
        await self._writer.drain()

    async def ask(self, message: bytes) -> bytes:
        await self.tell(message)
        length = int.from_bytes(await self._reader.readexactly(2))
        return await self._reader.readexactly(length)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

"""A broker inside the process, for the demo and for machines without Mosquitto: amqtt on a loopback port.

It keeps nothing, admits everybody and is only reachable from this machine. That loses no tap: nothing in the chain from
journal to ledger takes a broker's word for anything.
"""

import asyncio
import contextlib
import logging

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

_HOST = "127.0.0.1"
_LISTENER = "default"
_STOP_S = 5.0


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on a loopback port, in the running event loop.

    The sockets are ours and amqtt is handed accepted connections, so that stopping drops every connection at once, as a
    broker that dies does.

    Args:
        port: TCP port; 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._broker: Broker | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def port(self) -> int:
        """The port, known once it is started."""
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        # To amqtt each client that goes away is an error with a trace; here it is daily life.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._broker = Broker(
            {
                "listeners": {_LISTENER: {"type": "external", "bind": _HOST}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await self._broker.start()
        try:
            self._server = await asyncio.start_server(self._connected, _HOST, self._port)
        except OSError:
            await self.stop()
            raise
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, drop every connection and forget everything; harmless when stopped already."""
        server, self._server = self._server, None
        broker, self._broker = self._broker, None
        if server is not None:
            server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        if self._connections:
            _, stuck = await asyncio.wait(self._connections, timeout=_STOP_S)
            for connection in stuck:
                connection.cancel()
        if broker is not None:
            await broker.shutdown()
        if server is not None:
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._broker is None:
            writer.transport.abort()
            return
        self._connections[task] = writer
        try:
            with contextlib.suppress(OSError):
                await self._broker.external_connected(
                    StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER
                )
        finally:
            del self._connections[task]
            writer.transport.abort()

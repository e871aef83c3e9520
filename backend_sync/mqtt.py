"""The one room that knows aiomqtt, and the paho handle inside it.

aiomqtt 2 acknowledges a message to the broker on receipt, before anybody has looked at it: an ingest process that dies
then has lost it. Paho can leave the acknowledgement to its user (``manual_ack_set`` and ``ack``), but aiomqtt does not
pass that on, so its private handle is used here. The same handle closes a socket that aiomqtt leaves open when the
broker accepts the connection and then says nothing.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import aiomqtt

_LOG = logging.getLogger("pilet.mqtt")
_LOG.setLevel(logging.ERROR)  # a broker that goes away is daily life; the caller says so in its own words

AT_LEAST_ONCE = 1


class LinkLost(Exception):  # noqa: N818 - names the event that is answered by connecting again
    """The broker cannot be reached, refused us, or went away."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to speak to it.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: What TLS believes and shows; None speaks in the clear, for loopback only.
        keepalive: Seconds without traffic after which either side looks whether the other is there.
        timeout: Seconds to wait for any single answer of the broker.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    keepalive: int = 20
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when we vanish."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message received.

    Attributes:
        topic: Its topic.
        payload: Its octets.
        mid: Packet identifier on this connection; 0 at QoS 0.
        qos: Quality of service with which it came.
    """

    topic: str
    payload: bytes
    mid: int
    qos: int


class Link:
    """One connection to the broker, from `connect`."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._messages = client.messages

    async def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1.

        Raises:
            LinkLost: The broker went away or did not answer.
        """
        await self._unless_gone(self._client.subscribe(topic, qos=AT_LEAST_ONCE))

    async def unsubscribe(self, topic: str) -> None:
        """Leave a topic.

        Raises:
            LinkLost: The broker went away or did not answer.
        """
        await self._unless_gone(self._client.unsubscribe(topic))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1 and wait until the broker has it.

        Raises:
            LinkLost: The broker went away or did not answer.
        """
        await self._unless_gone(self._client.publish(topic, payload, qos=AT_LEAST_ONCE, retain=retain))

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            LinkLost: The broker went away.
        """
        with _link_errors():
            message = await anext(self._messages)
        payload = message.payload if isinstance(message.payload, bytes) else b""
        return Message(message.topic.value, payload, message.mid, message.qos)

    @property
    def waiting(self) -> int:
        """Messages received and not yet taken."""
        return len(self._messages)

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that it need not keep a message for us. Only on a link with `manual_acks`."""
        self._client._client.ack(message.mid, message.qos)  # noqa: SLF001 - see the module's docstring

    async def _unless_gone(self, call: Coroutine[Any, Any, object]) -> None:
        """Await an answer of the broker, but not from one that has gone: aiomqtt would sit out its timeout."""
        answer = asyncio.ensure_future(call)
        try:
            gone = self._client._disconnected  # noqa: SLF001 - the only sign of it
            waiting: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise LinkLost("the broker went away")
            with _link_errors():
                answer.result()
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)


@contextlib.asynccontextmanager
async def connect(
    broker: Broker, identifier: str, *, clean_session: bool, manual_acks: bool = False, will: Will | None = None
) -> AsyncIterator[Link]:
    """Connect, and disconnect on leaving.

    Args:
        broker: Where to.
        identifier: Client id; a second client with the same id throws the first one out.
        clean_session: Whether the broker may forget subscriptions and waiting messages when we leave.
        manual_acks: Whether messages are acknowledged by `Link.acknowledge` instead of on receipt.
        will: What the broker says if we vanish.

    Raises:
        LinkLost: The broker cannot be reached, refused us, or went away; from the body too.
    """
    client = _client(broker, identifier, clean_session=clean_session, will=will)
    paho = client._client  # noqa: SLF001 - see the module's docstring
    paho.manual_ack_set(manual_acks)
    opening = _Opening(client)
    try:
        await opening.run()
        with _link_errors():
            yield Link(client)
    finally:
        await opening.close()


class _Opening:
    """Keeps aiomqtt's connecting and disconnecting from leaving a socket, a task or an unread exception behind."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._open = False

    async def run(self) -> None:
        entering = asyncio.ensure_future(self._client.__aenter__())
        try:
            with _link_errors():
                await asyncio.shield(entering)
            self._open = True
        except asyncio.CancelledError:
            # The thread that connects cannot be cancelled: let it finish (paho bounds it), then close what it opened.
            with contextlib.suppress(aiomqtt.MqttError):
                await entering
                self._open = True
            raise

    async def close(self) -> None:
        try:
            if self._open:
                await self._client.__aexit__(None, None, None)
        except aiomqtt.MqttError:
            _LOG.debug("the broker did not take our goodbye")
        finally:
            self._client._client._sock_close()  # noqa: SLF001 - see the module's docstring
            gone = self._client._disconnected  # noqa: SLF001 - an exception that nobody reads is reported as a fault
            if gone.done() and not gone.cancelled():
                gone.exception()
            misc = self._client._misc_task  # noqa: SLF001 - paho's housekeeping ends with its socket
            if misc is not None:
                misc.cancel()
                await asyncio.gather(misc, return_exceptions=True)


@contextlib.contextmanager
def _link_errors() -> Iterator[None]:
    """Turn aiomqtt's errors into `LinkLost`."""
    try:
        yield
    except aiomqtt.MqttError as error:
        raise LinkLost(str(error) or "the broker went away") from None


def _client(broker: Broker, identifier: str, *, clean_session: bool, will: Will | None) -> aiomqtt.Client:
    return aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=identifier,
        clean_session=clean_session,
        keepalive=broker.keepalive,
        timeout=broker.timeout,
        tls_context=broker.tls,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=AT_LEAST_ONCE, retain=True),
        logger=_LOG,
    )


def full_jitter(rng: Random, attempt: int, base: float, longest: float) -> float:
    """Return how long to wait before connecting again: anything from nothing to a bound that doubles.

    A power cut reconnects a whole city at once; spreading over the full width keeps the handshakes apart.

    Args:
        rng: Source of jitter.
        attempt: Failed attempts so far, from 0.
        base: Bound of the first wait, seconds.
        longest: Bound of any wait, seconds.
    """
    return rng.uniform(0.0, min(longest, base * 2.0 ** min(attempt, 32)))

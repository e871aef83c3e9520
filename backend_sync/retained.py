"""What a publisher left at the broker for everybody: read one topic at a time, by name.

A broker keeps the last message of a topic for whoever subscribes later. So it serves as a shelf for files that have
names, or that are called by their hash: a reader subscribes, takes the one message, and leaves. What comes is
believed by nobody before its signature or hash was checked.
"""

import asyncio
from typing import Protocol

from backend_sync.mqtt import Message

ANSWER_S = 10.0


class NotThere(Exception):  # noqa: N818 - an answer, and no fault of anybody's
    """The broker keeps nothing under this name, or did not say so in time."""


class Subscriptions(Protocol):
    """What a reader needs of a link; `backend_sync.mqtt.Link` is one."""

    async def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1."""
        ...

    async def unsubscribe(self, topic: str) -> None:
        """Leave a topic."""
        ...


class RetainedReader:
    """Reads retained messages over a link whose messages somebody else receives.

    Args:
        link: The connection.
        answer_s: Seconds to wait for a message after the broker has confirmed the subscription.
    """

    def __init__(self, link: Subscriptions, answer_s: float = ANSWER_S) -> None:
        self._link, self._answer_s = link, answer_s
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def read(self, topic: str, answer_s: float | None = None) -> bytes:
        """Return what is kept under a topic; never two readers of one topic at once.

        Args:
            topic: The topic.
            answer_s: Seconds to wait for it, where they are others than the reader's.

        Raises:
            NotThere: Nothing came in time.
            LinkLost: The broker went away.
        """
        found = self._waiting.setdefault(topic, asyncio.get_running_loop().create_future())
        try:
            await self._link.subscribe(topic)
            async with asyncio.timeout(self._answer_s if answer_s is None else answer_s):
                return await found
        except TimeoutError:
            raise NotThere(f"{topic}: the broker has nothing there") from None
        finally:
            del self._waiting[topic]
            await self._link.unsubscribe(topic)

    def take(self, message: Message) -> bool:
        """Take a message that was received; whether somebody had asked for it."""
        waiting = self._waiting.get(message.topic)
        if waiting is None:
            return False
        if not waiting.done() and message.payload:  # an empty one says that something was taken away
            waiting.set_result(message.payload)
        return True

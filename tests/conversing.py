"""One APDU at a time, for tests that talk to a medium by hand; and how a reader without a thread meets media."""

import asyncio
from functools import partial
from typing import TypeVar

from hardware.medium import Greeting, Medium, Met

T = TypeVar("T")


async def transceive(medium: Medium, apdu: bytes) -> bytes:
    return await medium.converse(lambda carry: carry(apdu))


class MeetsByWaiting:
    """A reader of which only `wait` is of interest."""

    async def wait(self) -> Medium:
        raise NotImplementedError

    async def meet(self, greeting: Greeting[T]) -> Met[T]:
        medium = await self.wait()

        async def conversing() -> T:
            return await medium.converse(partial(greeting, medium))

        return Met(medium, asyncio.ensure_future(conversing()))

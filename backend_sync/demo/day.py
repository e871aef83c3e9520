"""A day at one gate: passengers come one by one, the broker goes and returns, the queue drains into the ledger."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from backend_sync.demo.cards import air_cards
from backend_sync.demo.errors import ProcessDied, Surprise
from backend_sync.demo.population import Crowd, Visit
from backend_sync.demo.processes import Broker, Process
from backend_sync.demo.screen import Screen
from hardware.virtual.air import AirCard, Field

TAP_LIMIT_S = 30.0
DRAIN_LIMIT_S = 120.0


@dataclass(slots=True)
class Day:
    """What happened at the gate.

    Attributes:
        taps: The validator's report of each tap, in order.
    """

    taps: list[dict[str, Any]] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """How many taps ended in each reason, by name."""
        return dict(sorted(Counter(tap["reason"] for tap in self.taps).items()))


async def live(crowd: Crowd, air: Field, validator: Process, broker: Broker, screen: Screen, *, timed: bool) -> Day:
    """Let a crowd pass the gate; the broker is away for the middle fifth of it.

    Raises:
        Surprise: A tap ended otherwise than the table says.
        ProcessDied: The validator ended.
    """
    day, events = Day(), validator.events()
    await anext_event(events, "ready")
    away, back = len(crowd.visits) * 2 // 5, len(crowd.visits) * 3 // 5
    for number, visit in enumerate(crowd.visits):
        if number == away:
            await broker.stop()
            screen.broker("gone")
        if number == back:
            await broker.start()
            screen.broker("up")
        await _visit(visit, day, events, air, screen, timed=timed)
    return day


async def _visit(
    visit: Visit, day: Day, events: AsyncIterator[dict[str, Any]], air: Field, screen: Screen, *, timed: bool
) -> None:
    for card, expected in zip(air_cards(visit, timed=timed), visit.reasons, strict=True):
        event = await present(card, air, events)
        day.taps.append(event)
        screen.tap(visit.persona, event)
        if event["reason"] != expected.name:
            raise Surprise(f"{visit.persona}: tap {len(day.taps)} ended in {event['reason']}, not {expected.name}")
        air.remove()
        await asyncio.wait_for(air.polled(), TAP_LIMIT_S)
        screen.idle()


async def present(card: AirCard, air: Field, events: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Hold a card against the reader and return what the validator reports of the tap."""
    air.place(card)
    return await anext_event(events, "tap")


async def anext_event(events: AsyncIterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the next event of a kind.

    Raises:
        ProcessDied: It did not come in time, or the process ended.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TAP_LIMIT_S):
            async for event in events:
                if event["event"] == kind:
                    return event
    raise ProcessDied(f"no event {kind!r} within {TAP_LIMIT_S:.0f} s")

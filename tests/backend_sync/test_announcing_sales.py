"""From a sale to a grant without a new list: gates' uplinks and the announcing office on a real Mosquitto."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from backend_sync import announcing, uplink, wire
from backend_sync.announced_lists import AnnouncedLists
from backend_sync.announcement import Rhythm
from backend_sync.ledger import Ledger
from backend_sync.ledger_news import Held, Sold
from backend_sync.mqtt import connect
from backend_sync.wire import Reported
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW, key
from tests.backend_sync.depot import running, until
from tests.backend_sync.list_office import REGION, ListOffice, card, started
from tests.backend_sync.listening_gate import Gate
from validator.entitlement import assess
from validator.lists.changes_file import read_changes, with_list_changes
from validator.lists.changing import TICKETS
from validator.lists.errors import ListError
from validator.lists.list_change import ListChange
from validator.lists.manifest import ListKind
from validator.lists.tickets import Tickets
from validator.model import ClockConfidence, Credential, Instant
from validator.rights import Entitlement

FIRST, SECOND, THIRD = card(1), card(2), card(3)
SOON = Rhythm(fresh_s=None, burst=100)


def grants(gate: Gate, *cards: Credential) -> Callable[[], bool]:
    """Whether a gate lets cards through by what it has on its disk now."""
    at = Instant(NOW * 1000, 0, b"one-boot", ClockConfidence.NTP)

    def ask() -> bool:
        if gate.lists.changed() or gate.device.publishers.changed():
            gate.lists = gate.device.gate(gate.lists)
        rights = [assess(gate.lists.products(each.id), [], 0, "Viru", at) for each in cards]
        return all(isinstance(right, Entitlement) for right in rights)

    return ask


@pytest.fixture
def gate(tmp_path: Path, announced: ListOffice, carrier: MosquittoCarrier) -> Gate:
    return Gate(tmp_path, announced, carrier)


async def reported_change(office: ListOffice, number: int) -> None:
    async with connect(office.broker, "listener", clean_session=True) as link, asyncio.timeout(20):
        await link.subscribe(wire.reported("gate-1"))
        while True:
            report = wire.decode(Reported, (await link.receive()).payload)
            if "tickets" in report.lists and report.lists["tickets"].change == number:
                return


async def test_a_sale_becomes_a_grant_without_a_new_list(announced: ListOffice, gate: Gate) -> None:
    announced.sell(1, FIRST)
    announced.publish_tickets()
    options = announced.options(sales=SOON)
    async with running(announcing.run(options)), running(uplink.run(gate.uplink())):
        await until(grants(gate, FIRST))
        assert not grants(gate, SECOND)()
        announced.sell(2, SECOND)
        await until(grants(gate, FIRST, SECOND))
        announced.sell(3, FIRST)
        await until(lambda: grants(gate, FIRST)() and len(gate.lists.products(FIRST.id)) == 2)
        assert (gate.lists.versions.tickets, gate.lists.faults) == (1, ())
        announced.publish_tickets(now_s=NOW + 1)
        await until(lambda: grants(gate, FIRST, SECOND)() and gate.lists.versions.tickets == 2)
        assert ListKind.TICKETS not in gate.lists.changes, "what a new list holds is not told again"
        announced.sell(4, THIRD)
        await until(grants(gate, FIRST, SECOND, THIRD))
    assert len(read_changes(announced.lists, 2, ListKind.TICKETS)) == 1


async def test_a_gate_that_was_away_or_waits_for_its_wave_hears_of_sales_too(announced: ListOffice, gate: Gate) -> None:
    announced.sell(1, FIRST)
    announced.publish_tickets()
    async with running(announcing.run(announced.options(sales=SOON))):
        async with running(uplink.run(gate.uplink())):
            await until(grants(gate, FIRST))
        announced.sell(2, SECOND)
        announced.publish_tickets(percent=0, now_s=NOW + 1)
        gate.device.restart()
        async with running(uplink.run(replace(gate.uplink(), report=0.1))):
            await until(grants(gate, FIRST, SECOND))
            announced.sell(3, THIRD)
            await until(grants(gate, FIRST, SECOND, THIRD))
            assert gate.lists.versions.tickets == 1
            await reported_change(announced, gate.lists.changes[ListKind.TICKETS].number)


@contextmanager
def told_by(office: ListOffice, rhythm: Rhythm) -> Iterator[AnnouncedLists[Tickets, ListChange, Held]]:
    with Ledger.open(office.ledger) as ledger:
        yield AnnouncedLists(Sold(), office.lists, lambda: ledger, office.catalogue, rhythm)


class TestPace:
    """Sales are told at once where there are few, and gathered where there are many."""

    def test_a_minute_of_sales_is_one_change(self, announced: ListOffice) -> None:
        announced.publish_tickets()
        made = list[int]()
        with told_by(announced, announcing.SALES) as told:
            for second in range(181):
                announced.sell(second + 1, card(second))
                made += [second] * len(told.look(NOW + second).changes)
            last = told.chains[0].listed
            assert all(last.products(card(second).id) for second in range(181))
        assert made == [0, 60, 120, 180]

    def test_a_change_that_could_not_be_kept_is_made_again(
        self, announced: ListOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        announced.publish_tickets()
        with told_by(announced, SOON) as told:
            announced.sell(1, FIRST)
            with monkeypatch.context() as full:
                full.setattr("validator.lists.changes_file.write_in_place", _no_room)
                with pytest.raises(ListError, match="full"):
                    told.look(NOW)
            assert len(told.look(NOW).changes) == 1


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "full")


async def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, carrier: MosquittoCarrier) -> None:
    now_s = int(time.time())  # the process that is killed reads the clock
    office = ListOffice(tmp_path / "office", carrier.address, made_s=now_s).adopt()
    office.sell(1, FIRST)
    published = office.publish_tickets(now_s=now_s)
    keys = {f"{REGION}.tickets": key(f"{REGION}.tickets").public_key()}

    def kept() -> list[list[int]]:
        """The products of each, by the changes on the disk, each of which has to hold."""
        found = with_list_changes(
            TICKETS.load(published.manifest, published.payload_path),
            published.manifest,
            read_changes(office.lists, 1, ListKind.TICKETS),
            keys,
        )
        assert found.fault is None
        return [[held.product_id for held in found.listed.products(each.id)] for each in (FIRST, SECOND, THIRD)]

    first = await started(office)
    try:
        office.sell(2, SECOND)
        await until(lambda: kept() == [[1], [2], []])
    finally:
        first.send_signal(signal.SIGKILL)
        await first.wait()
    office.sell(3, THIRD)
    second = await started(office)
    try:
        await until(lambda: kept() == [[1], [2], [3]])
        assert len(read_changes(office.lists, 1, ListKind.TICKETS)) == 2
    finally:
        second.send_signal(signal.SIGTERM)
        assert await second.wait() == os.EX_OK

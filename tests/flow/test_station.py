"""Whole taps at one lane: from a card on the air to the lamp, with the journal in between."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backend_sync.demo.issuer import DAY, CardKey, Issuer
from backend_sync.publisher import Dates
from hardware.gate import Signal
from hardware.medium import Medium, MediumLost, MediumTimeout, ReaderGone, Target, Technology, Transceive
from hardware.virtual.air import AirCard
from hardware.virtual.chip import Answer
from hardware.virtual.piv import PivChip
from tests.conversing import MeetsByWaiting
from tests.flow.lane import LIMIT_S, open_lane
from validator import station
from validator.card_index import card_name
from validator.certificates import credential_id, spki_of
from validator.conditions import Conditions
from validator.journal import Journal, Recorded
from validator.journal_file import JournalError
from validator.list_facts import CardStatus
from validator.lists.status_array import pack
from validator.model import Label, Outcome, Reason
from validator.reason_words import REASON_WORDS
from validator.rights import ProductKind
from validator.risk import RiskRules
from validator.vehicle_feed import PositionFile, VehiclePosition, write_position

T = TypeVar("T")

MINIMAL_MISS_APDUS = 4  # SELECT, first block, the rest of the certificate, challenge


class NoiseChip:
    """Answers every command with random bytes, or nothing at all."""

    historical = b""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def reset(self) -> None:
        pass

    def process(self, command: bytes) -> Answer:
        if self._rng.random() < 0.1:
            return Answer(None)
        body = self._rng.randbytes(self._rng.choice((0, 1, 2, 5, 60, 255)))
        trailer = self._rng.choice((b"\x90\x00", b"\x61\xff", b"\x6c\x10", b"\x6a\x82", self._rng.randbytes(2)))
        return Answer(body + trailer)


class TalkativeChip:
    """Never stops promising more."""

    historical = b""

    def reset(self) -> None:
        pass

    def process(self, command: bytes) -> Answer:
        return Answer(bytes(255) + b"\x61\xff")


async def test_the_gate_opens_only_when_the_tap_is_in_the_journal(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        for number in range(1, 4):
            report = await lane.present(card)
            assert report.tap.reason is Reason.VALID
            assert report.ratified
            assert lane.gate.recorded[-1] == report.seq == number
        assert lane.gate.shown.count(Signal.GRANT) == 3
    assert lane.gate.closed


async def test_a_signal_stays_until_it_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "SHOW_S", 3.0)  # so long that a slow machine is sure to look before it ends
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        await lane.present(card)
        assert lane.gate.shown[-1] is Signal.DENY, "the card is gone, the light is still on"
        await asyncio.wait_for(lane.gate.ready_again.wait(), LIMIT_S)
        assert lane.gate.shown == [Signal.READY, Signal.DENY, Signal.READY]


@pytest.mark.parametrize("technology", [Technology.TYPE_A, Technology.TYPE_B])
@pytest.mark.parametrize(
    ("make", "new", "known"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), 4, 3),
        (lambda: ec.generate_private_key(ec.SECP384R1()), 4, 3),
        (lambda: rsa.generate_private_key(65537, 2048), 7, 5),
        (lambda: rsa.generate_private_key(65537, 3072), 7, 5),
    ],
    ids=["P-256", "P-384", "RSA-2048", "RSA-3072"],
)
async def test_a_known_card_is_challenged_without_reading_its_certificate(
    tmp_path: Path, technology: Technology, make: Callable[[], CardKey], new: int, known: int
) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card(make())
        lane.sell(card)
        lane.publish()
        assert card.certificate is not None
        chip = PivChip(card.key, card.certificate)
        first = await lane.tap(chip, technology)
        second = await lane.tap(chip, technology)
        assert (first.tap.cached, first.traffic.apdus, first.tap.reason) == (False, new, Reason.VALID)
        assert (second.tap.cached, second.traffic.apdus, second.tap.reason) == (True, known, Reason.VALID)


@pytest.mark.parametrize("answered", range(MINIMAL_MISS_APDUS))
async def test_a_card_torn_away_is_asked_again_and_the_next_passenger_is_served(tmp_path: Path, answered: int) -> None:
    async with open_lane(tmp_path) as lane:
        torn, next_one = lane.card(), lane.card()
        lane.sell(torn, ProductKind.CARNET, rides=1)
        lane.sell(next_one)
        lane.publish()
        report = await lane.present(torn, tear_after=answered)
        assert report.tap.reason is Reason.PRESENT_AGAIN
        assert lane.gate.shown.count(Signal.GRANT) == 0
        assert (await lane.present(next_one)).tap.reason is Reason.VALID
        assert (await lane.present(torn)).tap.reason is Reason.VALID, "nothing was taken by the torn tap"


async def test_a_card_torn_before_the_light_rides_once_and_is_not_punished(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card, ProductKind.CARNET, rides=1, pass_back_s=600)
        lane.publish()
        first = await lane.present(card, tear_after=MINIMAL_MISS_APDUS)
        assert (first.tap.reason, first.ratified, first.tap.rides) == (Reason.VALID, False, 1)
        again = await lane.present(card)
        assert (again.tap.reason, again.tap.rides, again.tap.recovers) == (Reason.RECOVERED, 0, first.seq)
        third = await lane.present(card)
        assert third.tap.reason is Reason.PASS_BACK
        assert [signal for signal in lane.gate.shown if signal is not Signal.READY][-1] is Signal.DENY


async def test_new_lists_count_from_the_next_tap(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        assert (await lane.present(card)).tap.reason is Reason.VALID
        lane.publish(revoked=[card.credential_id])
        report = await lane.present(card)
        assert report.tap.reason is Reason.REVOKED
        assert report.tap.versions.deny == 3
        lane.publish(issuers=[Issuer.create("Another issuer", lane.now)])
        report = await lane.present(card)
        assert report.tap.reason is Reason.UNTRUSTED_ISSUER
        assert report.traffic.apdus == MINIMAL_MISS_APDUS, "a verdict under the old issuers is not believed"


@pytest.mark.parametrize("seed", range(12))
async def test_any_bytes_from_a_card_end_in_a_refusal_and_the_next_passenger_is_served(
    tmp_path: Path, seed: int
) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        report = await lane.tap(NoiseChip(seed))
        assert report.tap.reason in {Reason.UNKNOWN_MEDIUM, Reason.MALFORMED_ANSWER, Reason.PRESENT_AGAIN}
        assert (await lane.present(card)).tap.reason is Reason.VALID


async def test_a_card_that_never_stops_talking_is_stopped(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        report = await lane.tap(TalkativeChip())
        assert report.tap.reason is Reason.MALFORMED_ANSWER


class FailingReader(MeetsByWaiting):
    """Fails twice at opening and once at polling, then waits for ever."""

    name = "nfcpy:failing"
    polls = 0

    def __init__(self) -> None:
        self.opened = 0
        self.waiting = asyncio.Event()

    async def open(self) -> None:
        self.opened += 1
        if self.opened <= 2:
            raise ReaderGone(self.name, "unplugged")

    async def wait(self) -> Medium:
        if self.opened <= 3:
            raise ReaderGone(self.name, "unplugged again")
        self.waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass


async def test_a_dead_reader_shows_fault_and_is_opened_again(tmp_path: Path) -> None:
    reader = FailingReader()
    async with open_lane(tmp_path, reader) as lane:
        await asyncio.wait_for(reader.waiting.wait(), LIMIT_S)
        assert lane.gate.shown.count(Signal.FAULT) == 3
        assert lane.gate.shown[-1] is Signal.READY
        assert Signal.GRANT not in lane.gate.shown


class FlakyMedium:
    """A card at the edge of the field: one activation breaks off, though the card stays where it is."""

    target = Target(Technology.TYPE_A, b"\x08\x01\x02\x03", b"")
    card_s = 0.001

    def __init__(self, chip: PivChip, *, breaks: bool) -> None:
        self._chip, self._breaks = chip, breaks
        self.found_s = time.perf_counter()

    async def converse(self, dialogue: Callable[[Transceive], T]) -> T:
        return dialogue(self._transceive)

    def _transceive(self, apdu: bytes) -> bytes:
        if self._breaks:
            raise MediumLost("nfcpy:flaky", "garbled beyond repair")
        response = self._chip.process(apdu).response
        assert response is not None
        return response

    async def present(self) -> bool:
        return True

    async def removed(self) -> None:
        pass


class FlakyReader(MeetsByWaiting):
    name = "nfcpy:flaky"
    polls = 0

    def __init__(self) -> None:
        self.media: asyncio.Queue[FlakyMedium] = asyncio.Queue()

    async def open(self) -> None:
        pass

    async def wait(self) -> Medium:
        return await self.media.get()

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("breaks", "reason", "card_ms"),
    [
        ([False], Reason.VALID, 1.0),
        ([True, False], Reason.VALID, 2.0),
        ([True, True], Reason.PRESENT_AGAIN, 2.0),
        ([True], Reason.PRESENT_AGAIN, 1.0),
    ],
)
async def test_a_broken_transmission_is_tried_once_more_while_the_card_is_there(
    tmp_path: Path, breaks: list[bool], reason: Reason, card_ms: float
) -> None:
    reader = FlakyReader()
    async with open_lane(tmp_path, reader) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        assert card.certificate is not None
        chip = PivChip(card.key, card.certificate)
        for each in breaks:
            reader.media.put_nowait(FlakyMedium(chip, breaks=each))
        report = await asyncio.wait_for(lane.reports.get(), LIMIT_S)
        assert (report.seq, report.tap.reason) == (1, reason)
        assert report.card_ms == pytest.approx(card_ms), "every activation counts"


class StuckMedium(FlakyMedium):
    """Fails when it is asked whether it is still there, with an error that only a dialogue may have."""

    async def present(self) -> bool:
        raise MediumTimeout("nfcpy:flaky", "stalled")


async def test_an_error_that_escapes_a_driver_is_a_fault_and_not_the_end(tmp_path: Path) -> None:
    reader = FlakyReader()
    async with open_lane(tmp_path, reader) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        assert card.certificate is not None
        chip = PivChip(card.key, card.certificate)
        reader.media.put_nowait(StuckMedium(chip, breaks=False))
        report = await asyncio.wait_for(lane.reports.get(), LIMIT_S)
        assert (report.tap.reason, report.ratified) == (Reason.VALID, False)
        await asyncio.wait_for(lane.gate.faulted.wait(), LIMIT_S)
        reader.media.put_nowait(FlakyMedium(chip, breaks=False))
        assert (await asyncio.wait_for(lane.reports.get(), LIMIT_S)).tap.reason is Reason.VALID


async def test_a_grant_that_cannot_be_ratified_stays_a_grant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(self: Journal, _seq: int) -> None:
        raise JournalError(tmp_path, "the disk is full", "make room")

    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        monkeypatch.setattr(Journal, "ratify", failing)
        report = await lane.present(card)
        assert (report.tap.reason, report.ratified) == (Reason.VALID, False)
        assert Signal.FAULT not in lane.gate.shown
        assert (await lane.present(card)).tap.cached, "the card was remembered all the same"


async def test_an_entry_that_cannot_be_written_does_not_end_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refusing(self: Journal, *_: object) -> Recorded:
        raise ValueError("not a journal entry: product_id -1")

    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()
        assert card.certificate is not None
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "settle", refusing)
            lane.air.place(AirCard(PivChip(card.key, card.certificate), card.technology))
            await asyncio.wait_for(lane.gate.faulted.wait(), LIMIT_S)
            lane.air.remove()
            await asyncio.wait_for(lane.air.polled(), LIMIT_S)
        assert (await lane.present(card)).tap.reason is Reason.VALID


async def test_the_station_stops_when_it_is_told_to_at_any_moment(tmp_path: Path) -> None:
    for turns in range(8):
        reader = FlakyReader()
        folder = tmp_path / str(turns)
        folder.mkdir()
        async with open_lane(folder, reader) as lane:
            chip = PivChip(ec.generate_private_key(ec.SECP256R1()), None)
            reader.media.put_nowait(FlakyMedium(chip, breaks=False))
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(lane.stop(), LIMIT_S)
            assert lane.gate.closed


async def test_what_cannot_be_recorded_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card)
        lane.publish()

        async def full(self: Journal, *_: object) -> Recorded:
            raise JournalError(tmp_path, "the disk is full", "make room")

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "settle", full)
            assert card.certificate is not None
            lane.air.place(AirCard(PivChip(card.key, card.certificate), card.technology))
            await asyncio.wait_for(lane.gate.faulted.wait(), LIMIT_S)
            lane.air.remove()
            await asyncio.wait_for(lane.air.polled(), LIMIT_S)
        assert Signal.GRANT not in lane.gate.shown
        assert (await lane.present(card)).tap.reason is Reason.VALID


async def test_a_card_of_another_region_rides_where_guests_are_admitted(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        key = ec.generate_private_key(ec.SECP256R1())
        number, now_s = 5, int(lane.now.timestamp())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(UUID(bytes=card_name(5, bytes(16))).urn)])
        card = replace(lane.card(key), certificate=lane.issuer.issue(key, lane.now - DAY, lane.now + DAY, names=names))
        issuer = credential_id(spki_of(lane.issuer.key.public_key()))

        async def reasons(status: CardStatus, taps: int = 1) -> list[Reason]:
            statuses = pack([CardStatus.UNKNOWN] * number + [status])
            lane.depot.publisher.statuses([(issuer, number + 1, statuses)], Dates(now_s, now_s + 3600))
            lane.publish()
            return [(await lane.present(card)).tap.reason for _ in range(taps)]

        assert await reasons(CardStatus.OK) == [Reason.NO_TICKET], "no place admits guests unless it is told to"
        lane.station.where = replace(lane.station.where, guest_pass_back_s=600)
        assert await reasons(CardStatus.BLOCKED) == [Reason.REVOKED]
        assert await reasons(CardStatus.LOW) == [Reason.BALANCE_TOO_LOW]
        assert await reasons(CardStatus.OK, 2) == [Reason.VALID, Reason.PASS_BACK]
        stranger = lane.card()
        assert (await lane.present(stranger)).tap.reason is Reason.NO_TICKET, "its issuer did not number it"
        lane.sell(card)
        lane.publish()
        report = await lane.present(card)
        assert (report.tap.reason, report.tap.product_id) == (Reason.VALID, 1)


async def test_what_a_passenger_reads_is_what_the_tap_made_of_the_product(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        card = lane.card()
        lane.sell(card, ProductKind.CARNET, rides=2)
        lane.publish()
        read = [(await lane.present(card)).answer for _ in range(3)]
        assert [said.split("; until ")[0] for said in read] == [
            "valid; 1 ride left",
            "valid; 0 rides left",
            REASON_WORDS[Reason.RIDES_USED_UP],
        ]
        assert [text for text in lane.gate.read if text] == read


async def test_on_the_way_out_nothing_is_taken(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        lane.station.where = replace(lane.station.where, label=Label.EXIT)
        card = lane.card()
        lane.sell(card, ProductKind.CARNET, rides=1, pass_back_s=600)
        lane.publish()
        taps = [(await lane.present(card)).tap for _ in range(3)]
        assert [(tap.outcome, tap.rides, tap.label) for tap in taps] == [(Outcome.GRANT, 0, Label.EXIT)] * 3


async def test_a_bus_that_is_lost_takes_a_ticket_for_its_network(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        feed = tmp_path / "position.json"
        lane.station.position = VehiclePosition(feed, 10**9, ZoneInfo("UTC"))
        card = lane.card()
        lane.sell(card, conditions=Conditions(networks=frozenset({"bus"}), riders=3))
        lane.publish()
        tap = (await lane.present(card)).tap
        assert (tap.outcome, tap.reason, tap.graced) == (Outcome.GRANT, Reason.POSITION_UNKNOWN, True)
        assert (tap.stop, tap.route, tap.riders) == ("", "", 3)
        for network, reason in (("bus", Reason.VALID), ("rail", Reason.NOT_VALID_HERE)):
            write_position(feed, PositionFile(int(lane.now.timestamp()), "7820", "5", network=network))
            tap = (await lane.present(card)).tap
            assert (tap.reason, tap.graced) == (reason, False)
            assert (tap.stop, tap.route, tap.riders) == ("7820", "5", 3 if tap.outcome is Outcome.GRANT else 1)


async def test_a_place_bounds_how_often_a_card_rides(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        lane.station.where = replace(lane.station.where, risk=RiskRules(rides=2, within_s=600))
        card = lane.card()
        lane.sell(card)
        lane.publish()
        reasons = [(await lane.present(card)).tap.reason for _ in range(3)]
        assert reasons == [Reason.VALID, Reason.VALID, Reason.TOO_MANY_RIDES]

"""Our own PC/SC driver against a real service: taps, other programs, unplugging, and a service that restarts."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard
from tests.strangers.conftest import READER, PcscService

IssuedOf = Callable[[KeyType], IssuedCard]
HISTORICAL = "8073c021c055" + b"Pilet".hex()
SELECTED = "61164f0ba00000030800001000010079074f05a0000003089000"
SHARER = """
import sys, time
from smartcard import scard
_, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
result, *_ = scard.SCardConnect(context, sys.argv[1], scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1)
print(result, flush=True)
sys.stdin.readline()
"""


class Session:
    """The reader session's events, one by one."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self, event: str) -> dict[str, Any]:
        line = next(self._lines)
        try:
            facts = json.loads(line)
        except ValueError:
            pytest.fail("the session broke: " + line + "".join(self._lines))
        assert facts["event"] == event, facts
        assert isinstance(facts, dict)
        return facts


@contextlib.contextmanager
def session(service: PcscService, name: str = f"pcsc:{READER}") -> Iterator[Session]:
    process = service.popen([sys.executable, str(Path(__file__).with_name("reader_session.py")), name])
    assert process.stdout is not None
    try:
        yield Session(process.stdout)
    finally:
        process.kill()
        process.communicate()


def test_taps_one_after_another(service: PcscService, issued: IssuedOf) -> None:
    with session(service) as events:
        events.next("opened")
        for kind in (KeyType.P_256, KeyType.RSA_2048):
            with service.card(issued(kind)):
                medium = events.next("medium")
            assert medium["technology"] == "A"
            assert medium["historical"] == HISTORICAL
            assert medium["response"] == SELECTED
            assert medium["present"]
            assert medium["card_s"] > 0
            assert not events.next("removed")["present"]


def test_a_card_torn_away_inside_an_exchange_is_lost(service: PcscService, issued: IssuedOf) -> None:
    with session(service) as events:
        events.next("opened")
        with service.card(issued(KeyType.P_256), "--tear-after", "0"):
            assert events.next("lost")["why"].startswith(f"pcsc:{READER}: ")
            events.next("removed")


def test_a_beginning_of_the_name_is_enough(service: PcscService) -> None:
    with session(service, "pcsc:Virtual PCD 00 00") as events:
        events.next("opened")
    with session(service, "pcsc:Virtual PCD 00 01") as events:
        events.next("opened")
    with session(service, "pcsc:Virtual") as events:
        why = events.next("gone")["why"]
    assert "more than one reader" in why
    assert "'Virtual PCD 00 00', 'Virtual PCD 00 01'" in why


def test_a_name_that_no_reader_has_is_answered_with_those_found(service: PcscService) -> None:
    with session(service, "pcsc:ACS ACR1252") as events:
        why = events.next("gone")["why"]
    assert why.startswith("pcsc:ACS ACR1252: no reader has this name: readers found: 'Virtual PCD 00 00'")


def test_a_card_in_another_programs_hands_is_waited_for(service: PcscService, issued: IssuedOf) -> None:
    with service.card(issued(KeyType.P_256)):
        other = service.popen([sys.executable, "-c", SHARER, READER])
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        with session(service) as events:
            events.next("opened")
            other.communicate("let go\n")
            assert events.next("medium")["response"] == SELECTED


def test_a_card_that_another_program_keeps_is_a_fault(service: PcscService, issued: IssuedOf) -> None:
    with service.card(issued(KeyType.P_256)):
        other = service.popen([sys.executable, "-c", SHARER, READER])
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        with session(service) as events:
            events.next("opened")
            assert "another program keeps the card" in events.next("gone")["why"]
            other.communicate("let go\n")
            events.next("opened")
            assert events.next("medium")["response"] == SELECTED


def test_our_card_is_ours_alone(service: PcscService, issued: IssuedOf) -> None:
    with service.card(issued(KeyType.P_256)), session(service) as events:
        events.next("opened")
        events.next("medium")
        other = service.run([sys.executable, "-c", SHARER, READER], stdin="\n")
        assert other.stdout != "0\n"


def test_a_service_that_stops_and_starts(own_service: PcscService, issued: IssuedOf) -> None:
    with session(own_service) as events:
        events.next("opened")
        own_service.stop()
        assert events.next("gone")["why"].startswith(f"pcsc:{READER}: ")
        assert "start pcscd" in events.next("gone")["why"]
        own_service.start()
        events.next("opened")
        with own_service.card(issued(KeyType.P_256)):
            assert events.next("medium")["response"] == SELECTED
            own_service.stop()
            events.next("gone")
            assert "start pcscd" in events.next("gone")["why"]
            own_service.start()
            events.next("opened")
            assert events.next("medium")["response"] == SELECTED
        events.next("removed")

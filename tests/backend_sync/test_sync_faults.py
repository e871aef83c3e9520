"""What is wrong on the way, on either side of the broker or in it, and what still holds."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import structlog

from backend_sync import ingest, uplink, wire
from backend_sync.ingest import SendRates
from backend_sync.ledger import Ledger
from backend_sync.wire import Ack, Reported, TapBatch
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.depot import Depot, closed, heard, listener, running, until
from tests.backend_sync.gate import CREDENTIAL, GateJournal, a_tap, key_of
from validator.journal import Journal
from validator.journal_reader import JournalReader


async def test_an_uplink_waits_for_a_journal_that_is_not_there_yet(mosquitto: Depot, tmp_path: Path) -> None:
    mosquitto.register()
    fed: list[None] = []
    options = mosquitto.uplink_options(open_journal=JournalReader, progress=lambda: fed.append(None))
    async with running(ingest.run(mosquitto.ingest_options()), uplink.run(options)):
        await until(lambda: len(fed) >= 3)
        journal = await Journal.open(tmp_path / "journal.db", "gate-1", key_of("gate-1"))
        await journal.settle(CREDENTIAL, lambda _: a_tap(1))
        await until(lambda: mosquitto.cursor(journal.epoch) == 1)
    await journal.close()


async def test_a_journal_that_appears_is_noticed_soon(
    mosquitto: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend_sync.uplink._LOOK_AGAIN_S", 0.1)
    mosquitto.register()
    options = mosquitto.uplink_options(open_journal=JournalReader, reconnect=300.0, reconnect_max=300.0)
    async with running(ingest.run(mosquitto.ingest_options()), uplink.run(options)):
        await asyncio.sleep(0.3)
        journal = await Journal.open(tmp_path / "journal.db", "gate-1", key_of("gate-1"))
        await journal.settle(CREDENTIAL, lambda _: a_tap(1))
        await until(lambda: mosquitto.cursor(journal.epoch) == 1)
    await journal.close()


async def test_bad_messages_are_refused_counted_and_never_fatal(depot: Depot) -> None:
    stranger = GateJournal("stranger").fill(1)
    depot.journal.fill(60)
    depot.register()

    def batch(device: str, *envelopes: bytes) -> bytes:
        return wire.encode(TapBatch(device=device, epoch=7, head=1, entries=list(envelopes)))

    with structlog.testing.capture_logs() as logs:
        async with (
            running(ingest.run(depot.ingest_options())),
            listener(depot, wire.ack("gate-1"), wire.ack("stranger")) as link,
        ):
            await asyncio.sleep(0.3)
            for _ in range(3):
                await link.publish(wire.tap_up("gate-1"), b"\xc1 nonsense")
            await link.publish(wire.tap_up("stranger"), batch("stranger", stranger.envelopes[0]))
            await link.publish(wire.tap_up("gate-1"), batch("gate-1", stranger.envelopes[0]))
            await link.publish(wire.tap_up("gate-1"), batch("gate-1", depot.journal.envelopes[0], b"bad"))
            ack = Ack(device="gate-1", epoch=7, contiguous_up_to=0, send_rate=1)
            while ack.contiguous_up_to == 0:  # that of the batch which was refused whole, if it was committed alone
                ack = wire.open_ack(await heard(link), {"office": key_of("office").public_key()})
                assert (ack.device, ack.epoch) == ("gate-1", 7)
            assert ack.contiguous_up_to == 1
            async with running(uplink.run(depot.uplink_options())):
                await depot.until_acknowledged()
    refused = depot.books().rejected
    assert refused == {"message": 3, "unknown-device": 1, "signer": 1, "envelope": 1}
    lines = [line for line in logs if line["event"] == "refused"]
    assert sorted(line["device"] for line in lines) == ["gate-1", "stranger"], "once for each source and minute"


async def test_an_entry_that_is_damaged_holds_no_other_back(mosquitto: Depot) -> None:
    mosquitto.journal.fill(200)
    mosquitto.journal.envelopes[29] = mosquitto.journal.envelopes[29][:-1] + b"?"
    mosquitto.register()
    async with running(ingest.run(mosquitto.ingest_options()), uplink.run(mosquitto.uplink_options())):
        await until(lambda: mosquitto.books().to_dict()["taps"] == 199)
        await until(lambda: mosquitto.cursor() >= 29)
    assert mosquitto.cursor() == 29
    assert mosquitto.books().devices[0].chain.missing == [(30, 30)]


@pytest.mark.parametrize("damage", [b"", b"x" * (wire.MAX_ENVELOPE_BYTES + 1)], ids=["emptied", "too-long"])
@pytest.mark.parametrize("damaged", [range(30, 31), range(20, 120)], ids=["one", "two-batches"])
async def test_an_entry_that_no_message_can_carry_is_named_and_holds_no_other_back(
    mosquitto: Depot, damage: bytes, damaged: range
) -> None:
    mosquitto.journal.fill(200)
    for seq in damaged:
        mosquitto.journal.envelopes[seq - 1] = damage
    mosquitto.register()
    with structlog.testing.capture_logs() as logs:
        async with running(ingest.run(mosquitto.ingest_options()), uplink.run(mosquitto.uplink_options())):
            await until(lambda: mosquitto.books().to_dict()["taps"] == 200 - len(damaged))
            mosquitto.journal.fill(1)
            await until(lambda: mosquitto.books().to_dict()["taps"] == 201 - len(damaged))
            await until(lambda: mosquitto.cursor() >= damaged[0] - 1)
    assert mosquitto.cursor() == damaged[0] - 1
    assert mosquitto.books().devices[0].chain.missing == [(damaged[0], damaged[-1])]
    assert mosquitto.books().rejected == {}
    (line,) = (line for line in logs if "damaged" in line["event"])
    assert damaged[0] in line["seqs"]


async def test_versions_that_no_list_can_have_are_not_reported(mosquitto: Depot) -> None:
    options = mosquitto.uplink_options(versions=lambda: {"tickets": 10**19, "deny": -1, "trust": 4})
    async with listener(mosquitto, wire.reported("gate-1")) as link, running(uplink.run(options)):
        assert wire.decode(Reported, await heard(link)).versions == {"trust": 4}


async def test_a_cursor_that_cannot_be_read_is_none(mosquitto: Depot) -> None:
    (mosquitto.folder / "cursor").mkdir()
    mosquitto.journal.fill(60)
    mosquitto.register()
    with structlog.testing.capture_logs() as logs:
        async with running(ingest.run(mosquitto.ingest_options()), uplink.run(mosquitto.uplink_options())):
            await until(lambda: mosquitto.books().to_dict()["taps"] == 60)
            await until(lambda: any("cannot be written" in line["event"] for line in logs))
    assert any("cannot be read" in line["event"] for line in logs)


async def test_contradictions_are_told_once_a_minute(mosquitto: Depot) -> None:
    mosquitto.journal.fill(60)
    mosquitto.register()
    with Ledger.open(mosquitto.ledger_url) as ledger:
        ledger.record_batch(GateJournal().fill(60).arrival(*range(1, 51)), received_ms=1)
    copy = GateJournal()
    for number in range(50):
        copy.append(a_tap(1000 + number))
    with structlog.testing.capture_logs() as logs:
        async with running(ingest.run(mosquitto.ingest_options())), listener(mosquitto, wire.ack("gate-1")) as link:
            batch, answers = TapBatch(device="gate-1", epoch=7, head=50, entries=copy.envelopes), 0
            while answers < 2:
                await link.publish(wire.tap_up("gate-1"), wire.encode(batch))
                with suppress(TimeoutError):  # ingest may not be there yet
                    async with asyncio.timeout(0.5):
                        await link.receive()
                        answers += 1
    (line,) = (line for line in logs if line["event"] == "two entries under one number")
    assert line["seqs"] == tuple(range(1, 51))


@pytest.mark.parametrize(
    "forge",
    [
        lambda ack: wire.seal_ack(ack, key_of("somebody"), "office"),
        lambda ack: wire.seal_ack(msgspec.structs.replace(ack, device="gate-2"), key_of("office"), "office"),
        lambda ack: wire.seal_ack(msgspec.structs.replace(ack, epoch=8), key_of("office"), "office"),
        lambda ack: wire.seal_ack(msgspec.structs.replace(ack, contiguous_up_to=61), key_of("office"), "office"),
        lambda _: b"nonsense",
    ],
    ids=["forged", "another-device", "another-epoch", "beyond-the-head", "nonsense"],
)
async def test_the_cursor_moves_on_the_back_offices_word_alone(mosquitto: Depot, forge: Callable[[Ack], bytes]) -> None:
    mosquitto.journal.fill(60)
    with structlog.testing.capture_logs() as logs:
        async with running(uplink.run(mosquitto.uplink_options())), listener(mosquitto, wire.TAP_UP_FILTER) as link:
            await heard(link)
            await link.publish(
                wire.ack("gate-1"), forge(Ack(device="gate-1", epoch=7, contiguous_up_to=60, send_rate=9))
            )
            await until(lambda: any("ack" in line["event"] for line in logs))
    assert mosquitto.cursor() == 0


async def test_a_ledger_that_is_locked_is_waited_for(mosquitto: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend_sync.ledger.BUSY_TIMEOUT_S", 0.05)
    mosquitto.journal.fill(100)
    mosquitto.register()
    with structlog.testing.capture_logs() as logs, closing(lock(mosquitto.folder / "ledger.db")) as other:
        async with running(ingest.run(mosquitto.ingest_options()), uplink.run(mosquitto.uplink_options())):
            await until(lambda: any("until the ledger is back" in line["event"] for line in logs))
            await asyncio.sleep(0.5)
            assert mosquitto.cursor() == 0
            other.execute("ROLLBACK")
            await mosquitto.until_acknowledged()
    closed(mosquitto.books(), 100)


def lock(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


async def test_nobody_listens_and_stopping_is_quick(tmp_path: Path) -> None:
    depot = Depot(tmp_path, MosquittoCarrier(tmp_path))
    depot.journal.fill(1)
    depot.register()
    with structlog.testing.capture_logs() as logs:
        async with running(ingest.run(depot.ingest_options()), uplink.run(depot.uplink_options())):
            await until(lambda: len({line["event"] for line in logs}) == 2)
            await asyncio.sleep(0.5)
    assert len(logs) == 2, "once a minute"


async def test_a_broker_that_accepts_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    given_up = 0

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal given_up
        with suppress(OSError):
            while await reader.read(1000):
                pass
        given_up += 1
        writer.close()

    depot = Depot(tmp_path, MosquittoCarrier(tmp_path))
    depot.carrier.address = replace(depot.carrier.address, timeout=0.2)
    server = await asyncio.start_server(silence, "127.0.0.1", depot.carrier.address.port)
    async with running(uplink.run(depot.uplink_options())):
        await until(lambda: given_up >= 3)
    server.close()
    await server.wait_closed()


async def test_a_device_that_was_taken_out_of_the_file_is_refused_although_registered(mosquitto: Depot) -> None:
    stolen = GateJournal("gate-2").fill(1)
    mosquitto.journal.fill(60)
    mosquitto.register(mosquitto.journal, stolen)
    options = mosquitto.ingest_options(devices=frozenset({mosquitto.journal.device}))
    async with running(ingest.run(options)), listener(mosquitto, wire.TAP_UP_FILTER) as link:
        await asyncio.sleep(0.3)
        batch = TapBatch(device="gate-2", epoch=stolen.epoch, head=1, entries=stolen.envelopes)
        await link.publish(wire.tap_up("gate-2"), wire.encode(batch))
        async with running(uplink.run(mosquitto.uplink_options())):
            await mosquitto.until_acknowledged()
    books = mosquitto.books()
    closed(books, 60)
    assert books.rejected == {"unknown-device": 1}


def test_each_office_has_a_client_id_of_its_own(tmp_path: Path) -> None:
    depot = Depot(tmp_path, MosquittoCarrier(tmp_path))
    assert depot.ingest_options(signer="north").identifier == "ingest-north"
    assert depot.ingest_options(signer="south").identifier == "ingest-south"


@pytest.mark.parametrize(("backlog", "rate"), [(0, 600), (10, 600), (15, 310), (20, 20), (10**6, 20)])
def test_backlog_lowers_the_rate(backlog: int, rate: int) -> None:
    assert SendRates(full=600, least=20, low=10, high=20).at(backlog) == rate

"""The ledger: every tap once, every sale once, and the postings that follow from them. Nothing is ever changed.

A balance is a sum of postings, and each transaction's postings sum to zero in each unit (`backend_sync.postings`).

All calls block; ingest gives them one thread of their own. SQLite is opened through the standard library, so its
version is the system's; one process writes often (ingest), others (sales) wait for it (`backend_sync.one_writer`).
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from backend_sync import recording, sales, schema
from backend_sync.admission import Arrival, Rejection
from backend_sync.one_writer import StillWriting, give_way, one_writer
from backend_sync.recording import Receipt
from backend_sync.sales import Sale, SaleConflict
from backend_sync.schema import DEVICE, TAP
from backend_sync.tickets import TicketSnapshot
from backend_sync.wire import check_device
from validator.rights import Product

BUSY_TIMEOUT_S = 10
_MAGIC = b"SQLite format 3\0"

__all__ = ["Ledger", "LedgerError", "LedgerMissing", "LedgerUnavailable", "Receipt", "Sale", "SaleConflict"]


class LedgerError(Exception):
    """What was asked contradicts what the ledger holds, or the file is no ledger."""


class LedgerMissing(LedgerError):  # noqa: N818 - the state that a wrong path leads to
    """There is no ledger where one should be."""


class LedgerUnavailable(Exception):  # noqa: N818 - the state that is answered by trying again later
    """The database is locked, full, or cannot be opened. Nothing was recorded."""


class Ledger:
    """An open ledger. Use `Ledger.open`, and `close` it.

    Attributes:
        begun: Whether opening it made it.
    """

    def __init__(self, engine: Engine, path: Path | None) -> None:
        self._engine = engine
        self._path = path
        self._writer = engine.execution_options(pilet_writes=True)
        self._keys: dict[str, Ed25519PublicKey] = {}
        self.begun = False

    @classmethod
    def open(cls, url: str, *, create: bool = False) -> "Ledger":
        """Open a ledger, migrating its tables.

        Args:
            url: ``sqlite:///path``, or ``sqlite://`` for a new one in memory.
            create: Begin a new ledger where there is none. Only for those who bring something to record: to everybody
                else an empty ledger would look like closed books.

        Raises:
            LedgerMissing: There is none, or its folder is not there.
            LedgerError: Another engine than SQLite, or the file is something else than a ledger.
            OSError: The file may not be read.
            LedgerUnavailable: The file cannot be opened or stays locked.
            SchemaTooNew: A later version of this program wrote it.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            raise LedgerError(
                f"ledger {parsed.get_backend_name()!r}: this version keeps ledgers in SQLite, sqlite:///PATH"
            )
        in_memory = parsed.database in {None, "", ":memory:"}
        if not in_memory:
            _look_at(Path(str(parsed.database)), create=create)
        engine = create_engine(
            parsed,
            poolclass=StaticPool if in_memory else QueuePool,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
            hide_parameters=True,  # an error must not print who travelled
        )
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        # By whatever name the file is opened, there is one lock.
        ledger = cls(engine, None if in_memory else Path(str(parsed.database)).resolve())
        try:
            with ledger.reading() as connection:
                current = schema.is_current(connection)
            if not current:
                with ledger.writing() as connection:
                    ledger.begun = schema.migrate(connection, create=create or in_memory)
        except schema.NotALedger as error:
            ledger.close()
            raise LedgerError(f"{parsed.database}: {error}; check the path") from None
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Close all connections.

        The last one copies the log back, which is writing. Where others keep the lock the log stays as it is, for the
        next who opens the ledger.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._alone())
            except LedgerUnavailable:
                stack.enter_context(self._log_left())
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def register_device(self, device: str, public_key: Ed25519PublicKey) -> None:
        """Admit a device. Registering it again with the same key changes nothing.

        Raises:
            WireError: The id is not fit to be a topic level.
            LedgerError: It is registered with another key.
            LedgerUnavailable: Try again later.
        """
        raw = public_key.public_bytes_raw()
        with self.writing() as connection:
            known = connection.execute(select(DEVICE.c.public_key).where(DEVICE.c.id == check_device(device))).scalar()
            if known is None:
                connection.execute(insert(DEVICE), {"id": device, "public_key": raw})
            elif known != raw:
                raise LedgerError(f"device {device} is registered with another key: enrol it under a new id")

    def device_key(self, device: str) -> Ed25519PublicKey | None:
        """Return the key of a registered device, or None.

        Raises:
            LedgerUnavailable: Try again later.
        """
        if device not in self._keys:
            with self.reading() as connection:
                raw = connection.execute(select(DEVICE.c.public_key).where(DEVICE.c.id == device)).scalar()
            if raw is None:
                return None
            self._keys[device] = Ed25519PublicKey.from_public_bytes(raw)
        return self._keys[device]

    def devices(self) -> Mapping[str, Ed25519PublicKey]:
        """Return the keys of all registered devices by id.

        Raises:
            LedgerUnavailable: Try again later.
        """
        with self.reading() as connection:
            rows = connection.execute(select(DEVICE.c.id, DEVICE.c.public_key).order_by(DEVICE.c.id)).all()
        return {row.id: Ed25519PublicKey.from_public_bytes(row.public_key) for row in rows}

    def record_batches(
        self, arrivals: Sequence[Arrival], rejections: Sequence[Rejection] = (), *, received_ms: int
    ) -> list[Receipt]:
        """Record what was admitted and name what was not, all in one transaction. When it returns, it is durable.

        Args:
            arrivals: Verified entries of registered devices; repeating any of them changes no tap and no balance.
            rejections: What was refused; the latest 10,000 are kept, the counts for ever.
            received_ms: Milliseconds since 1970 UTC.

        Returns:
            One receipt for each arrival, in order.

        Raises:
            LedgerUnavailable: Nothing was recorded, try again later.
        """
        with self.writing() as connection:
            recording.note_rejections(connection, rejections, received_ms)
            return [recording.record(connection, arrival, received_ms) for arrival in arrivals]

    def record_batch(self, arrival: Arrival, *, received_ms: int) -> Receipt:
        """Record one batch: `record_batches` of one."""
        return self.record_batches([arrival], received_ms=received_ms)[0]

    def record_sale(self, sale: Sale) -> bool:
        """Record a sale and its postings.

        Returns:
            Whether it is new; repeating the same sale changes nothing.

        Raises:
            SaleConflict: Another sale has its number.
            LedgerUnavailable: Nothing was recorded, try again later.
        """
        return self.record_sales([sale]) == 1

    def record_sales(self, sold: Iterable[Sale]) -> int:
        """Record many sales. All are compared with the ledger before the first is written.

        They are written a thousand at a time, so that ingest never waits for long. Whatever interrupts that (or a
        conflict that somebody else's sale makes meanwhile) leaves the first ones recorded; recording all again records
        the rest.

        Returns:
            How many are new.

        Raises:
            SaleConflict: One has the number of another sale.
            LedgerUnavailable: Try again later.
        """
        with self.reading() as connection:
            new = sales.unrecorded(connection, sold)
        recorded = 0
        for start in range(0, len(new), sales.CHUNK):
            if start:
                give_way()
            with self.writing() as connection:
                recorded += sales.record_sales(connection, new[start : start + sales.CHUNK])
        return recorded

    def tap_envelopes(self, device: str) -> Iterator[tuple[int, int, bytes]]:
        """Yield ``(epoch, seq, envelope)`` of each tap of a device, by epoch and number.

        Raises:
            LedgerUnavailable: Try again later.
        """
        with self.reading() as connection:
            taps = select(TAP.c.epoch, TAP.c.seq, TAP.c.envelope).where(TAP.c.device == device)
            for row in connection.execute(taps.order_by(TAP.c.epoch, TAP.c.seq)):
                yield row.epoch, row.seq, row.envelope

    def tap_count(self) -> int:
        """Return how many taps are recorded.

        Raises:
            LedgerUnavailable: Try again later.
        """
        with self.reading() as connection:
            return connection.execute(select(func.count()).select_from(TAP)).scalar_one()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[TicketSnapshot]:
        """Read tickets and horizons as of one moment, whatever is recorded meanwhile.

        Raises:
            LedgerUnavailable: Try again later.
        """
        with self.reading() as connection:
            yield TicketSnapshot(connection)

    def product_states(self) -> Iterator[tuple[bytes, Product]]:
        """Yield each product's credential and state; with the horizons that belong to them only from `snapshot`."""
        with self.snapshot() as snapshot:
            yield from snapshot.product_states()

    def horizons(self) -> dict[str, tuple[int, int]]:
        """Return each device's horizon; with the products that belong to them only from `snapshot`."""
        with self.snapshot() as snapshot:
            return snapshot.horizons()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction: one consistent view for as long as it lasts.

        Raises:
            LedgerUnavailable: Try again later.
        """
        with _unavailable(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write in one transaction, as the only writer.

        Raises:
            LedgerUnavailable: The database is busy or away; nothing is written.
        """
        with self._alone(), _unavailable(), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other writer out, whatever process it is in."""
        if self._path is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(one_writer(Path(f"{self._path}.lock"), BUSY_TIMEOUT_S))
            except (StillWriting, OSError) as error:
                raise LedgerUnavailable(f"the ledger does not take this now: {error}") from None
            yield

    @contextlib.contextmanager
    def _log_left(self) -> Iterator[None]:
        """Be the last to close, and unable to copy the log back: SQLite lets no read-only connection do that."""
        url = URL.create("sqlite", database=f"file:{quote(str(self._path))}", query={"mode": "ro", "uri": "true"})
        with create_engine(url, poolclass=NullPool).connect() as last:
            with contextlib.suppress(DBAPIError):
                last.exec_driver_sql("SELECT 1 FROM sqlite_master").first()  # a connection counts from its first read
            yield


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        # The one code that does not speak of the moment: the statement or its sums are wrong, now and later.
        if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_ERROR":
            raise LedgerError(f"the ledger does not work: {error.orig}; was its file changed by hand?") from None
        raise LedgerUnavailable(f"the ledger does not take this now: {error.orig}") from None
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # its subclasses blame the statement
            raise
        raise LedgerError(f"the ledger is damaged: {error.orig}; keep it, and put a copy in its place") from None


def _look_at(path: Path, *, create: bool) -> None:
    """Refuse what is no ledger before anything is made or locked beside it; make a new one for its owner alone."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        if not create:
            raise LedgerMissing(
                f"{path}: there is no ledger; check the path (`ingest` and `publish sales` begin a new one)"
            ) from None
        if not path.parent.is_dir():
            raise LedgerMissing(f"{path}: its folder is not there; check the path, or make the folder") from None
        # SQLite would let everybody read it; the log beside it gets the same mode.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return
    if start not in {b"", _MAGIC}:
        raise LedgerError(f"{path}: this is no ledger but something else; check the path")


def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a connection of the driver's own type
    connection.isolation_level = None  # the driver would begin where it likes; `_on_begin` says where
    for pragma in schema.SQLITE_PRAGMAS:
        connection.execute(pragma)


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: upgrading a read lock later can fail without waiting.
    writes = connection.get_execution_options().get("pilet_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

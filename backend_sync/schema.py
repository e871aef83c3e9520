"""The ledger's tables, and how an older database is brought up to them.

Statements are SQLAlchemy Core, so that the same ones run on SQLite here and on PostgreSQL where one file is not enough.
What only SQLite needs (pragmas, triggers, its ``user_version``) is in this room, in `backend_sync.append_only`, in
`backend_sync.links_table`, `backend_sync.revocations_table`, `backend_sync.sales_table` and
`backend_sync.settlement_tables`, and nowhere else.

Evidence is append-only, and the database itself enforces it on every connection, whoever opened it: changing, deleting
or replacing a device's key, a batch, a tap, a posting, a sale or a conflict is an error for everybody, this code
included; of a discarded duplicate only the count may grow. `position` and `rejected` are working notes: `position` can
be computed again from the taps (and reconciliation does), `rejected` holds the latest.
"""

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

from backend_sync.append_only import ROW, forbid, is_there
from backend_sync.issuing_tables import create_issuing
from backend_sync.links_table import create_links
from backend_sync.revocations_table import create_revocations
from backend_sync.sales_table import condition_columns, create_order_of_sales, tell_conditions
from backend_sync.settlement_tables import SETTLEMENT, create_settlements

METADATA = MetaData()

DEVICE = Table(
    "device",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
)

BATCH = Table(
    "batch",
    METADATA,
    Column("id", ROW, primary_key=True),
    Column("device", String(64), ForeignKey("device.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    # What the device says is its latest entry; nobody signed that, so the next batch replaces it.
    Column("head", BigInteger, nullable=False),
    Column("admitted", Integer, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

TAP = Table(
    "tap",
    METADATA,
    Column("device", String(64), ForeignKey("device.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("wall_ms", BigInteger, nullable=False),
    Column("mono_ms", BigInteger, nullable=False),
    Column("boot", LargeBinary(8), nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("place", String(64), nullable=False),
    Column("gate", String(64), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("graced", Boolean, nullable=False),
    Column("trust_version", BigInteger, nullable=False),
    Column("deny_version", BigInteger, nullable=False),
    Column("tickets_version", BigInteger, nullable=False),
    Column("credential_id", LargeBinary(16)),
    Column("profile", String(64)),
    Column("assurance", Integer),
    Column("cached", Boolean, nullable=False),
    Column("product_id", BigInteger),
    Column("rides", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("recovers", BigInteger),
    Column("edition", BigInteger, nullable=False),
    Column("stop", String(64), nullable=False),
    Column("route", String(64), nullable=False),
    Column("riders", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("batch", ROW, ForeignKey("batch.id"), nullable=False),
    PrimaryKeyConstraint("device", "epoch", "seq"),
)

DUPLICATE = Table(
    "duplicate",
    METADATA,
    Column("device", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "epoch", "seq"),
)

CONFLICT = Table(
    "conflict",
    METADATA,
    Column("device", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("batch", ROW, ForeignKey("batch.id"), nullable=False),
    PrimaryKeyConstraint("device", "epoch", "seq", "digest"),
)

POSITION = Table(
    "position",
    METADATA,
    Column("device", String(64), ForeignKey("device.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("contiguous", BigInteger, nullable=False),
    PrimaryKeyConstraint("device", "epoch"),
)

REJECTED = Table(
    "rejected",
    METADATA,
    Column("id", ROW, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("size", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

REJECTED_COUNT = Table(
    "rejected_count",
    METADATA,
    Column("reason", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

SALE = Table(
    "sale",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("credential_id", LargeBinary(16), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("active_from", BigInteger, nullable=False),
    Column("rides", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False),
    Column("fare", BigInteger, nullable=False),
    Column("pass_back_s", BigInteger, nullable=False),
    Column("places", String, nullable=False),
    Column("residents_only", BigInteger, nullable=False),
    Column("least_assurance", BigInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("sold_ms", BigInteger, nullable=False),
    *condition_columns(),
)

_CAUSES = ("device", "sale", "settlement")

POSTING = Table(
    "posting",
    METADATA,
    Column("id", ROW, primary_key=True),
    Column("device", String(64)),
    Column("epoch", BigInteger),
    Column("seq", BigInteger),
    Column("sale", BigInteger, ForeignKey("sale.id")),
    Column("account", String(32), nullable=False),
    Column("product_id", BigInteger),
    Column("unit", String(8), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("settlement", ROW, ForeignKey(SETTLEMENT.c.id)),
    ForeignKeyConstraint(["device", "epoch", "seq"], ["tap.device", "tap.epoch", "tap.seq"]),
    CheckConstraint(
        "1 = " + " + ".join(f"CASE WHEN {cause} IS NULL THEN 0 ELSE 1 END" for cause in _CAUSES),
        name="posting_has_one_cause",
    ),
    CheckConstraint("amount <> 0", name="posting_moves_something"),
)

BATCH_BY_DEVICE = Index("batch_by_device", BATCH.c.device)
TAP_BY_PRODUCT = Index("tap_by_product", TAP.c.product_id)
POSTING_BY_TAP = Index("posting_by_tap", POSTING.c.device, POSTING.c.epoch, POSTING.c.seq)
POSTING_BY_SALE = Index("posting_by_sale", POSTING.c.sale)
POSTING_BY_SETTLEMENT = Index("posting_by_settlement", POSTING.c.settlement)

FIRST_TABLES = frozenset({"device", "batch", "tap", "sale", "posting"})
"""A ledger of any version has these."""

APPEND_ONLY = (DEVICE, BATCH, TAP, POSTING, SALE, CONFLICT)

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # An acknowledgement says "committed": the commit must have reached the disk, also when the power goes.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)


class SchemaTooNew(Exception):  # noqa: N818 - the state that the operator has to resolve
    """The database was written by a later version of this program."""


class NotALedger(Exception):  # noqa: N818 - what a wrong path leads to
    """The database is another program's, or empty where a ledger should be."""


def migrate(connection: Connection, *, create: bool) -> bool:
    """Bring a database to the present schema, inside the caller's transaction.

    Args:
        connection: To the database.
        create: Whether an empty database may become a ledger.

    Returns:
        Whether it became one.

    Raises:
        NotALedger: It is empty and may not become a ledger, or holds something else.
        SchemaTooNew: It is already ahead of this program.
    """
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables = _tables(connection)
    if tables and not tables >= FIRST_TABLES:
        raise NotALedger("this is another program's database")
    if not tables and not create:
        raise NotALedger("this is an empty file and no ledger")
    if version > len(_STEPS):
        raise SchemaTooNew(
            f"the ledger has schema {version}, this program knows up to {len(_STEPS)}: use the version that wrote it"
        )
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        step(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={number}")
    return not tables


def is_current(connection: Connection) -> bool:
    """Return whether the database is a ledger with the present schema, so that nothing needs to be written."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version == len(_STEPS) and _tables(connection) >= FIRST_TABLES


def _tables(connection: Connection) -> set[str]:
    return set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())


def _create(connection: Connection) -> None:
    METADATA.create_all(connection)
    for table in (*APPEND_ONLY, DUPLICATE):
        forbid(connection, table, "delete", "DELETE")
        forbid(connection, table, "replace", "INSERT", is_there(table))
    for table in APPEND_ONLY:
        forbid(connection, table, "update", "UPDATE")
    forbid(connection, DUPLICATE, "update", "UPDATE", _more_than_counted())


def _more_than_counted() -> str:
    kept = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in ("device", "epoch", "seq", "first_ms"))
    return f"{kept} OR NEW.count <= OLD.count"


def overwrite_what_is_deleted(connection: Connection) -> None:
    """Have this connection write zeros over what it deletes, so that a token that was forgotten is not in the file."""
    connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _tell_concessions(connection: Connection) -> None:
    """Add what older sales do not say: nothing was for residents only. A ledger that is made now says it already."""
    columns = connection.exec_driver_sql("SELECT name FROM pragma_table_info('sale')").scalars()
    if SALE.c.residents_only.name not in set(columns):
        connection.exec_driver_sql("ALTER TABLE sale ADD COLUMN residents_only BIGINT NOT NULL DEFAULT 0")


def _tell_least_assurances(connection: Connection) -> None:
    """Add what older sales do not say: a chip's proof (3) was enough for each of them."""
    columns = connection.exec_driver_sql("SELECT name FROM pragma_table_info('sale')").scalars()
    if SALE.c.least_assurance.name not in set(columns):
        connection.exec_driver_sql("ALTER TABLE sale ADD COLUMN least_assurance BIGINT NOT NULL DEFAULT 3")


def _tell_journeys(connection: Connection) -> None:
    """Add what older taps do not say: one rider each, at a place that stays, under no tariff and no label."""
    there = set(connection.exec_driver_sql("SELECT name FROM pragma_table_info('tap')").scalars())
    for name, column in _UNTOLD.items():
        if name not in there:
            connection.exec_driver_sql(f"ALTER TABLE tap ADD COLUMN {name} {column}")


_UNTOLD = {
    "edition": "BIGINT NOT NULL DEFAULT 0",
    "stop": "VARCHAR(64) NOT NULL DEFAULT ''",
    "route": "VARCHAR(64) NOT NULL DEFAULT ''",
    "riders": "INTEGER NOT NULL DEFAULT 1",
    "label": "INTEGER NOT NULL DEFAULT 0",
}


def _tell_settlements(connection: Connection) -> None:
    """Make what settlements need. A constraint of SQLite is mended by making its table anew."""
    create_settlements(connection)
    columns = connection.exec_driver_sql("SELECT name FROM pragma_table_info('posting')").scalars().all()
    if POSTING.c.settlement.name in columns:
        return
    connection.exec_driver_sql("ALTER TABLE posting RENAME TO posting_before")
    for index in POSTING.indexes:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
    POSTING.create(connection)
    names = ", ".join(columns)
    connection.exec_driver_sql(f"INSERT INTO posting ({names}) SELECT {names} FROM posting_before ORDER BY id")  # noqa: S608 - names of columns
    connection.exec_driver_sql("DROP TABLE posting_before")
    forbid(connection, POSTING, "delete", "DELETE")
    forbid(connection, POSTING, "replace", "INSERT", is_there(POSTING))
    forbid(connection, POSTING, "update", "UPDATE")


_STEPS: tuple[Callable[[Connection], None], ...] = (
    _create,
    create_issuing,
    create_links,
    _tell_concessions,
    _tell_least_assurances,
    create_revocations,
    create_order_of_sales,
    tell_conditions,
    _tell_journeys,
    _tell_settlements,
)
"""Step n brings schema n-1 to n. A step that was released is never changed; a change of the tables is a new step."""

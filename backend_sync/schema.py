"""The ledger's tables, and how an older database is brought up to them.

Statements are SQLAlchemy Core, so that the same ones run on SQLite here and on PostgreSQL where one file is not enough.
What only SQLite needs (pragmas, triggers, its ``user_version``) is in this room and nowhere else.

Evidence is append-only, and the database itself enforces it: changing or deleting a tap, a posting, a sale, a discarded
duplicate or a conflict is an error for everybody, this code included. `position` and `rejected` are
working notes: `position` can be computed again from the taps (and reconciliation does), `rejected` holds the latest.
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

METADATA = MetaData()

# SQLite counts rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_ROW = BigInteger().with_variant(Integer, "sqlite")

DEVICE = Table(
    "device",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
)

BATCH = Table(
    "batch",
    METADATA,
    Column("id", _ROW, primary_key=True),
    Column("device", String(64), ForeignKey("device.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
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
    Column("envelope", LargeBinary, nullable=False),
    Column("batch", _ROW, ForeignKey("batch.id"), nullable=False),
    PrimaryKeyConstraint("device", "epoch", "seq"),
)

DUPLICATE = Table(
    "duplicate",
    METADATA,
    Column("id", _ROW, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("batch", _ROW, ForeignKey("batch.id"), nullable=False),
)

CONFLICT = Table(
    "conflict",
    METADATA,
    Column("device", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("batch", _ROW, ForeignKey("batch.id"), nullable=False),
    PrimaryKeyConstraint("device", "epoch", "seq", "digest"),
)

POSITION = Table(
    "position",
    METADATA,
    Column("device", String(64), ForeignKey("device.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("contiguous", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("batch", _ROW, ForeignKey("batch.id"), nullable=False),
    PrimaryKeyConstraint("device", "epoch"),
)

REJECTED = Table(
    "rejected",
    METADATA,
    Column("id", _ROW, primary_key=True),
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
    Column("price", BigInteger, nullable=False),
    Column("sold_ms", BigInteger, nullable=False),
)

POSTING = Table(
    "posting",
    METADATA,
    Column("id", _ROW, primary_key=True),
    Column("device", String(64)),
    Column("epoch", BigInteger),
    Column("seq", BigInteger),
    Column("sale", BigInteger, ForeignKey("sale.id")),
    Column("account", String(32), nullable=False),
    Column("product_id", BigInteger),
    Column("unit", String(8), nullable=False),
    Column("amount", BigInteger, nullable=False),
    ForeignKeyConstraint(["device", "epoch", "seq"], ["tap.device", "tap.epoch", "tap.seq"]),
    CheckConstraint("(sale IS NULL) <> (device IS NULL)", name="posting_has_one_cause"),
    CheckConstraint("amount <> 0", name="posting_moves_something"),
)

TAP_BY_PRODUCT = Index("tap_by_product", TAP.c.product_id)
POSTING_BY_TAP = Index("posting_by_tap", POSTING.c.device, POSTING.c.epoch, POSTING.c.seq)
POSTING_BY_SALE = Index("posting_by_sale", POSTING.c.sale)

APPEND_ONLY = (TAP, POSTING, SALE, DUPLICATE, CONFLICT)

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # An acknowledgement says "committed": the commit must have reached the disk, also when the power goes.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    # Without it INSERT OR REPLACE deletes rows behind the triggers' back.
    "PRAGMA recursive_triggers=ON",
)


class SchemaTooNew(Exception):  # noqa: N818 - the state that the operator has to resolve
    """The database was written by a later version of this program."""


def migrate(connection: Connection) -> None:
    """Bring a database to the present schema, inside the caller's transaction.

    Raises:
        SchemaTooNew: It is already ahead of this program.
    """
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > len(_STEPS):
        raise SchemaTooNew(
            f"the ledger has schema {version}, this program knows up to {len(_STEPS)}: use the version that wrote it"
        )
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        step(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={number}")


def _create(connection: Connection) -> None:
    METADATA.create_all(connection)
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only: record a correction instead'); END"
            )


_STEPS: tuple[Callable[[Connection], None], ...] = (_create,)
"""Step n brings schema n-1 to n. A step that was released is never changed; a change of the tables is a new step."""

"""The tables of what was issued to whom: orders of cards, the accounts they are bound to, and what bureaus answered.

All but `personalisation` are append-only like the ledger's evidence; of a binding only the state may change, and only
onwards. They have metadata of their own, since the ledger's first step makes all of its own.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    text,
)

from backend_sync.append_only import ROW, forbid, is_there

ISSUING = MetaData()

CARD_ORDER = Table(
    "card_order",
    ISSUING,
    Column("id", ROW, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("family", String(32), nullable=False),
    # Of the file of accounts: another file under this name is another batch.
    Column("accounts_sha256", LargeBinary(32), nullable=False),
    Column("first_serial", BigInteger, nullable=False, unique=True),
    Column("cards", BigInteger, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("ordered_ms", BigInteger, nullable=False),
    CheckConstraint("cards > 0 AND first_serial > 0", name="card_order_has_cards"),
)

CARD_ORDER_FINISHED = Table(
    "card_order_finished",
    ISSUING,
    Column("card_order", ROW, ForeignKey("card_order.id"), primary_key=True),
    Column("manifest_sha256", LargeBinary(32), nullable=False),
    Column("finished_ms", BigInteger, nullable=False),
)

CARD_ORDER_KEY = Table(
    "card_order_key",
    ISSUING,
    Column("card_order", ROW, ForeignKey("card_order.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("check_value", String(6), nullable=False),
    PrimaryKeyConstraint("card_order", "name", "version"),
)
"""Which operator keys the cards of an order hold: a version names a key only while it is always the same."""

CREDENTIAL = Table(
    "credential",
    ISSUING,
    Column("serial", ROW, primary_key=True, autoincrement=False),
    # Stands for the token; with the UID that the bureau answers with, it gives the credential's id.
    Column("id", LargeBinary(16), nullable=False, unique=True),
    Column("card_order", ROW, ForeignKey("card_order.id"), nullable=False),
)

BINDING = Table(
    "binding",
    ISSUING,
    Column("serial", ROW, ForeignKey("credential.serial"), primary_key=True, autoincrement=False),
    Column("account", String(64), nullable=False),
    Column("family", String(32), nullable=False),
    # 1 ordered, 2 live, 3 ended: only ever upwards.
    Column("state", Integer, nullable=False),
    # Why it ended: 1 replaced, 2 failed at the bureau, 3 lost, 4 its account was closed.
    Column("ended", Integer),
    Column("since_ms", BigInteger, nullable=False),
    CheckConstraint("state IN (1, 2, 3)", name="binding_state"),
    CheckConstraint("(state = 3) = (ended IS NOT NULL)", name="binding_ended_says_why"),
)

PERSONALISATION = Table(
    "personalisation",
    ISSUING,
    Column("serial", ROW, ForeignKey("credential.serial"), primary_key=True, autoincrement=False),
    Column("token", LargeBinary(16), nullable=False),
    Column("reference", String(64), nullable=False),
)
"""What is written on a card that is not made yet. Of one that is made, or is not to be, the ledger forgets it."""

BUREAU_ANSWER = Table(
    "bureau_answer",
    ISSUING,
    Column("serial", ROW, ForeignKey("credential.serial"), primary_key=True, autoincrement=False),
    Column("uid", LargeBinary(7)),
    Column("made", Boolean, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    CheckConstraint("made = (uid IS NOT NULL)", name="bureau_answer_names_the_chip"),
)

BINDING_HELD = text("state <> 3")
BINDING_ONE_PER_ACCOUNT = Index(
    "binding_one_per_account",
    BINDING.c.account,
    unique=True,
    sqlite_where=BINDING_HELD,
    postgresql_where=BINDING_HELD,
)
"""No account holds two cards that are ordered or live, of whatever families, whoever writes."""
ANSWER_ONE_PER_CHIP = Index("bureau_answer_one_per_chip", BUREAU_ANSWER.c.uid, unique=True)
BINDING_ENDED = Index(
    "binding_ended", BINDING.c.serial, sqlite_where=text("state = 3"), postgresql_where=text("state = 3")
)

_ISSUED_FOR_EVER = (CARD_ORDER, CARD_ORDER_KEY, CARD_ORDER_FINISHED, CREDENTIAL, BUREAU_ANSWER)


def create_issuing(connection: Connection) -> None:
    """Make the tables, and have SQLite keep them as they are written."""
    ISSUING.create_all(connection)
    for table in (*_ISSUED_FOR_EVER, BINDING):
        forbid(connection, table, "delete", "DELETE")
        forbid(connection, table, "replace", "INSERT", f"{is_there(table)} OR {_taken(table)}")
    for table in _ISSUED_FOR_EVER:
        forbid(connection, table, "update", "UPDATE")
    forbid(connection, BINDING, "update", "UPDATE", _not_onwards())


def _taken(table: Table) -> str:
    """Whether an INSERT would meet a row by another unique value than its key: OR REPLACE deletes that one as well."""
    taken = {
        CARD_ORDER.name: "name = NEW.name OR first_serial = NEW.first_serial",
        CREDENTIAL.name: "id = NEW.id",
        BUREAU_ANSWER.name: "uid = NEW.uid",
        BINDING.name: "account = NEW.account AND state <> 3 AND NEW.state <> 3",
    }.get(table.name, "FALSE")
    return f"EXISTS (SELECT 1 FROM {table.name} WHERE {taken})"  # noqa: S608 - constant names


def _not_onwards() -> str:
    kept = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in ("serial", "account", "family"))
    return f"{kept} OR NEW.state <= OLD.state"

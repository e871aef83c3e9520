"""The tables of links: whose account it is, as a keyed hash, and which credentials were proved at a desk to be theirs.

Links and their endings are append-only: a link is a row, its end is a row of its own, and nothing is ever changed. Who
is behind an account may be forgotten, once nothing of it is live any more: that somebody can be found by their own code
is needed for as long as there is something to find, and no longer.
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
    UniqueConstraint,
)

from backend_sync.append_only import ROW, forbid, is_there

LINKING = MetaData()

PERSON = Table(
    "person",
    LINKING,
    # HMAC-SHA-256 of the personal identifier under an operator key that is not here (`validator.person_key`).
    Column("person", LargeBinary(32), primary_key=True),
    # Check value of that key: while one key replaces another, a person has a row under each.
    Column("person_key", String(6), nullable=False),
    Column("scheme", String(8), nullable=False),
    Column("account", String(64), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)

LINK = Table(
    "link",
    LINKING,
    Column("id", ROW, primary_key=True),
    Column("account", String(64), nullable=False),
    Column("credential_id", LargeBinary(16), nullable=False),
    # How often this credential had been linked before: two that link it at one moment cannot both be the next.
    Column("turn", Integer, nullable=False),
    Column("family", String(32), nullable=False),
    # How sure it was who stood at the desk, as `Assurance` numbers it.
    Column("assurance", Integer, nullable=False),
    Column("photo_checked", Boolean, nullable=False),
    # What kind of document said so.
    Column("scheme", String(8), nullable=False),
    Column("document", String(16), nullable=False),
    Column("desk", String(64), nullable=False),
    # When the person was proved, by the desk's clock.
    Column("proved_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    UniqueConstraint("credential_id", "turn", name="link_one_after_the_other"),
    CheckConstraint("turn >= 0", name="link_turn"),
    CheckConstraint("assurance = 4 OR (assurance = 3 AND photo_checked)", name="link_holder_was_proved"),
)

LINK_ENDED = Table(
    "link_ended",
    LINKING,
    Column("link", ROW, ForeignKey("link.id"), primary_key=True, autoincrement=False),
    # 1 replaced, 2 lost, 3 its account was closed, 4 made by mistake, 5 the same was proved anew.
    Column("why", Integer, nullable=False),
    Column("desk", String(64), nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    CheckConstraint("why IN (1, 2, 3, 4, 5)", name="link_ended_says_why"),
)

PROOF_USED = Table(
    "proof_used",
    LINKING,
    # Number of a desk's proof, and a credential that it was used with: of a document's, all that were read with it,
    # its own included; of another card's, those of the documents.
    Column("proof", LargeBinary(16), nullable=False),
    Column("credential_id", LargeBinary(16), nullable=False),
    Column("used_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("proof", "credential_id"),
)
"""What each proof was used with: said again it does nothing more, and with anything else it is refused."""

PERSON_BY_ACCOUNT = Index("person_by_account", PERSON.c.account)
LINK_BY_ACCOUNT = Index("link_by_account", LINK.c.account)


def create_links(connection: Connection) -> None:
    """Make the tables, and have SQLite keep them as they are written.

    A credential that is live for one account cannot be made live for another, and a person who has something live
    cannot be forgotten: what `backend_sync.links` refuses in words, the database refuses to everybody.
    """
    LINKING.create_all(connection)
    again = "EXISTS (SELECT 1 FROM link WHERE credential_id = NEW.credential_id AND turn = NEW.turn)"
    for table, taken in ((LINK, again), (LINK_ENDED, "FALSE"), (PROOF_USED, "FALSE"), (PERSON, "FALSE")):
        forbid(connection, table, "replace", "INSERT", f"{is_there(table)} OR {taken}")
        forbid(connection, table, "update", "UPDATE")
    for table in (LINK, LINK_ENDED, PROOF_USED):
        forbid(connection, table, "delete", "DELETE")
    live = "SELECT 1 FROM link LEFT JOIN link_ended ON link_ended.link = link.id WHERE link_ended.link IS NULL"
    elsewhere, held = f"{live} AND credential_id = NEW.credential_id", f"{live} AND account = OLD.account"
    forbid(connection, LINK, "second", "INSERT", f"EXISTS ({elsewhere})", why="is live: end it first")
    forbid(connection, PERSON, "delete", "DELETE", f"EXISTS ({held})", why="has live links: end them first")

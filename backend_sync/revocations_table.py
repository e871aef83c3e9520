"""The ledger's table of cards that were revoked, and of those that were given back. Nothing in it is ever changed.

A row says of one credential what holds from then on; of two rows the later counts. So the number of the last row says
whether anything happened, and whoever knows a number needs to read what came after it and no more. Whose card it is
stands nowhere in it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
)

from backend_sync.append_only import ROW, forbid, is_there

REVOKING = MetaData()

REVOCATION = Table(
    "revocation",
    REVOKING,
    Column("id", ROW, primary_key=True),
    Column("credential_id", LargeBinary(16), nullable=False),
    # What a deny list of numbers or a nation's register knows the card by; empty, 0 and NULL where it is not known.
    Column("issuer_id", LargeBinary(16), nullable=False),
    Column("issued_s", BigInteger, nullable=False),
    Column("number", BigInteger),
    Column("revoked", Boolean, nullable=False),
    # 1 lost, 2 stolen, 3 misused, 4 its account was closed, 5 found again, 6 made by mistake.
    Column("why", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    CheckConstraint("length(credential_id) = 16 AND length(issuer_id) IN (0, 16)", name="revocation_names_a_card"),
    CheckConstraint(
        "(revoked = 1 AND why IN (1, 2, 3, 4)) OR (revoked = 0 AND why IN (5, 6))", name="revocation_says_why"
    ),
)

REVOCATION_BY_CREDENTIAL = Index("revocation_by_credential", REVOCATION.c.credential_id)


def create_revocations(connection: Connection) -> None:
    """Make the table, and have SQLite keep it as it is written."""
    REVOKING.create_all(connection)
    forbid(connection, REVOCATION, "replace", "INSERT", is_there(REVOCATION))
    forbid(connection, REVOCATION, "update", "UPDATE")
    forbid(connection, REVOCATION, "delete", "DELETE")

"""The journal's table of uses: what a credential took here, of a product or as a guest, and who saw the grant.

Each function works inside the transaction, or on the connection, that `validator.journal_file` holds.
"""

from typing import cast

import apsw

from validator.model import Label, Tap
from validator.rights import Use

SCHEMA = """
CREATE TABLE use (
    seq INTEGER PRIMARY KEY,
    credential_id BLOB NOT NULL,
    product_id INTEGER,
    wall_ms INTEGER NOT NULL,
    mono_ms INTEGER NOT NULL,
    boot BLOB NOT NULL,
    place TEXT NOT NULL,
    rides INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    ratified INTEGER NOT NULL,
    recovers INTEGER,
    leaving INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX use_by_credential ON use (credential_id, seq);
"""
TELL_WAYS_OUT = "ALTER TABLE use ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0"
"""Adds what journals of layout 2 do not say: none of their lanes was a way out."""

# The table is STRICT, so that the database vouches for the types of its rows.
_UseRow = tuple[int, int | None, int, int, bytes, str, int, int, int, int | None, int]

_USES = (
    "SELECT seq, product_id, wall_ms, mono_ms, boot, place, rides, amount, ratified, recovers, leaving"
    " FROM use WHERE credential_id = ? ORDER BY seq"
)


def uses_of(db: apsw.Connection, credential_id: bytes | None) -> list[Use]:
    """Return what a credential took, in the order of the sequence numbers; nothing where none was seen."""
    if credential_id is None:
        return []
    return [_use(cast("_UseRow", row)) for row in db.execute(_USES, (credential_id,))]


def add_use(db: apsw.Connection, seq: int, tap: Tap) -> None:
    """Note what a granted tap took."""
    db.execute(
        "INSERT INTO use VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        (
            seq,
            tap.credential_id,
            tap.product_id,
            tap.at.wall_ms,
            tap.at.mono_ms,
            tap.at.boot,
            tap.place,
            tap.rides,
            tap.amount,
            tap.recovers,
            int(tap.label is Label.EXIT),
        ),
    )


def ratify_use(db: apsw.Connection, seq: int) -> None:
    """Note that the passenger saw the grant."""
    db.execute("UPDATE use SET ratified = 1 WHERE seq = ?", (seq,))


def drop_uses(db: apsw.Connection, horizon_seq: int, before_ms: int, limit: int) -> None:
    """Drop a batch of uses that the ticket list counts and that lie before a wall time in milliseconds."""
    db.execute(
        "DELETE FROM use WHERE seq IN (SELECT seq FROM use WHERE seq <= ? AND wall_ms < ? LIMIT ?)",
        (horizon_seq, before_ms, limit),
    )


def _use(row: _UseRow) -> Use:
    seq, product_id, wall_ms, mono_ms, boot, place, rides, amount, ratified, recovers, leaving = row
    return Use(seq, product_id, wall_ms, mono_ms, boot, place, rides, amount, bool(ratified), recovers, bool(leaving))

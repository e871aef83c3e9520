"""Which cards were revoked, one by one, and which were given back. All work inside the caller's transaction.

To give back undoes a revocation and nothing else: a card that ended, or that a file of denials names, stays refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, unique
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, insert, select

from backend_sync import bindings, links
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.revocation_word import Word
from backend_sync.revocations_table import REVOCATION
from validator.card_index import TOKENS
from validator.model import Credential

_CHUNK: Final = 500


@unique
class Why(IntEnum):
    """Why a card was revoked, or given back."""

    LOST = 1
    STOLEN = 2
    MISUSED = 3
    CLOSED = 4  # its account is
    FOUND = 5
    MISTAKE = 6

    @property
    def revokes(self) -> bool:
        """Whether cards are revoked for this, and not given back."""
        return self < Why.FOUND


def revoke(connection: Connection, credentials: Iterable[Credential], why: Why, now_ms: int) -> tuple[int, int]:
    """Revoke cards; return how many, and how many were revoked already.

    Args:
        connection: A transaction that writes.
        credentials: The cards; each counts once. Naming one again with its issuer or number, which was not known, says
            it anew; what was known of it stays known.
        why: Why; a reason to revoke.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        EnrolmentError: One has a number that the ledger gave to another card, or to none that was made.
    """
    revoked = known = 0
    for chunk in _chunks(credentials):
        _refuse_others_numbers(connection, chunk)
        said = _last_words(connection, [each.id for each in chunk])
        told = [_with_what_was_known(each, said.get(each.id)) for each in chunk]
        new = [each for each in told if each.id not in said or _tells_more(each, said[each.id])]
        _write(connection, new, why, now_ms)
        revoked, known = revoked + len(new), known + len(chunk) - len(new)
    return revoked, known


def restore(connection: Connection, credential_ids: Iterable[bytes], why: Why, now_ms: int) -> int:
    """Give cards back; return how many.

    Args:
        connection: A transaction that writes.
        credential_ids: The cards, 16 bytes each.
        why: Why; a reason to give back.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        EnrolmentError: One is not revoked here; nothing was changed.
    """
    restored = 0
    for chunk in _chunks(Credential(each) for each in credential_ids):
        said = _last_words(connection, [each.id for each in chunk])
        for each in chunk:
            if each.id not in said or not said[each.id].revoked:
                raise EnrolmentError(
                    f"{each.id.hex()} is not revoked here; what ended stays ended, and what a file of denials names is "
                    "taken out there. Nothing was changed"
                )
        _write(connection, [_credential(said[each.id]) for each in chunk], why, now_ms)
        restored += len(chunk)
    return restored


def of_account(connection: Connection, account: str) -> list[Credential]:
    """Return the cards that an account holds: of its batch, and linked at a desk. Empty where there is none."""
    held = bindings.held(connection, [account]).get(account)
    card = None if held is None else held.credential
    live = (one.credential_id for one in links.of_accounts(connection, [account]) if one.ended is None)
    found = {each: Credential(each) for each in live} | ({} if card is None else {card.id: card})
    return list(found.values())


def last_row(connection: Connection) -> int:
    """Return the number of the last row, 0 for none: as long as it stays, nobody was revoked or given back."""
    return int(connection.execute(select(func.max(REVOCATION.c.id))).scalar() or 0)


def revoked(connection: Connection) -> Iterator[Credential]:
    """Yield the cards that are revoked, in the order in which they were."""
    newest = select(func.max(REVOCATION.c.id)).group_by(REVOCATION.c.credential_id)
    rows = select(REVOCATION).where(REVOCATION.c.id.in_(newest), REVOCATION.c.revoked).order_by(REVOCATION.c.id)
    for row in connection.execute(rows):
        yield _credential(row)


def words_after(connection: Connection, row: int, listed: int) -> list[Word]:
    """Return what was said of cards after a row: one word each, the last, in the order in which they were said.

    Args:
        connection: To the ledger.
        row: A number as `last_row` returned it.
        listed: The last row that is in the published list; `Word.before` is how it was then.
    """
    newest = select(func.max(REVOCATION.c.id)).where(REVOCATION.c.id > row).group_by(REVOCATION.c.credential_id)
    words = connection.execute(select(REVOCATION).where(REVOCATION.c.id.in_(newest)).order_by(REVOCATION.c.id)).all()
    was = dict[bytes, bool]()
    for start in range(0, len(words), _CHUNK):
        ids = [each.credential_id for each in words[start : start + _CHUNK]]
        was |= {key: each.revoked for key, each in _last_words(connection, ids, up_to=listed).items()}
    return [Word(_credential(each), each.revoked, was.get(each.credential_id, False)) for each in words]


def _chunks(credentials: Iterable[Credential]) -> Iterator[list[Credential]]:
    seen, rest = set[bytes](), iter(credentials)
    while taken := list(islice(rest, _CHUNK)):
        chunk = {each.id: each for each in taken if each.id not in seen}
        seen.update(chunk)
        yield list(chunk.values())


def _last_words(
    connection: Connection, credential_ids: Sequence[bytes], up_to: int | None = None
) -> dict[bytes, Row[Any]]:
    """Return the newest row of each of these cards, up to a row."""
    mine = REVOCATION.c.credential_id.in_(credential_ids)
    where = mine if up_to is None else and_(mine, REVOCATION.c.id <= up_to)
    newest = select(func.max(REVOCATION.c.id)).where(where).group_by(REVOCATION.c.credential_id)
    rows = connection.execute(select(REVOCATION).where(REVOCATION.c.id.in_(newest)))
    return {row.credential_id: row for row in rows}


def _tells_more(credential: Credential, said: Row[Any]) -> bool:
    return not said.revoked or credential != _credential(said)


def _with_what_was_known(credential: Credential, said: Row[Any] | None) -> Credential:
    """Fill in what was said before: a list may know the card by its number, and only that takes it out again."""
    if said is None or credential.issuer_id not in (b"", said.issuer_id):
        return credential
    number = said.number if credential.index is None else credential.index
    return Credential(credential.id, said.issuer_id, credential.issued_s or said.issued_s, number)


def _refuse_others_numbers(connection: Connection, credentials: Sequence[Credential]) -> None:
    """A wrong number would have another card refused; of tokens the ledger knows whose each is."""
    given = [(each, each.index) for each in credentials if each.issuer_id == TOKENS and each.index is not None]
    cards = {each.index: each.id for each in bindings.made_cards(connection, [number for _, number in given])}
    for each, number in given:
        if cards.get(number) != each.id:
            raise EnrolmentError(
                f"{each.id.hex()} has not the number {number}, as this ledger gave them out; leave the number out. "
                "Nothing was changed"
            )


def _write(connection: Connection, credentials: Sequence[Credential], why: Why, now_ms: int) -> None:
    rows = [
        {
            "credential_id": each.id,
            "issuer_id": each.issuer_id,
            "issued_s": each.issued_s,
            "number": each.index,
            "revoked": why.revokes,
            "why": why.value,
            "at_ms": now_ms,
        }
        for each in credentials
    ]
    if rows:
        connection.execute(insert(REVOCATION), rows)


def _credential(row: Row[Any]) -> Credential:
    return Credential(row.credential_id, row.issuer_id, row.issued_s, row.number)


def ended_credential_ids(connection: Connection) -> set[bytes]:
    """Return the credentials that ended, as a batch's cards or as links: they stay refused, whoever is given back."""
    return set(chain(bindings.ended_credential_ids(connection), links.ended_credential_ids(connection)))

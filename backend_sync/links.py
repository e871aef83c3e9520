"""Which credentials are whose: a link begins, and ends, and is never changed or lost.

A credential is live for one account at most; the database refuses a second one. An account may have several. What a
person has to prove for one is in `backend_sync.proving`. All work inside the caller's transaction.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from backend_sync import bindings, schema
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.links_table import LINK, LINK_ENDED, PERSON
from validator.model import Assurance, DocumentType
from validator.person_key import LASTING

_CHUNK: Final = 1000
_RESIDENTS: Final = frozenset({DocumentType.CITIZEN, DocumentType.EU_CITIZEN, DocumentType.RESIDENT})


@unique
class LinkEnding(IntEnum):
    """Why a link ended."""

    REPLACED = 1  # the person was given others
    LOST = 2  # its holder has it no more
    CLOSED = 3  # its account is
    MISTAKE = 4  # it should never have been made
    RENEWED = 5  # the same was proved anew, better or by another kind of document


DENIED: Final = frozenset({LinkEnding.REPLACED, LinkEnding.LOST, LinkEnding.CLOSED})
"""What ended so belongs on the deny list; by mistake, somebody else's good card may have been linked.

What was denied once stays so while it is not live, however later links of it ended: a mistake is undone, and no more.
"""


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """How a link ended.

    Attributes:
        why: Why.
        desk: Where.
        ended_ms: When, milliseconds since 1970 UTC.
    """

    why: LinkEnding
    desk: str
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Link:
    """A credential that is, or was, an account's.

    Attributes:
        number: Its number in the ledger.
        account: The account.
        credential_id: The credential, 16 bytes.
        family: Family of the card that holds it.
        assurance: How sure it was who stood at the desk.
        photo_checked: Whether somebody there compared the photo with the face.
        scheme: By which rules the document was judged: ``ee``, ``jp``, ``es`` or ``icao``.
        document: What the document said of its holder's standing.
        desk: Name of the desk.
        proved_ms: When its person was proved, by the desk's clock, milliseconds since 1970 UTC.
        since_ms: When it began, milliseconds since 1970 UTC.
        ended: How it ended; None while it is live.
    """

    number: int
    account: str
    credential_id: bytes
    family: str
    assurance: Assurance
    photo_checked: bool
    scheme: str
    document: DocumentType
    desk: str
    proved_ms: int
    since_ms: int
    ended: LinkEnd | None


def begin(connection: Connection, facts: Mapping[str, Any]) -> None:
    """Record a link. The database refuses one of a credential that is live.

    Args:
        connection: A transaction that writes.
        facts: The columns of `LINK` but ``id`` and ``turn``.
    """
    before = select(func.count()).select_from(LINK).where(LINK.c.credential_id == facts["credential_id"])
    turn = connection.execute(before).scalar_one()
    connection.execute(insert(LINK), {**facts, "turn": turn})


def end(connection: Connection, links: Sequence[Link], why: LinkEnding, desk: str, now_ms: int) -> int:
    """End links that are live; return how many."""
    ended = {"why": why.value, "desk": desk, "ended_ms": now_ms}
    if links:
        connection.execute(insert(LINK_ENDED), [{"link": one.number, **ended} for one in links])
    return len(links)


def unlink(
    connection: Connection, credential_ids: Sequence[bytes], why: LinkEnding, desk: str, now_ms: int
) -> tuple[int, int]:
    """End links of credentials; return how many, and how many had ended before.

    Raises:
        EnrolmentError: One was never linked. Nothing was changed.
    """
    found = {one.credential_id: one for one in of_credentials(connection, credential_ids)}  # the newest of each
    if len(found) != len(set(credential_ids)):
        raise EnrolmentError("a credential among these was never linked; `enrol links` shows those that were")
    live = [one for one in found.values() if one.ended is None]
    return end(connection, live, why, desk, now_ms), len(found) - len(live)


def unlink_account(connection: Connection, account: str, why: LinkEnding, desk: str, now_ms: int) -> tuple[int, int]:
    """End all links of an account; return how many, and how many had ended before.

    With `LinkEnding.CLOSED` whose account it was is forgotten: proved again, the person gets a new one.

    Raises:
        EnrolmentError: Nothing was ever linked to it.
    """
    found = of_accounts(connection, [account])
    if not found:
        raise EnrolmentError("to this account nothing was ever linked; `enrol end` ends cards of a batch")
    ended = end(connection, [one for one in found if one.ended is None], why, desk, now_ms)
    if why is LinkEnding.CLOSED:
        schema.overwrite_what_is_deleted(connection)
        connection.execute(delete(PERSON).where(PERSON.c.account == account))
    return ended, len(found) - ended


def of_accounts(connection: Connection, accounts: Sequence[str]) -> list[Link]:
    """Return all links of accounts, those that ended as well, from the oldest to the newest."""
    return [_link(row) for row in connection.execute(_links().where(LINK.c.account.in_(accounts)))]


def of_credentials(connection: Connection, credential_ids: Sequence[bytes]) -> list[Link]:
    """Return all links of credentials, those that ended as well, from the oldest to the newest."""
    return [_link(row) for row in connection.execute(_links().where(LINK.c.credential_id.in_(credential_ids)))]


def account_of(connection: Connection, credential_id: bytes) -> str | None:
    """Return the account that a credential is live for; None for none."""
    live = _links().where(LINK.c.credential_id == credential_id, LINK_ENDED.c.link.is_(None))
    row = connection.execute(live).one_or_none()
    return None if row is None else str(row.account)


def is_resident(connection: Connection, account: str) -> bool:
    """Whether a concession for residents may be sold to an account, as far as a document can tell.

    The newest live link counts; where a person of the account has a code for life, the newest by a document of such a
    scheme, so that a passport beside it gives and takes nothing. An e-resident's document, a diplomat's, and one that
    tells nothing are none of a resident. A citizen may live abroad: where that matters, the register has to say the
    rest.
    """
    live = _links().where(LINK.c.account == account, LINK_ENDED.c.link.is_(None))
    schemes = select(PERSON.c.scheme).where(PERSON.c.account == account, PERSON.c.scheme.in_(LASTING))
    counting = set(connection.execute(schemes).scalars())
    documents = [
        DocumentType(row.document) for row in connection.execute(live) if not counting or row.scheme in counting
    ]
    return bool(documents) and documents[-1] in _RESIDENTS


def not_residents(connection: Connection, credential_ids: Collection[bytes]) -> set[bytes]:
    """Return those of these credentials that are known to be of an account that is no resident's.

    A credential that is nobody's yet is not among them: nothing was asked. Where it is an identity card's own, the gate
    asks the card.
    """
    asked, known = sorted(credential_ids), dict[bytes, str]()
    live = _links().where(LINK_ENDED.c.link.is_(None))
    for start in range(0, len(asked), _CHUNK):
        rows = connection.execute(live.where(LINK.c.credential_id.in_(asked[start : start + _CHUNK])))
        known |= {row.credential_id: row.account for row in rows}
    if len(known) < len(asked):
        accounts = sorted({row.account for row in connection.execute(live)})
        for start in range(0, len(accounts), _CHUNK):
            cards = bindings.held(connection, accounts[start : start + _CHUNK]).values()
            known |= {card.credential_id: card.account for card in cards if card.credential_id is not None}
    return {one for one in asked if one in known and not is_resident(connection, known[one])}


def ended_credential_ids(connection: Connection) -> Iterator[bytes]:
    """Yield the credentials that are linked no more and belong on the deny list, 16 bytes each."""
    live = select(LINK.c.credential_id).outerjoin(LINK_ENDED).where(LINK_ENDED.c.link.is_(None))
    ended = (
        select(LINK.c.credential_id)
        .join(LINK_ENDED)
        .where(LINK_ENDED.c.why.in_([why.value for why in DENIED]), LINK.c.credential_id.not_in(live))
        .group_by(LINK.c.credential_id)
        .order_by(func.max(LINK.c.id))
    )
    yield from connection.execute(ended).scalars()


def _links() -> Select[Any]:
    columns = (LINK_ENDED.c.why, LINK_ENDED.c.desk.label("ended_desk"), LINK_ENDED.c.ended_ms)
    return select(LINK, *columns).outerjoin(LINK_ENDED, LINK_ENDED.c.link == LINK.c.id).order_by(LINK.c.id)


def _link(row: Row[Any]) -> Link:
    return Link(
        number=row.id,
        account=row.account,
        credential_id=row.credential_id,
        family=row.family,
        assurance=Assurance(row.assurance),
        photo_checked=row.photo_checked,
        scheme=row.scheme,
        document=DocumentType(row.document),
        desk=row.desk,
        proved_ms=row.proved_ms,
        since_ms=row.since_ms,
        ended=None if row.why is None else LinkEnd(LinkEnding(row.why), row.ended_desk, row.ended_ms),
    )

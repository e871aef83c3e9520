"""Which account holds which card: a binding is ordered, then live, then ended, and never goes back.

An account holds at most one card that is ordered or live, of whatever family: these functions say so in words, and an
index of the database makes it impossible. A token is forgotten with the need for it: when its card was answered for,
or is not to be any more. All work inside the caller's transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from itertools import chain

from sqlalchemy import Connection, Select, and_, delete, func, insert, select, update

from backend_sync import schema
from backend_sync.accounts_file import Applicant
from backend_sync.bureau_answers import Answer
from backend_sync.card_family import CardFamily
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.issuing_tables import BINDING, BINDING_HELD, BUREAU_ANSWER, CREDENTIAL, PERSONALISATION
from validator.card_index import TOKENS
from validator.certificates import card_credential_id
from validator.model import Credential

_FETCHED = 1000


@unique
class BindingState(IntEnum):
    """How far a card has come. A state is only ever followed by a greater one."""

    ORDERED = 1
    LIVE = 2
    ENDED = 3


@unique
class Ending(IntEnum):
    """Why a binding ended."""

    REPLACED = 1  # its account was given another card
    FAILED = 2  # no card came of it
    LOST = 3  # its holder has it no more
    CLOSED = 4  # its account is


@dataclass(frozen=True, slots=True)
class HeldCard:
    """The card that an account holds.

    Attributes:
        account: The account.
        serial: Its serial number.
        credential_id: Its credential, 16 bytes; None until the bureau has said which chip it is on.
        family: Its family.
        state: Ordered or live.
    """

    account: str
    serial: int
    credential_id: bytes | None
    family: CardFamily
    state: BindingState

    @property
    def credential(self) -> Credential | None:
        """What a deny list knows it by, its number included; None until the bureau has said which chip it is on."""
        return None if self.credential_id is None else _numbered(self.credential_id, self.serial)


@dataclass(frozen=True, slots=True)
class Answered:
    """What answers changed.

    Attributes:
        live: Cards that are live now.
        failed: Cards that ended, since none was made; their accounts may be given another.
        known: Answers that were recorded before.
        ended_before: Cards that were replaced, lost or closed before they were answered; they stay ended.
    """

    live: int = 0
    failed: int = 0
    known: int = 0
    ended_before: int = 0

    def __add__(self, other: "Answered") -> "Answered":
        return Answered(
            self.live + other.live,
            self.failed + other.failed,
            self.known + other.known,
            self.ended_before + other.ended_before,
        )


def held(connection: Connection, accounts: Sequence[str]) -> dict[str, HeldCard]:
    """Return the cards that these accounts hold, by account."""
    return {
        row.account: HeldCard(
            row.account,
            row.serial,
            None if row.uid is None else card_credential_id(row.id, row.uid),
            CardFamily(row.family),
            BindingState(row.state),
        )
        for row in connection.execute(_held(accounts))
    }


def holders(connection: Connection, applicants: Sequence[Applicant]) -> Iterator[tuple[int, str]]:
    """Say which of these hold a card, by line."""
    cards = held(connection, [one.account for one in applicants])
    for one in applicants:
        if one.account in cards:
            yield one.line, f"this account holds card {cards[one.account].serial}; --replace ends that"


def end_held(connection: Connection, accounts: Sequence[str], why: Ending, now_ms: int) -> int:
    """End the cards that these accounts hold, and forget what they were to be made from; return how many."""
    serials = [card.serial for card in held(connection, accounts).values()]
    ended = {"state": BindingState.ENDED.value, "ended": why.value, "since_ms": now_ms}
    connection.execute(update(BINDING).where(BINDING.c.serial.in_(serials)).values(ended))
    _forget(connection, serials)
    return len(serials)


def contradictions(
    connection: Connection, batch: str, serials: range, answers: Sequence[Answer]
) -> Iterator[tuple[Answer, str]]:
    """Say which answers cannot be taken, and why.

    Args:
        connection: To the ledger.
        batch: Name of the batch that is answered for.
        serials: Its serial numbers.
        answers: One for each card.
    """
    uids = [one.uid for one in answers if one.uid is not None]
    known = _known(connection, [one.serial for one in answers])
    chips = select(BUREAU_ANSWER.c.uid, BUREAU_ANSWER.c.serial).where(BUREAU_ANSWER.c.uid.in_(uids))
    cards = {row.uid: row.serial for row in connection.execute(chips)}
    for one in answers:
        if one.serial not in serials:
            yield one, f"card {one.serial} is not of batch {batch}"
        elif known.get(one.serial, one.uid) != one.uid:
            yield one, f"card {one.serial} was answered for, and differently"
        elif one.uid is not None and cards.get(one.uid, one.serial) != one.serial:
            yield one, f"card {one.serial} has the UID of card {cards[one.uid]}: a chip is one card"


def record_answers(
    connection: Connection, batch: str, serials: range, answers: Sequence[Answer], now_ms: int
) -> Answered:
    """Set cards live that were made, and end those that were not; forget what they were made from.

    Args:
        connection: A transaction that writes.
        batch: Name of the batch that is answered for.
        serials: Its serial numbers.
        answers: One for each card; repeating one later changes nothing.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        EnrolmentError: One contradicts what is recorded, or another of them. Nothing was changed.
    """
    for _, what in chain(contradictions(connection, batch, serials, answers), _repeated(answers)):
        raise EnrolmentError(what)
    known = _known(connection, [one.serial for one in answers])
    new = [one for one in answers if one.serial not in known]
    if not new:
        return Answered(known=len(answers))
    connection.execute(
        insert(BUREAU_ANSWER),
        [{"serial": one.serial, "uid": one.uid, "made": one.made, "received_ms": now_ms} for one in new],
    )
    ordered = BINDING.c.state == BindingState.ORDERED.value
    made, failed = ([one.serial for one in new if one.made is made] for made in (True, False))
    live = connection.execute(
        update(BINDING)
        .where(BINDING.c.serial.in_(made), ordered)
        .values(state=BindingState.LIVE.value, since_ms=now_ms)
    ).rowcount
    ended = connection.execute(
        update(BINDING)
        .where(BINDING.c.serial.in_(failed), ordered)
        .values(state=BindingState.ENDED.value, ended=Ending.FAILED.value, since_ms=now_ms)
    ).rowcount
    _forget(connection, [one.serial for one in new])
    return Answered(live, ended, len(answers) - len(new), len(new) - live - ended)


def ended_cards(connection: Connection) -> Iterator[Credential]:
    """Yield the cards that ended, with their numbers, by serial number: they belong on the deny list.

    A card that the bureau never named a chip for has no credential, and nobody can have sold it anything.
    """
    ended = (
        _made()
        .join(BINDING, BINDING.c.serial == CREDENTIAL.c.serial)
        .where(BINDING.c.state == BindingState.ENDED.value)
        .order_by(CREDENTIAL.c.serial)
        .execution_options(yield_per=_FETCHED)
    )
    for row in connection.execute(ended):
        yield _numbered(card_credential_id(row.id, row.uid), row.serial)


def ended_credential_ids(connection: Connection) -> Iterator[bytes]:
    """Yield the credentials that ended, 16 bytes each, by serial number."""
    return (each.id for each in ended_cards(connection))


def made_cards(connection: Connection, serials: Sequence[int]) -> list[Credential]:
    """Return those of these cards that were made, with their numbers, by serial number."""
    wanted = _made().where(CREDENTIAL.c.serial.in_(serials)).order_by(CREDENTIAL.c.serial)
    return [_numbered(card_credential_id(row.id, row.uid), row.serial) for row in connection.execute(wanted)]


def numbers_given(connection: Connection) -> int:
    """Return the number that no card has yet, nor any number after it; 0 where there never was a batch."""
    last = connection.execute(select(func.max(CREDENTIAL.c.serial))).scalar()
    return 0 if last is None else int(last) + 1


def _numbered(credential_id: bytes, serial: int) -> Credential:
    """A batch puts the serial number into the token (`enrolment.issue`)."""
    return Credential(credential_id, TOKENS, index=serial)


def _made() -> Select[tuple[int, bytes, bytes | None]]:
    named = and_(BUREAU_ANSWER.c.serial == CREDENTIAL.c.serial, BUREAU_ANSWER.c.uid.is_not(None))
    return select(CREDENTIAL.c.serial, CREDENTIAL.c.id, BUREAU_ANSWER.c.uid).join(BUREAU_ANSWER, named)


def _held(accounts: Sequence[str]) -> Select[tuple[str, int, bytes, str, int, bytes | None]]:
    columns = (BINDING.c.account, BINDING.c.serial, CREDENTIAL.c.id, BINDING.c.family, BINDING.c.state)
    return (
        select(*columns, BUREAU_ANSWER.c.uid)
        .join(CREDENTIAL, CREDENTIAL.c.serial == BINDING.c.serial)
        .outerjoin(BUREAU_ANSWER, BUREAU_ANSWER.c.serial == BINDING.c.serial)
        .where(and_(BINDING.c.account.in_(accounts), BINDING_HELD))
    )


def _forget(connection: Connection, serials: Sequence[int]) -> None:
    schema.overwrite_what_is_deleted(connection)
    connection.execute(delete(PERSONALISATION).where(PERSONALISATION.c.serial.in_(serials)))


def _repeated(answers: Sequence[Answer]) -> Iterator[tuple[Answer, str]]:
    """Say which answers cannot be taken together."""
    cards: dict[bytes, int] = {}
    serials: set[int] = set()
    for one in answers:
        if one.serial in serials:
            yield one, f"card {one.serial} again"
        serials.add(one.serial)
        if one.uid is not None and cards.setdefault(one.uid, one.serial) != one.serial:
            yield one, f"card {one.serial} has the UID of card {cards[one.uid]}: a chip is one card"


def _known(connection: Connection, serials: Sequence[int]) -> dict[int, bytes | None]:
    answered = select(BUREAU_ANSWER.c.serial, BUREAU_ANSWER.c.uid).where(BUREAU_ANSWER.c.serial.in_(serials))
    return {row.serial: row.uid for row in connection.execute(answered)}

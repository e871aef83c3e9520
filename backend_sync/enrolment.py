"""Batches of cards: what was ordered, how far it has come, and what each card is made from.

An order is issued from its first account to its last, in chunks, and the serial number of a card says which row it is.
So the greatest serial number says how far an order has come: whoever goes on from there leaves no gap and does nothing
twice. All work inside the caller's transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, insert, or_, select

from backend_sync.accounts_file import Applicant
from backend_sync.bindings import BindingState, Ending, end_held, holders
from backend_sync.card_family import CardFamily
from backend_sync.enrolment_errors import EnrolmentBusy, EnrolmentError
from backend_sync.issuing_tables import (
    BINDING,
    CARD_ORDER,
    CARD_ORDER_FINISHED,
    CARD_ORDER_KEY,
    CREDENTIAL,
    PERSONALISATION,
)
from validator.card_index import card_name
from validator.certificates import token_id

TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True, order=True)
class KeyCheck:
    """Which operator key is meant: a name and a version alone do not say that it is the same as the last time.

    Attributes:
        name: Names it, for example ``ntag424-application``.
        version: Which of that name.
        check_value: Of the key, 6 hexadecimal digits (`backend_sync.bureau.OperatorKey`).
    """

    name: str
    version: int
    check_value: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be ordered.

    Attributes:
        name: Of the batch; unique for ever.
        family: Of all its cards.
        accounts_sha256: SHA-256 of the file of accounts.
        cards: How many accounts.
        keys: The operator keys that the cards are to hold; the first one's version is the order's.
    """

    name: str
    family: CardFamily
    accounts_sha256: bytes
    cards: int
    keys: tuple[KeyCheck, ...]

    @property
    def key_version(self) -> int:
        """Version of the key that a gate asks the cards for."""
        return self.keys[0].version


@dataclass(frozen=True, slots=True)
class CardOrder:
    """A batch of cards that was ordered.

    Attributes:
        number: Its number in the ledger.
        name: Its name.
        family: Of all its cards.
        first_serial: Serial number of its first card; the others follow without a gap.
        cards: How many.
        key_version: Version of the operator keys.
        ordered_ms: Milliseconds since 1970 UTC.
        manifest_sha256: Of the manifest of its files once they are complete, else None.
    """

    number: int
    name: str
    family: CardFamily
    first_serial: int
    cards: int
    key_version: int
    ordered_ms: int
    manifest_sha256: bytes | None

    @property
    def serials(self) -> range:
        """Serial numbers of its cards."""
        return range(self.first_serial, self.first_serial + self.cards)


@dataclass(frozen=True, slots=True)
class CardRecord:
    """What one card is made from.

    Attributes:
        serial: Its serial number.
        token: What it holds and shows to those who know its key, 16 bytes.
        reference: For the shipping label; empty for nothing.
    """

    serial: int
    token: bytes = field(repr=False)
    reference: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an order stands.

    Attributes:
        order: The order.
        ordered: Cards that nobody has answered for.
        live: Cards in use.
        failed: Cards that were not made.
        replaced: Cards whose accounts were given another.
        lost: Cards that their holders have no more.
        closed: Cards whose accounts are closed.
    """

    order: CardOrder
    ordered: int
    live: int
    failed: int
    replaced: int
    lost: int
    closed: int

    @property
    def issued(self) -> int:
        """How many of its accounts have been given a credential."""
        return self.ordered + self.live + self.failed + self.replaced + self.lost + self.closed


def find_order(connection: Connection, name: str) -> CardOrder | None:
    """Return the order of that name."""
    row = connection.execute(_orders().where(CARD_ORDER.c.name == name)).first()
    return None if row is None else _order(row)


def begin_order(connection: Connection, wanted: Wanted, now_ms: int) -> CardOrder:
    """Return the order that was begun as is wanted, or begin it.

    Raises:
        EnrolmentError: Another one has the name, or a key is not the one that was known by its name and version.
    """
    for name, version in _other_keys(connection, wanted.keys):
        raise EnrolmentError(
            f"--key-file: {name}.{version} is not the key that earlier batches had by this name and version: bring "
            "that one, or give this one a new version"
        )
    row = connection.execute(_orders().where(CARD_ORDER.c.name == wanted.name)).first()
    if row is None:
        after = select(func.coalesce(func.max(CARD_ORDER.c.first_serial + CARD_ORDER.c.cards), 1))
        facts = {
            "name": wanted.name,
            "family": wanted.family.value,
            "accounts_sha256": wanted.accounts_sha256,
            "cards": wanted.cards,
            "key_version": wanted.key_version,
        }
        first = connection.execute(after).scalar_one()
        connection.execute(insert(CARD_ORDER), facts | {"first_serial": first, "ordered_ms": now_ms})
        row = connection.execute(_orders().where(CARD_ORDER.c.name == wanted.name)).one()
        connection.execute(insert(CARD_ORDER_KEY), [{"card_order": row.id, **asdict(key)} for key in wanted.keys])
    if row.accounts_sha256 != wanted.accounts_sha256:
        raise EnrolmentError(f"batch {wanted.name} was begun with another file of accounts: give this one a new name")
    if (row.family, row.key_version) != (wanted.family.value, wanted.key_version):
        raise EnrolmentError(
            f"batch {wanted.name} was begun for {row.family} with keys of version {row.key_version}: go on with those, "
            "or give this one a new name"
        )
    if _keys(connection, row.id) != set(wanted.keys):
        raise EnrolmentError(f"batch {wanted.name} was begun with other operator keys: go on with exactly those")
    return _order(row)


def issued(connection: Connection, order: CardOrder) -> int:
    """Return how many accounts of an order have been given a credential: the first ones of its file."""
    last = select(func.max(CREDENTIAL.c.serial)).where(
        CREDENTIAL.c.serial >= order.first_serial, CREDENTIAL.c.serial < order.serials.stop
    )
    return int(connection.execute(last).scalar() or order.first_serial - 1) - order.first_serial + 1


def issue(
    connection: Connection,
    order: CardOrder,
    before: int,
    applicants: Sequence[Applicant],
    *,
    replace: bool,
    random: Callable[[int], bytes],
    now_ms: int,
) -> int:
    """Give the next accounts of an order a credential each.

    Args:
        connection: A transaction that writes.
        order: The order.
        before: How many of its accounts came before these.
        applicants: The accounts.
        replace: Whether a card that one of them holds ends with this.
        random: Returns that many octets of the operating system's randomness.
        now_ms: Milliseconds since 1970 UTC.

    Returns:
        How many cards were replaced.

    Raises:
        EnrolmentBusy: Somebody else issues this order.
        EnrolmentError: An account holds a card, and `replace` is not asked for.
    """
    if issued(connection, order) != before or before + len(applicants) > order.cards:
        raise EnrolmentBusy(f"batch {order.name}: another process issues it; wait for that, then run this again")
    replaced = 0
    if replace:
        replaced = end_held(connection, [one.account for one in applicants], Ending.REPLACED, now_ms)
    else:
        for line, what in holders(connection, applicants):
            raise EnrolmentError(f"line {line}: {what}")
    tokens, family, first = random(TOKEN_BYTES * len(applicants)), order.family.value, order.first_serial + before
    serials = range(first, first + len(applicants))
    cut = [tokens[start : start + TOKEN_BYTES] for start in range(0, len(tokens), TOKEN_BYTES)]
    named = [card_name(serial, random_part) for serial, random_part in zip(serials, cut, strict=True)]
    cards = list(zip(serials, named, applicants, strict=True))
    connection.execute(
        insert(CREDENTIAL),
        [{"serial": serial, "id": token_id(family, token), "card_order": order.number} for serial, token, _ in cards],
    )
    bound = {"family": family, "state": BindingState.ORDERED.value, "since_ms": now_ms}
    connection.execute(
        insert(BINDING), [{"serial": serial, "account": one.account, **bound} for serial, _, one in cards]
    )
    connection.execute(
        insert(PERSONALISATION),
        [{"serial": serial, "token": token, "reference": one.reference} for serial, token, one in cards],
    )
    return replaced


def records(connection: Connection, order: CardOrder, first: int, count: int) -> list[CardRecord]:
    """Return what cards of an order are made from, by serial number; what was answered for or ended is left out.

    Args:
        connection: To the ledger.
        order: The order.
        first: The first serial number.
        count: How many serial numbers.
    """
    wanted = select(PERSONALISATION).where(
        PERSONALISATION.c.serial >= first, PERSONALISATION.c.serial < min(first + count, order.serials.stop)
    )
    rows = connection.execute(wanted.order_by(PERSONALISATION.c.serial))
    return [CardRecord(row.serial, row.token, row.reference) for row in rows]


def not_to_be_made(connection: Connection, order: CardOrder, first: int, count: int) -> list[int]:
    """Return which cards of an order ended, by serial number.

    Args:
        connection: To the ledger.
        order: The order.
        first: The first serial number.
        count: How many serial numbers.
    """
    ended = select(BINDING.c.serial).where(
        BINDING.c.serial >= first,
        BINDING.c.serial < min(first + count, order.serials.stop),
        BINDING.c.state == BindingState.ENDED.value,
    )
    return list(connection.execute(ended.order_by(BINDING.c.serial)).scalars())


def finish(connection: Connection, order: CardOrder, manifest_sha256: bytes, now_ms: int) -> None:
    """Record that the files of an order are complete; from now on they are not written again."""
    facts = {"card_order": order.number, "manifest_sha256": manifest_sha256, "finished_ms": now_ms}
    connection.execute(insert(CARD_ORDER_FINISHED), facts)


def standings(connection: Connection) -> list[Standing]:
    """Return how each order stands, in the order of their beginning."""
    columns = [
        func.count(case((where, 1))).label(name)
        for name, where in (
            ("ordered", BINDING.c.state == BindingState.ORDERED.value),
            ("live", BINDING.c.state == BindingState.LIVE.value),
            ("failed", BINDING.c.ended == Ending.FAILED.value),
            ("replaced", BINDING.c.ended == Ending.REPLACED.value),
            ("lost", BINDING.c.ended == Ending.LOST.value),
            ("closed", BINDING.c.ended == Ending.CLOSED.value),
        )
    ]
    counts = select(*columns)
    found = []
    for row in connection.execute(_orders().order_by(CARD_ORDER.c.id)).all():
        order = _order(row)
        mine = BINDING.c.serial.between(order.first_serial, order.serials[-1])
        count = connection.execute(counts.where(mine)).one()
        found.append(Standing(order, **count._asdict()))
    return found


def _keys(connection: Connection, order: int) -> set[KeyCheck]:
    rows = connection.execute(select(CARD_ORDER_KEY).where(CARD_ORDER_KEY.c.card_order == order))
    return {KeyCheck(row.name, row.version, row.check_value) for row in rows}


def _other_keys(connection: Connection, keys: Sequence[KeyCheck]) -> Iterator[tuple[str, int]]:
    """Say which of these names and versions stood for other keys."""
    columns = CARD_ORDER_KEY.c
    other = (
        and_(columns.name == key.name, columns.version == key.version, columns.check_value != key.check_value)
        for key in keys
    )
    rows = connection.execute(select(columns.name, columns.version).where(or_(*other)).distinct())
    yield from ((row.name, row.version) for row in rows)


def _orders() -> Any:  # noqa: ANN401 - the type of a join's rows is longer than it is useful
    return select(CARD_ORDER, CARD_ORDER_FINISHED.c.manifest_sha256).outerjoin(
        CARD_ORDER_FINISHED, CARD_ORDER_FINISHED.c.card_order == CARD_ORDER.c.id
    )


def _order(row: Row[Any]) -> CardOrder:
    return CardOrder(
        number=row.id,
        name=row.name,
        family=CardFamily(row.family),
        first_serial=row.first_serial,
        cards=row.cards,
        key_version=row.key_version,
        ordered_ms=row.ordered_ms,
        manifest_sha256=row.manifest_sha256,
    )

"""Makes the changes that gates lay over their tickets and statuses: what was sold, and what became of cards."""

from collections.abc import Iterable, Mapping

from backend_sync.deny_changes import Stamp
from validator.list_facts import CardStatus
from validator.lists.errors import ListError
from validator.lists.list_change import Changeable, ListChange, apply
from validator.lists.manifest import ListKind
from validator.lists.status_delta import StatusOverlay, encode_status_delta
from validator.lists.statuses import Statuses
from validator.lists.ticket_delta import encode_ticket_delta
from validator.lists.tickets import Tickets
from validator.model import Credential
from validator.rights import Product


def next_ticket_change(
    tickets: Tickets, held: Mapping[bytes, Iterable[Product]], stamp: Stamp
) -> tuple[ListChange, Tickets]:
    """Make the change after which some credentials hold something else.

    Args:
        tickets: As they are.
        held: By credential id, all that each holds from now on, be it nothing. Rides and balances are those as of the
            horizons of the published list, with what was bought since and without what was ridden since.
        stamp: What the change says about itself.

    Returns:
        The change, and the tickets that come out of it.

    Raises:
        ListError: A product or an id breaks a rule, or there would be too many changes.
    """
    deltas = [encode_ticket_delta(tickets.overlay.delta(held))] if held else []
    change = _between(ListKind.TICKETS, tickets, tickets.with_deltas(deltas, "ticket delta"), deltas, stamp)
    return change, apply(tickets, change)


def cumulative_ticket_change(tickets: Tickets, stamp: Stamp) -> ListChange:
    """Make the one change that leads from the published tickets to the present ones."""
    deltas = [tickets.overlay.encode()] if len(tickets.overlay) else []
    return _between(ListKind.TICKETS, tickets.published, tickets, deltas, stamp)


def next_status_change(
    statuses: Statuses, found: Iterable[tuple[Credential, CardStatus]], stamp: Stamp
) -> tuple[ListChange, Statuses]:
    """Make the change after which some cards have another status; what is so already is left out.

    Args:
        statuses: As they are.
        found: Cards and their status; of a card that is there twice, the last. A card with a number beyond the last one
            makes the array longer: the cards between them are `UNKNOWN`.
        stamp: What the change says about itself.

    Returns:
        The change, and the statuses that come out of it.

    Raises:
        ListError: A card has no number, or one of an issuer who is not on the list; or there would be too many changes.
    """
    wanted: dict[bytes, dict[int, CardStatus]] = {}
    for credential, status in found:
        if credential.index is None or credential.issuer_id not in statuses.overlays:
            raise ListError("status change", f"card {credential.id.hex()} is not one that the list can speak of")
        wanted.setdefault(credential.issuer_id, {})[credential.index] = status
    deltas = []
    for issuer, cards in sorted(wanted.items()):
        overlay = statuses.overlays[issuer]
        news = {index: status for index, status in cards.items() if overlay.status(index) is not status}
        if news:
            deltas.append(encode_status_delta(overlay.delta(news, max(overlay.count, max(news) + 1))))
    changed = statuses.with_deltas(deltas, "status change")
    change = _between(ListKind.STATUS, statuses, changed, deltas, stamp)
    return change, apply(statuses, change)


def cumulative_status_change(statuses: Statuses, stamp: Stamp) -> ListChange:
    """Make the one change that leads from the published statuses to the present ones.

    Raises:
        ListError: A page cannot be read, or is damaged.
    """
    deltas = [
        encode_status_delta(StatusOverlay(overlay.base).differences(overlay))
        for _, overlay in sorted(statuses.overlays.items())
        if len(overlay) or overlay.count != overlay.base.count
    ]
    return _between(ListKind.STATUS, statuses.published, statuses, deltas, stamp)


def _between(
    kind: ListKind, before: Changeable, after: Changeable, deltas: Iterable[bytes], stamp: Stamp
) -> ListChange:
    return ListChange(
        kind=kind,
        region=stamp.region,
        version=stamp.version,
        number=stamp.number,
        issued_s=stamp.issued_s,
        not_after_s=stamp.not_after_s,
        base=before.state_hash,
        state=after.state_hash,
        deltas=tuple(deltas),
    )

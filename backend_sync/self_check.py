"""Whether a list that is signed and whole would do at this gate: tried on the passengers whom the gate let in lately.

A signature says who made a list, not that the list is right. In July 2008 a wrong table, properly published, spoilt
some 65,000 cards in London before anybody looked. What would turn away most of those who rode a moment ago is refused
here, reported, and stops its wave.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from validator import entry as journal_entry
from validator.entry import EntryError
from validator.envelope import EnvelopeError, Purpose, open_envelope
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader
from validator.lists.deny_list import DenyList
from validator.lists.directory import PAYLOAD, version_in_force
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind
from validator.lists.ticket_store import TicketStore
from validator.model import Credential, Outcome

PASSENGERS: Final = 200
"""So many of the last who were let in are asked about."""
LEAST_PASSENGERS: Final = 20
"""Fewer say nothing about a list."""
_READ: Final = 2000
"""Entries of the journal that are looked through for them."""


def self_check(kind: ListKind, candidate: Path, lists: Path, passengers: Sequence[bytes], now_s: int) -> None:
    """Refuse a candidate that would turn away more than half of the passengers whom the list in force lets in.

    Args:
        kind: Which list.
        candidate: Its payload, which a gate can load.
        lists: The list directory.
        passengers: Credential ids of passengers who were let in lately, 16 bytes each.
        now_s: The time, seconds since 1970 UTC.

    Raises:
        ListError: It would.
    """
    version = version_in_force(lists, kind)
    if version is None or kind not in _TURNED_AWAY:
        return
    turned_away = _TURNED_AWAY[kind]
    present = turned_away(lists / kind.value / str(version) / PAYLOAD, passengers, now_s)
    welcome = [each for each in passengers if each not in present]
    if len(welcome) < LEAST_PASSENGERS:
        return
    refused = len(turned_away(candidate, welcome, now_s))
    if 2 * refused > len(welcome):
        why = f"would turn away {refused} of the last {len(welcome)} passengers; refused by this gate's self-check"
        raise ListError(f"{kind} list", why)


def recent_passengers(journal: Path) -> list[bytes]:
    """Return the credentials of the last passengers whom a gate let in, each once; none without a readable journal."""
    found: dict[bytes, None] = {}
    try:
        book = JournalReader(journal)
    except JournalError:
        return []
    try:
        keys = {book.device: book.public_key}
        for _, sealed in reversed(book.entries_after(max(0, book.head() - _READ), _READ)):
            try:
                tap = journal_entry.decode(open_envelope(sealed, Purpose.TAP, keys).payload).tap
            except (EnvelopeError, EntryError):
                continue  # a journal that does not hold is the uplink's to report
            if tap.outcome is Outcome.GRANT and tap.credential_id is not None:
                found[tap.credential_id] = None
            if len(found) == PASSENGERS:
                break
    except JournalError:
        return []
    finally:
        book.close()
    return list(found)


def _denied(payload: Path, passengers: Sequence[bytes], _now_s: int) -> set[bytes]:
    """By their ids alone: a journal has no numbers of cards, so that a list's numbers are not tried here."""
    listed = DenyList.parse(payload.read_bytes(), payload)
    return {each for each in passengers if listed.denied(Credential(each))}


def _without_tickets(payload: Path, passengers: Sequence[bytes], now_s: int) -> set[bytes]:
    """Those who hold nothing that is valid now."""
    tickets = TicketStore(payload)
    try:
        return {
            each
            for each in passengers
            if not any(held.valid_from <= now_s < held.valid_until for held in tickets.products(each))
        }
    finally:
        tickets.close()


_TURNED_AWAY: dict[ListKind, Callable[[Path, Sequence[bytes], int], set[bytes]]] = {
    ListKind.DENY: _denied,
    ListKind.TICKETS: _without_tickets,
}

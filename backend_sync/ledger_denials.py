"""Whom the ledger has refused: cards that ended and cards that were revoked, by number where it gave them one.

A number takes a byte of a deny list where an id takes sixteen. Of a card that was only revoked, the number counts if
the revocation says it, where it was checked (`backend_sync.revocations`): a change that gives the card back knows no
other, and would leave it refused. A card that ended is never given back, and the ledger knows its number.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from backend_sync import bindings, links, revocations
from validator.card_index import TOKENS
from validator.lists.dense_deny import DenseDeny, dense_deny
from validator.model import Credential


@dataclass(frozen=True, slots=True)
class LedgerDenials:
    """Whom the ledger has refused.

    Attributes:
        ended: Cards that ended, by credential id.
        revoked: Cards that were revoked and not given back, by credential id.
        numbers_given: The number that no card has yet, nor any after it; 0 where there never was a batch.
        row: The last row of revocations that is in it.
    """

    ended: dict[bytes, Credential]
    revoked: dict[bytes, Credential]
    numbers_given: int
    row: int

    @property
    def refused(self) -> dict[bytes, Credential]:
        """All of them, by credential id; known by number where either says it."""
        both = self.ended | self.revoked
        return both | {key: each for key, each in self.ended.items() if _has_number(each)}

    def section(self) -> DenseDeny | None:
        """Return the numbers that are refused; None where the ledger never gave out any.

        Raises:
            ListError: The ledger gave out more numbers than a list can hold.
        """
        numbers = (each.index for each in self.refused.values() if _has_number(each) and each.index is not None)
        return dense_deny(TOKENS, self.numbers_given, sorted(numbers)) if self.numbers_given else None

    def ids(self, others: Iterable[bytes]) -> set[bytes]:
        """Return which ids have to be listed: these and others, less those whose numbers are in the section."""
        by_number = {key for key, each in self.refused.items() if _has_number(each)}
        return {*others, *self.refused} - by_number


NOBODY = LedgerDenials({}, {}, 0, 0)


def denied_cards(connection: Connection, *, without_ended: bool = False) -> LedgerDenials:
    """Read whom the ledger has refused.

    Args:
        connection: One transaction: the row has to be that of the rest.
        without_ended: Whether cards that ended are left out.
    """
    ended = dict[bytes, Credential]()
    if not without_ended:
        ended |= {each: Credential(each) for each in links.ended_credential_ids(connection)}
        ended |= {each.id: each for each in bindings.ended_cards(connection)}
    revoked = {each.id: each for each in revocations.revoked(connection)}
    return LedgerDenials(ended, revoked, bindings.numbers_given(connection), revocations.last_row(connection))


def _has_number(card: Credential) -> bool:
    return card.issuer_id == TOKENS and card.index is not None

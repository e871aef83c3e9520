"""What the ledger says that gates have to hear before the next list: who was revoked, and what was sold."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import structlog
from sqlalchemy import Connection

from backend_sync import revocations, sales
from backend_sync.announced_lists import Rows
from backend_sync.announcement import Chain
from backend_sync.telling import DENIALS, TICKETS, Refusals, Telling, refusals
from backend_sync.tickets import TicketSnapshot
from validator.lists.deny_change import DenyChange
from validator.lists.deny_list import DenyList
from validator.lists.list_change import ListChange
from validator.lists.ticket_delta import MAX_PRODUCTS
from validator.lists.tickets import Tickets
from validator.rights import Product

MOST_SALES: Final = 20_000
"""That are looked at in one go, two seconds of work with their change: revocations wait for that."""
_LOG = structlog.get_logger("announce")
Held = Mapping[bytes, Sequence[Product]]


class Revoked:
    """Who was revoked, and who was given back."""

    telling: Telling[DenyList, DenyChange, Refusals] = DENIALS

    @staticmethod
    def last_row(connection: Connection) -> int:
        """Return the number of the last row; as long as it stays, nobody was revoked or given back."""
        return revocations.last_row(connection)

    @staticmethod
    def said(connection: Connection, chain: Chain[DenyList, DenyChange, Refusals], rows: Rows) -> tuple[Refusals, int]:
        """Return whom rows after those that were seen revoke or give back, and the last row."""
        words = revocations.words_after(connection, rows.seen, rows.listed)
        given_back = any(not each.revoked for each in words)
        ended = revocations.ended_credential_ids(connection) if given_back else set()
        return refusals(chain.published, words, ended), revocations.last_row(connection)


class Sold:
    """What was sold."""

    telling: Telling[Tickets, ListChange, Held] = TICKETS

    @staticmethod
    def last_row(connection: Connection) -> int:
        """Return the number of the last sale; as long as it stays, nothing was sold."""
        return sales.last_row(connection)

    @staticmethod
    def said(connection: Connection, chain: Chain[Tickets, ListChange, Held], rows: Rows) -> tuple[Held, int]:
        """Return all that the buyers of what was sold since hold, and the last sale that was looked at.

        What gates know of already is as the list has it, and so is what is new: as of the list's horizons.

        Raises:
            ListError: The published list cannot be read, or is damaged.
        """
        held, seen = dict[bytes, list[Product]](), rows.seen
        for row, credential_id, product in islice(
            TicketSnapshot(connection).sold_after(rows.seen, chain.manifest.horizons), MOST_SALES
        ):
            known = held.get(credential_id) or chain.listed.products(credential_id)
            if all(each.product_id != product.product_id for each in known):
                held[credential_id] = [*known, product]
            seen = row
        for credential_id in [each for each, products in held.items() if len(products) > MAX_PRODUCTS]:
            _LOG.error(
                "a credential holds too many products; gates hear nothing of the last",
                products=len(held.pop(credential_id)),
                at_most=MAX_PRODUCTS,
            )
        return held, seen

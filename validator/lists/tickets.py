"""The tickets of a region as a gate asks for them: a snapshot, and all that was changed since."""

from collections.abc import Sequence

from validator.lists.ticket_delta import Snapshot, parse_ticket_delta
from validator.lists.ticket_overlay import TicketOverlay
from validator.lists.ticket_store import TicketStore
from validator.rights import Product


class Tickets:
    """A snapshot and its overlay; never altered, `with_deltas` makes another one of the same snapshot.

    Attributes:
        store: The snapshot.
        overlay: What was changed since.
    """

    __slots__ = ("overlay", "store")

    def __init__(self, store: TicketStore, overlay: TicketOverlay) -> None:
        """Lay changes over the snapshot that they are changes of; `published_tickets` begins without any."""
        self.store, self.overlay = store, overlay

    @property
    def state_hash(self) -> bytes:
        """Names the snapshot and what was changed since, 32 bytes."""
        return self.overlay.state

    @property
    def published(self) -> "Tickets":
        """The snapshot alone."""
        return Tickets(self.store, TicketOverlay(self.overlay.base)) if len(self.overlay) else self

    def products(self, credential_id: bytes) -> list[Product]:
        """Return what a credential holds, in order of product id.

        Raises:
            ListError: A page of the snapshot cannot be read, or is damaged.
        """
        changed = self.overlay.products(credential_id)
        return self.store.products(credential_id) if changed is None else changed

    def with_deltas(self, deltas: Sequence[bytes], where: object) -> "Tickets":
        """Return the tickets after some deltas (`validator.lists.ticket_delta`), one after the other.

        Raises:
            ListError: One is no delta, is for another snapshot or state, or does not lead where it says.
        """
        overlay = self.overlay
        for delta in deltas:
            overlay = overlay.with_delta(parse_ticket_delta(delta, overlay.base, where))
        return Tickets(self.store, overlay)


def published_tickets(store: TicketStore, version: int, sha256: bytes) -> Tickets:
    """Return the tickets of a snapshot that is in force without changes.

    Args:
        store: The snapshot.
        version: Of the list.
        sha256: Of its payload.
    """
    return Tickets(store, TicketOverlay(Snapshot(version, sha256, store.shapes)))

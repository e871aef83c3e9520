"""How the changes of each kind of list are made, for `backend_sync.announcement`; pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.deny_changes import Stamp, cumulative_change, next_change
from backend_sync.list_changes import cumulative_ticket_change, next_ticket_change
from backend_sync.revocation_word import Word
from validator.lists import changing
from validator.lists.changing import Changing
from validator.lists.deny_change import DenyChange, seal_change
from validator.lists.deny_list import DenyList
from validator.lists.list_change import ListChange, seal_list_change
from validator.lists.tickets import Tickets
from validator.model import Credential
from validator.rights import Product

Listed = TypeVar("Listed", bound=DenyList | Tickets)
Change = TypeVar("Change", bound=DenyChange | ListChange)
Said = TypeVar("Said", bound="_Counted")


class _Counted(Protocol):
    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a change of a deny list is to say.

    Attributes:
        revoked: Who is refused from now on.
        restored: Who is refused no longer.
    """

    revoked: Sequence[Credential] = ()
    restored: Sequence[Credential] = ()

    def __len__(self) -> int:
        """Return how many cards it speaks of."""
        return len(self.revoked) + len(self.restored)


@dataclass(frozen=True, slots=True)
class Telling(Generic[Listed, Change, Said]):
    """How changes of one kind of list are made.

    Attributes:
        changing: The kind, as a gate has it.
        nothing: What an empty change says.
        next: Makes the change after which a list says something else, and the list that comes out.
        cumulative: Makes the one change from a published list to what has come of it.
        seal: Signs a change with a key, under a name.
    """

    changing: Changing[Listed, Change]
    nothing: Said
    next: Callable[[Listed, Said, Stamp], tuple[Change, Listed]]
    cumulative: Callable[[Listed, Listed, Stamp], Change]
    seal: Callable[[Change, Ed25519PrivateKey, str], bytes]


def refusals(published: DenyList, words: Sequence[Word], ended: Collection[bytes] = ()) -> Refusals:
    """Return what words mean for a deny list.

    What was on the published list without having been revoked is there for another reason, and stays.

    Args:
        published: The list without its changes.
        words: What was said of cards.
        ended: Ids of cards that stay refused, whoever gives them back.
    """
    return Refusals(
        [each.credential for each in words if each.revoked],
        [
            each.credential
            for each in words
            if not each.revoked
            and each.credential.id not in ended
            and (each.before or not published.denied(each.credential))
        ],
    )


def _next_denials(listed: DenyList, said: Refusals, stamp: Stamp) -> tuple[DenyChange, DenyList]:
    return next_change(listed, said.revoked, said.restored, stamp)


def _cumulative_tickets(_published: Tickets, listed: Tickets, stamp: Stamp) -> ListChange:
    return cumulative_ticket_change(listed, stamp)


_NOTHING_SOLD: Final[Mapping[bytes, Sequence[Product]]] = {}

DENIALS: Final = Telling(changing.DENIALS, Refusals(), _next_denials, cumulative_change, seal_change)
TICKETS: Final = Telling(changing.TICKETS, _NOTHING_SOLD, next_ticket_change, _cumulative_tickets, seal_list_change)

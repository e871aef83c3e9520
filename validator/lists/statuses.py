"""The statuses of a nation's cards as a gate asks for them: the published list, and all that was changed since."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from validator.list_facts import CardStatus
from validator.lists.errors import ListError
from validator.lists.status_array import STATE_HASH_BYTES, StatusFile
from validator.lists.status_delta import StatusOverlay, parse_status_delta
from validator.model import Credential


class Statuses:
    """A status list and its overlays; never altered, `with_deltas` makes another one of the same file.

    Attributes:
        file: The list.
        overlays: What was changed since, by the id of the issuer's key.
        state_hash: Names what the list says now, 32 bytes.
    """

    __slots__ = ("file", "overlays", "state_hash")

    def __init__(self, file: StatusFile, overlays: Mapping[bytes, StatusOverlay] | None = None) -> None:
        """Begin with a list and no changes, or with those that were made to each of its arrays."""
        self.file = file
        self.overlays = overlays or {issuer: StatusOverlay(array) for issuer, array in file.arrays.items()}
        states = b"".join(self.overlays[issuer].state_hash for issuer in file.arrays)
        self.state_hash = blake2b(states, digest_size=STATE_HASH_BYTES, person=b"pilet-statuses").digest()

    @property
    def published(self) -> "Statuses":
        """The list as it was published."""
        return Statuses(self.file) if any(map(len, self.overlays.values())) else self

    def status(self, credential: Credential) -> CardStatus:
        """Return the status of a card; `UNKNOWN` where its issuer is not on the list or did not number it.

        Raises:
            ListError: The page that it is on cannot be read, or is damaged.
        """
        overlay = self.overlays.get(credential.issuer_id)
        if overlay is None or credential.index is None:
            return CardStatus.UNKNOWN
        return overlay.status(credential.index)

    def with_deltas(self, deltas: Sequence[bytes], where: object) -> "Statuses":
        """Return the statuses after some deltas (`validator.lists.status_delta`), one after the other.

        Raises:
            ListError: One is no delta, is of an issuer who is not on the list, fits another state, or does not lead
                where it says.
        """
        overlays = dict(self.overlays)
        for payload in deltas:
            delta = parse_status_delta(payload, where)
            overlay = overlays.get(delta.issuer)
            if overlay is None:
                raise ListError(where, f"changes cards of the issuer {delta.issuer.hex()}, who has none on the list")
            overlays[delta.issuer] = overlay.with_delta(delta)
        return Statuses(self.file, overlays)

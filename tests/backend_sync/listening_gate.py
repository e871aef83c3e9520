"""A gate that listens: its uplink in the test's loop, and what its validator would say."""

from collections.abc import Callable, Sequence
from pathlib import Path

from backend_sync import uplink
from backend_sync.change_follower import followers_of
from backend_sync.list_follower import ListFollower
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW
from tests.backend_sync.depot import Depot
from tests.backend_sync.gate import GateJournal
from tests.backend_sync.list_device import ListDevice
from tests.backend_sync.list_office import ListOffice
from validator.model import Credential


class Gate:
    """A device whose uplink runs in this loop, and what its validator would say."""

    def __init__(
        self,
        folder: Path,
        office: ListOffice,
        carrier: MosquittoCarrier,
        name: str = "gate-1",
        passengers: Sequence[bytes] = (),
    ) -> None:
        root = (office.documents / "1.root.json").read_bytes()
        self.device = ListDevice(folder / "device", root, name, passengers)
        self.depot = Depot(folder, carrier, GateJournal(self.device.device))
        self.lists = self.device.gate()

    def uplink(self) -> uplink.UplinkOptions:
        installer = self.device.installer
        follower = ListFollower(
            installer=installer,
            changes=followers_of(self.device.lists, "north", installer.keys, lambda: NOW),
            now_s=lambda: NOW,
            answer_s=0.3,
            retry_s=0.2,
        )
        return self.depot.uplink_options(lists=follower)

    def refuses(self, *cards: Credential) -> Callable[[], bool]:
        def ask() -> bool:
            if self.lists.changed() or self.device.publishers.changed():
                self.lists = self.device.gate(self.lists)
            return [self.lists.denied(each) for each in cards] == [True] * len(cards)

        return ask

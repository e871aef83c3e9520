"""A gate for tests: real signed and chained entries, in memory."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from backend_sync.admission import Arrival, SignedEntry, admit_entry
from backend_sync.ledger import Ledger
from validator import entry as journal_entry
from validator.entry import GENESIS, Entry
from validator.envelope import Purpose, seal
from validator.list_facts import ListVersions
from validator.model import Assurance, ClockConfidence, Instant, Outcome, Reason, Tap
from validator.rights import Product, ProductKind

CREDENTIAL = bytes(range(16))
DAWN_MS = 1_760_000_000_000


def key_of(name: str) -> Ed25519PrivateKey:
    """The same name gives the same key, so that a failing example stays the same."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def a_tap(number: int = 1, *, granted: bool = True, product: int | None = None, rides: int = 0, amount: int = 0) -> Tap:
    return Tap(
        at=Instant(DAWN_MS + number * 1000, number * 1000, b"bootboot", ClockConfidence.NTP),
        place="Balti jaam",
        gate="lane-1",
        outcome=Outcome.GRANT if granted else Outcome.DENY,
        reason=Reason.VALID if granted else Reason.NO_TICKET,
        graced=False,
        versions=ListVersions(1, 2, 3),
        credential_id=CREDENTIAL,
        profile="piv",
        assurance=Assurance.CHIP,
        cached=True,
        product_id=product,
        rides=rides,
        amount=amount,
    )


class GateJournal:
    """One life of one device's journal; what `backend_sync.uplink.Journal` asks for, and what tests want to know."""

    def __init__(self, device: str = "gate-1", epoch: int = 7) -> None:
        self.device = device
        self.epoch = epoch
        self.key = key_of(device)
        self.envelopes: list[bytes] = []
        self._last = GENESIS

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self.key.public_key()

    def append(self, tap: Tap) -> int:
        payload = journal_entry.encode(Entry(self.device, self.epoch, len(self.envelopes) + 1, self._last, tap))
        self._last = journal_entry.digest(payload)
        self.envelopes.append(seal(self.key, self.device, Purpose.TAP, payload))
        return len(self.envelopes)

    def fill(self, count: int) -> "GateJournal":
        for number in range(count):
            self.append(a_tap(number + 1))
        return self

    def head(self) -> int:
        return len(self.envelopes)

    def entries_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        return [(seq + 1 + n, envelope) for n, envelope in enumerate(self.envelopes[seq : seq + limit])]

    def close(self) -> None:
        """Nothing is open."""

    def signed(self, seq: int) -> SignedEntry:
        verdict = admit_entry(self.envelopes[seq - 1], self.device, self.epoch, self.public_key)
        assert isinstance(verdict, SignedEntry)
        return verdict

    def arrival(self, *seqs: int) -> Arrival:
        return Arrival(self.device, self.epoch, self.head(), tuple(self.signed(seq) for seq in seqs))


def a_ledger(*journals: GateJournal) -> Ledger:
    """A ledger in memory that knows these devices."""
    ledger = Ledger.open("sqlite://")
    for journal in journals:
        ledger.register_device(journal.device, journal.public_key)
    return ledger


def carnet(product_id: int, rides: int) -> Product:
    return Product(product_id, ProductKind.CARNET, 0, 2**40, 0, rides=rides)


def purse(product_id: int, balance: int, fare: int = 150) -> Product:
    return Product(product_id, ProductKind.STORED_VALUE, 0, 2**40, 0, balance=balance, fare=fare)


def month(product_id: int) -> Product:
    return Product(product_id, ProductKind.PERIOD_PASS, 0, 2**40, 0, places=frozenset({"Balti jaam", "Viru"}))

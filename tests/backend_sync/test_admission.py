from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from backend_sync import wire
from backend_sync.admission import Admission, Arrival, Refused, admit
from backend_sync.wire import TapBatch
from tests.backend_sync.gate import GateJournal, a_tap, key_of
from validator import entry as journal_entry
from validator.entry import GENESIS, Entry
from validator.envelope import Purpose, seal
from validator.lists.product_rules import MAX_AMOUNT
from validator.model import Tap

JOURNAL = GateJournal().fill(3)
TOPIC = wire.tap_up("gate-1")


def the_key(device: str) -> Ed25519PublicKey | None:
    return JOURNAL.public_key if device == "gate-1" else None


def judged(*envelopes: bytes, topic: str = TOPIC, device: str = "gate-1", epoch: int = 7, head: int = 3) -> Admission:
    batch = TapBatch(device=device, epoch=epoch, head=head, entries=list(envelopes))
    return admit(topic, wire.encode(batch), the_key)


def sealed(entry: Entry, signer: str = "gate-1", purpose: Purpose = Purpose.TAP) -> bytes:
    return seal(key_of("gate-1"), signer, purpose, journal_entry.encode(entry))


def an_entry(device: str = "gate-1", epoch: int = 7, seq: int = 1, tap: Tap | None = None) -> Entry:
    return Entry(device, epoch, seq, GENESIS, tap or a_tap())


def test_a_good_batch_is_admitted_whole() -> None:
    verdict = judged(*JOURNAL.envelopes, head=10)
    assert verdict.arrival is not None
    assert [signed.entry.seq for signed in verdict.arrival.entries] == [1, 2, 3]
    assert [signed.envelope for signed in verdict.arrival.entries] == JOURNAL.envelopes
    assert verdict.arrival.head == 10
    assert verdict.rejections == ()


def test_a_head_behind_its_own_entries_is_not_believed() -> None:
    verdict = judged(*JOURNAL.envelopes, head=1)
    assert verdict.arrival is not None
    assert verdict.arrival.head == 3


@pytest.mark.parametrize(
    ("reason", "judge"),
    [
        (Refused.TOPIC, lambda: judged(JOURNAL.envelopes[0], topic="pilet/1/tap/up")),
        (Refused.MESSAGE, lambda: admit(TOPIC, b"\xc1", the_key)),
        (Refused.WRONG_DEVICE, lambda: judged(JOURNAL.envelopes[0], device="gate-2")),
        (Refused.UNKNOWN_DEVICE, lambda: judged(JOURNAL.envelopes[0], topic=wire.tap_up("gate-2"), device="gate-2")),
        (Refused.ENVELOPE, lambda: judged(b"nonsense")),
        (Refused.SIGNER, lambda: judged(sealed(an_entry(), signer="gate-2"))),
        (Refused.SIGNER, lambda: judged(sealed(an_entry(), purpose=Purpose.ACK))),
        (Refused.SIGNATURE, lambda: judged(JOURNAL.envelopes[0][:-1] + bytes([JOURNAL.envelopes[0][-1] ^ 1]))),
        (Refused.ENTRY, lambda: judged(seal(key_of("gate-1"), "gate-1", Purpose.TAP, b"no entry"))),
        (Refused.ENTRY_DEVICE, lambda: judged(sealed(an_entry(device="gate-2")))),
        (Refused.ENTRY_EPOCH, lambda: judged(sealed(an_entry(epoch=8)))),
        (Refused.ENTRY, lambda: judged(sealed(an_entry(seq=2**63)))),
        (Refused.ENTRY_RANGE, lambda: judged(sealed(an_entry(tap=a_tap(amount=MAX_AMOUNT + 1))))),
        (Refused.ENTRY_RANGE, lambda: judged(sealed(an_entry(tap=a_tap(rides=MAX_AMOUNT + 1))))),
        (Refused.ENTRY, lambda: judged(sealed(an_entry(tap=a_tap(product=2**63))))),
        (Refused.ENTRY_RANGE, lambda: judged(sealed(an_entry(tap=replace(a_tap(), place="Viru\0"))))),
    ],
)
def test_each_fault_has_its_own_reason(reason: Refused, judge: Callable[[], Admission]) -> None:
    verdict = judge()
    assert verdict.arrival is None or verdict.arrival.entries == ()
    assert [rejection.reason for rejection in verdict.rejections] == [reason]


def test_of_a_batch_that_is_refused_entry_by_entry_the_head_stays() -> None:
    verdict = judged(b"nonsense", b"more", head=30)
    assert verdict.arrival == Arrival("gate-1", 7, 30, ())
    assert len(verdict.rejections) == 2


def test_a_bad_entry_does_not_condemn_its_neighbours() -> None:
    verdict = judged(JOURNAL.envelopes[0], b"nonsense", JOURNAL.envelopes[2])
    assert verdict.arrival is not None
    assert [signed.entry.seq for signed in verdict.arrival.entries] == [1, 3]
    assert [(one.source, one.reason, one.size) for one in verdict.rejections] == [("gate-1", Refused.ENVELOPE, 8)]


@given(topic=st.sampled_from([TOPIC, wire.tap_up("gate-2"), "x"]) | st.text(), payload=st.binary(max_size=300))
def test_any_bytes_are_refused_and_never_fatal(topic: str, payload: bytes) -> None:
    verdict = admit(topic, payload, the_key)
    assert verdict.arrival is None
    assert len(verdict.rejections) == 1


@given(st.data())
def test_a_flipped_bit_never_changes_what_is_admitted(data: st.DataObject) -> None:
    payload = bytearray(wire.encode(TapBatch(device="gate-1", epoch=7, head=3, entries=JOURNAL.envelopes)))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    verdict = admit(TOPIC, bytes(payload), the_key)
    if verdict.arrival is not None:
        genuine = {JOURNAL.signed(seq).digest for seq in (1, 2, 3)}
        assert {signed.digest for signed in verdict.arrival.entries} <= genuine

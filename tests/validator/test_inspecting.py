"""What an inspector is told: what a gate here would do that takes any rung, the rung, and nothing about the person."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import NOW, seconds
from tests.validator.judging import instant
from validator.conditions import Conditions
from validator.decision import GRANTING
from validator.dialogue import Traffic
from validator.families import FAMILIES, NATIONAL_FAMILIES
from validator.inspecting import RUNGS, Inspection, inspect
from validator.lists.gate_rules import GateRules, StalePolicy, policies
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind, Manifest
from validator.lists.ticket_store import TicketStore, write_ticket_store
from validator.lists.tickets import published_tickets
from validator.model import Assurance, DocumentType, Identity, Reason, Refusal, Scheme
from validator.proof import BareKey, Certificate, EnrolledUnder, IdCertificate, Shown
from validator.reading import Reading
from validator.rights import Product, ProductKind, Use
from validator.trust_store import TrustStore

NOW_S, HOUR = seconds(NOW), 3600
SOMEBODY, SOMEBODY_ELSE = bytes(range(16)), bytes(16)
PLACE = "market-square"
GRACE = policies(StalePolicy(HOUR), StalePolicy(HOUR), StalePolicy(HOUR))
PASS = Product(1, ProductKind.PERIOD_PASS, NOW_S - HOUR, NOW_S + HOUR, NOW_S - HOUR)
KINDS = (ListKind.TRUST, ListKind.DENY, ListKind.TICKETS)


def manifest(kind: ListKind, not_after_s: int) -> Manifest:
    return Manifest(kind, "north", 1, NOW_S - HOUR, not_after_s, bytes(32), 0, {})


@dataclass
class Device:
    """An inspector's device: what its ticket list says, and until when each list is good."""

    folder: Path
    products: list[Product] = field(default_factory=lambda: [PASS])
    ends: dict[ListKind, int | None] = field(default_factory=lambda: dict.fromkeys(KINDS, NOW_S + HOUR))
    rules: GateRules | None = None

    def lists(self) -> InstalledLists:
        payload = self.folder / "tickets"
        payload.unlink(missing_ok=True)
        write_ticket_store(payload, [(SOMEBODY, product) for product in self.products])
        manifests = {kind: manifest(kind, end) for kind, end in self.ends.items() if end is not None}
        return InstalledLists(
            self.folder,
            TrustStore(1, []),
            None,
            published_tickets(TicketStore(payload), 1, bytes(32)),
            manifests,
            faults_by_kind={},
            pointers={},
            rules=self.rules,
        )

    def inspect(self, who: Identity | Refusal, shown: Shown | None = None) -> Inspection:
        found = Reading(
            who.profile, None, None, "", None, False, Traffic(), 0.0, 0.0, None, who, shown
        )  # fmt: skip
        return inspect(found, self.lists(), GRACE, PLACE, instant())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def somebody(
    assurance: Assurance = Assurance.CHIP, profile: str = "piv", document: DocumentType | None = None
) -> Identity:
    return Identity(SOMEBODY, profile, assurance, None, cached=False, document=document)


def resident(assurance: Assurance) -> Identity:
    return somebody(assurance, "esteid2018", DocumentType.CITIZEN)


E_RESIDENT = somebody(Assurance.SHARED_SECRET, "esteid2018", DocumentType.E_RESIDENT)
CONCESSION = replace(PASS, residents_only=True)


class TestRungs:
    @pytest.mark.parametrize("assurance", Assurance)
    def test_an_inspector_takes_every_rung_and_is_told_which(self, device: Device, assurance: Assurance) -> None:
        found = device.inspect(resident(assurance))
        told = found.to_dict()
        assert (told["valid"], told["reason"], told["assurance"]) == (True, "VALID", assurance.name)
        assert found.compare_photo is told["compare_photo"] is (assurance is not Assurance.HOLDER)

    def test_every_rung_has_words(self) -> None:
        assert set(RUNGS) == set(Assurance)

    @pytest.mark.parametrize("profile", FAMILIES)
    def test_a_photo_is_compared_where_there_is_one(self, device: Device, profile: str) -> None:
        document = DocumentType.UNKNOWN if profile == "emrtd" else None
        found = device.inspect(somebody(Assurance.CHIP, profile, document))
        assert found.compare_photo is (profile in NATIONAL_FAMILIES)

    def test_there_is_no_photo_of_a_card_that_was_refused(self, device: Device) -> None:
        found = device.inspect(Refusal(Reason.WRONG_CAN, "esteid2018"))
        assert not found.compare_photo


DAY_TICKET = replace(PASS, product_id=2, valid_until=NOW_S - 1)
CARNET = Product(3, ProductKind.CARNET, NOW_S - HOUR, NOW_S + HOUR, NOW_S - HOUR, rides=0)
PURSE = Product(4, ProductKind.STORED_VALUE, NOW_S - HOUR, NOW_S + HOUR, NOW_S - HOUR, balance=90, fare=100)
TICKETS: Mapping[str, tuple[list[Product], Identity, Reason]] = {
    "a pass": ([PASS], somebody(), Reason.VALID),
    "nothing": ([], somebody(), Reason.NO_TICKET),
    "a pass that is over": ([DAY_TICKET], somebody(), Reason.TICKET_EXPIRED),
    "a pass of tomorrow": ([replace(PASS, valid_from=NOW_S + 60)], somebody(), Reason.TICKET_NOT_YET_VALID),
    "a pass for elsewhere": ([replace(PASS, places=frozenset({"harbour"}))], somebody(), Reason.NOT_VALID_HERE),
    "a pass for here": ([replace(PASS, places=frozenset({PLACE}))], somebody(), Reason.VALID),
    "no rides": ([CARNET], somebody(), Reason.RIDES_USED_UP),
    "a ride": ([replace(CARNET, rides=1)], somebody(), Reason.VALID),
    "too little money": ([PURSE], somebody(), Reason.BALANCE_TOO_LOW),
    "an old one and a good one": ([DAY_TICKET, PASS], somebody(), Reason.VALID),
    "a concession, a resident's card": ([CONCESSION], resident(Assurance.SHARED_SECRET), Reason.VALID),
    "a concession, an e-resident's card": ([CONCESSION], E_RESIDENT, Reason.RESIDENTS_ONLY),
    "a concession and a pass, an e-resident's card": (
        [CONCESSION, replace(PASS, product_id=2)],
        E_RESIDENT,
        Reason.VALID,
    ),
    "a concession, an operator's card": ([CONCESSION], somebody(), Reason.VALID),
    "a pass for a proved holder, whose photo is looked at": (
        [replace(PASS, least_assurance=Assurance.HOLDER)],
        resident(Assurance.SHARED_SECRET),
        Reason.VALID,
    ),
}


@pytest.mark.parametrize("kind", TICKETS)
def test_what_the_ticket_is_worth_here(device: Device, kind: str) -> None:
    device.products, who, reason = TICKETS[kind]
    found = device.inspect(who)
    assert found.verdict.reason is reason
    assert found.verdict.granted is (reason is Reason.VALID)
    assert len(found.to_dict()["tickets"]) == len(device.products), "what did not fit is shown as well"


def test_somebody_elses_ticket_is_not_shown(device: Device) -> None:
    found = device.inspect(replace(somebody(), credential_id=SOMEBODY_ELSE))
    assert (found.verdict.reason, found.held) == (Reason.NO_TICKET, ())


STALE = {
    ListKind.TRUST: Reason.TRUST_LIST_STALE,
    ListKind.DENY: Reason.DENY_LIST_STALE,
    ListKind.TICKETS: Reason.TICKET_LIST_STALE,
}


class TestLists:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("end", [NOW_S - HOUR - 1, None], ids=["past its grace", "missing"])
    def test_a_list_that_cannot_be_used_makes_nothing_valid(
        self, device: Device, kind: ListKind, end: int | None
    ) -> None:
        device.ends[kind] = end
        found = device.inspect(somebody())
        assert (found.verdict.granted, found.verdict.reason) == (False, STALE[kind])

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_within_its_grace_is_marked(self, device: Device, kind: ListKind) -> None:
        assert device.inspect(somebody()).to_dict()["graced"] is False
        device.ends[kind] = NOW_S - HOUR
        told = device.inspect(somebody()).to_dict()
        assert (told["valid"], told["graced"]) == (True, True)

    @pytest.mark.parametrize(("limit", "granted"), [(119, False), (120, True), (None, True)])
    def test_past_its_date_a_list_lets_a_ride_cost_what_the_signed_configuration_says(
        self, device: Device, limit: int | None, *, granted: bool
    ) -> None:
        device.products = [replace(PURSE, balance=500, fare=120)]
        device.rules = GateRules({ListKind.DENY: StalePolicy(HOUR, value_limit=limit)})
        assert device.inspect(somebody()).verdict.granted
        device.ends[ListKind.DENY] = NOW_S - 1
        verdict = device.inspect(somebody()).verdict
        assert (verdict.granted, verdict.reason is Reason.DENY_LIST_STALE) == (granted, not granted)
        device.products = [PASS]
        assert device.inspect(somebody()).verdict.granted, "a pass costs nothing more"

    @pytest.mark.parametrize("shown", [BareKey(b""), EnrolledUnder("mynumber-surface", b"4AB00000000017")])
    @pytest.mark.parametrize("end", [NOW_S - HOUR - 1, None])
    def test_a_key_that_was_enrolled_is_as_good_as_the_list_of_them(
        self, device: Device, shown: Shown, end: int | None
    ) -> None:
        device.ends[ListKind.ENROLLED] = NOW_S + HOUR
        assert device.inspect(somebody(), shown).verdict.granted
        device.ends[ListKind.ENROLLED] = end
        assert device.inspect(somebody(), shown).verdict.reason is Reason.TRUST_LIST_STALE
        assert device.inspect(somebody(), Certificate(b"")).verdict.granted


@pytest.mark.parametrize("reason", sorted(set(Reason) - GRANTING))
def test_a_card_that_was_refused_is_told_why_and_has_no_ticket(device: Device, reason: Reason) -> None:
    told = device.inspect(Refusal(reason, "esteid2018", SOMEBODY)).to_dict()
    assert (told["valid"], told["reason"]) == (False, reason.name)
    assert (told["assurance"], told["tickets"]) == (None, [])


@given(
    assurance=st.sampled_from(Assurance),
    profile=st.sampled_from(list(FAMILIES)),
    document=st.none() | st.sampled_from(DocumentType),
    name=st.binary(min_size=8, max_size=64),
)
def test_nothing_that_names_the_person_or_the_card_is_told(
    tmp_path_factory: pytest.TempPathFactory,
    assurance: Assurance,
    profile: str,
    document: DocumentType | None,
    name: bytes,
) -> None:
    device = Device(tmp_path_factory.mktemp("device", numbered=True))
    shown = IdCertificate(Scheme.ESTONIA, b"certificate of " + name)
    told = device.inspect(somebody(assurance, profile, document), shown).to_dict()
    assert set(told) == {
        "event",
        "valid",
        "reason",
        "graced",
        "profile",
        "assurance",
        "compare_photo",
        "tickets",
        "rights",
        "taps",
    }
    assert set(told["tickets"][0]) == {
        *("kind", "scheme", "state", "valid_from", "valid_until", "places", "zones", "networks", "time_frames"),
        *("rider", "riders", "proof_until", "rides", "balance", "floor"),
    }
    assert SOMEBODY.hex() not in repr(told)


class TestHeld:
    def test_rights_of_other_schemes_are_shown_and_open_nothing(self, device: Device) -> None:
        library = replace(PASS, product_id=2, conditions=Conditions(scheme="library", proof_until=NOW_S))
        device.products = [library]
        told = device.inspect(somebody()).to_dict()
        assert (told["valid"], told["reason"], told["tickets"]) == (False, "NO_TICKET", [])
        assert [(right["scheme"], right["state"]) for right in told["rights"]] == [("library", "PROOF_ENDED")]

    @pytest.mark.parametrize(
        ("product", "state"),
        [
            (PASS, Reason.VALID),
            (replace(PASS, conditions=Conditions(zones=frozenset("A"))), Reason.NOT_VALID_HERE),
            (replace(PASS, valid_until=NOW_S), Reason.TICKET_EXPIRED),
            (
                replace(PASS, kind=ProductKind.PAY_AS_YOU_GO, fare=300, conditions=Conditions(floor=500)),
                Reason.FIRST_RIDE,
            ),
        ],
    )
    def test_each_ticket_says_why_it_is_not_good(self, device: Device, product: Product, state: Reason) -> None:
        device.products = [product, replace(PASS, product_id=9)]
        found = device.inspect(somebody())
        assert found.held[0].state is state
        assert found.verdict.granted, "the other is good"
        assert found.to_dict()["tickets"][0]["zones"] == sorted(product.conditions.zones)

    def test_the_last_rides_here_are_told_newest_first(self, device: Device) -> None:
        uses = [Use(seq, 1, NOW_S * 1000, 0, b"one-boot", PLACE, 0, 0, True, None) for seq in (3, 9, 1, 4, 7, 8)]
        found = Reading("piv", None, None, "", None, False, Traffic(), 0.0, 0.0, None, somebody(), None)  # fmt: skip
        told = inspect(found, device.lists(), GRACE, PLACE, instant(), uses=uses)
        assert [tap["seq"] for tap in told.to_dict()["taps"]] == [9, 8, 7, 4, 3]

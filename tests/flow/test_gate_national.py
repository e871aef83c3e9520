"""National identity cards at a gate, which nobody tells a number or a PIN, and before an inspector, who is told one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from backend_sync.demo.depot import FRESH_S, PLACE, REGION
from backend_sync.publisher import Dates
from hardware.gate import Signal
from hardware.medium import Technology
from hardware.virtual.chip import Chip
from tests.flow.lane import HOUR_S, Lane, open_lane
from tests.flow.national_cards import estonia, estonian, held, japanese, spanish
from tests.validator import mynumber_cards
from tests.validator.authority import card_key
from tests.validator.dual_interface_cards import CAN, IDEMIA, THALES, WRONG_CAN, Kind
from tests.validator.estonian_cards import chip_of
from tests.validator.travel_documents import bare, with_mapping
from validator import config as gate_file
from validator.certificates import credential_id, spki_of, token_id
from validator.lists import installed
from validator.model import Assurance, KeyAlgorithm, Reason, Scheme
from validator.profiles import dnie, emrtd, esteid3, esteid2018, esteid2025, jpki, mynumber_surface, piv
from validator.rights import Product, ProductKind
from validator.station import HOLD_OFF_S

ESTONIAN = credential_id(spki_of(card_key(KeyAlgorithm.P384).public_key()))
JAPANESE = credential_id(spki_of(mynumber_cards.CARD().public_key()))
SURFACE = credential_id(spki_of(mynumber_cards.SURFACE().public_key()))


@asynccontextmanager
async def lane_of(
    folder: Path, families: Iterable[str], *, sold_to: Iterable[bytes], residents_only: bool = False
) -> AsyncIterator[Lane]:
    """A lane that takes national cards, whose holders have bought a pass, and PIV cards beside them."""
    async with open_lane(folder, families=[*families, piv.NAME]) as lane:
        start = int(lane.now.timestamp()) - HOUR_S
        lane.depot.sell(
            [
                (
                    credential,
                    Product(
                        number,
                        ProductKind.PERIOD_PASS,
                        valid_from=start,
                        valid_until=start + 24 * HOUR_S,
                        active_from=start,
                        places=frozenset({PLACE}),
                        residents_only=residents_only,
                    ),
                )
                for number, credential in enumerate(sold_to, 100)
            ],
            lane.now,
        )
        lane.publish()
        publish_nations(lane)
        yield lane


def publish_nations(lane: Lane) -> None:
    """Put the issuers of national cards on the trust list, and the surface key among the enrolled."""
    dates = Dates(int(lane.now.timestamp()), int(lane.now.timestamp()) + FRESH_S)
    files = {}
    for scheme, certificate in (
        (Scheme.ESTONIA, estonia().certificate),
        (Scheme.JAPAN, mynumber_cards.generation(2).certificate),
    ):
        files[scheme] = [lane.depot.folder / f"{scheme.value}.pem"]
        files[scheme][0].write_bytes(certificate.public_bytes(Encoding.PEM))
    lane.depot.publisher.trust([lane.depot.folder / "issuer-0.pem"], [], dates, national=files)
    name = token_id(mynumber_surface.NAME, mynumber_cards.IDENTIFICATION)
    lane.depot.publisher.enrolled([], dates, named=[(name, spki_of(mynumber_cards.SURFACE().public_key()))])
    lane.depot.install()
    keys = gate_file.load(lane.depot.gate_toml).publisher_keys()
    lane.station.adopt(installed.load(lane.depot.state / "lists", keys, REGION, lane.station.lists))


AT_A_GATE: list[tuple[str, Callable[[], Chip], str, Reason, Assurance | None]] = [
    ("ID-card of 2018", partial(estonian, IDEMIA), esteid2018.NAME, Reason.CAN_NEEDED, None),
    ("ID-card of 2025", partial(estonian, THALES), esteid2025.NAME, Reason.CAN_NEEDED, None),
    ("DNIe", spanish, dnie.NAME, Reason.CAN_NEEDED, None),
    ("document that offers a DNIe's suite", lambda: bare().chip(), emrtd.NAME, Reason.CAN_NEEDED, None),
    ("document", lambda: with_mapping().chip(), emrtd.NAME, Reason.CAN_NEEDED, None),
    ("MyNumber card", japanese, jpki.NAME, Reason.LINK_AT_DESK, Assurance.CLAIMED),
]
CLAIMING = [esteid2018.NAME, esteid2025.NAME, jpki.NAME, dnie.NAME, emrtd.NAME]


def last_said(lane: Lane) -> Signal:
    """What the passenger was shown last; on a slow machine the lamp may be ready again by now."""
    return next(signal for signal in reversed(lane.gate.shown) if signal is not Signal.READY)


async def test_a_card_that_can_only_claim_is_sent_to_a_desk_and_the_next_one_rides(tmp_path: Path) -> None:
    """A pass was sold for each of these credentials, so that nothing but the missing proof stands in the way."""
    async with lane_of(tmp_path / "lane", CLAIMING, sold_to=[ESTONIAN, JAPANESE]) as lane:
        for name, make, profile, reason, assurance in AT_A_GATE:
            technology = Technology.TYPE_B if profile == jpki.NAME else Technology.TYPE_A
            refused = (await lane.tap(make(), technology)).tap
            assert (refused.reason, refused.profile, refused.assurance) == (reason, profile, assurance), name
            assert refused.credential_id is None, "nothing is recorded against whom a copy could claim to be"
            assert (last_said(lane), refused.product_id) == (Signal.DENY, None), name
            next_one = lane.card()
            lane.sell(next_one)
            lane.publish()
            publish_nations(lane)
            served = (await lane.present(next_one)).tap
            assert (served.reason, served.profile) == (Reason.VALID, piv.NAME), f"after a {name}"
            assert last_said(lane) is Signal.GRANT


async def test_a_card_of_the_generations_before_is_no_medium_of_an_air(tmp_path: Path) -> None:
    async with lane_of(tmp_path / "lane", [esteid3.NAME, *CLAIMING], sold_to=[]) as lane:
        tap = (await lane.tap(chip_of(estonia()))).tap
        assert (tap.reason, tap.profile) == (Reason.UNKNOWN_MEDIUM, None)


async def test_an_enrolled_card_opens_and_its_clone_and_a_stranger_do_not(tmp_path: Path) -> None:
    families = [mynumber_surface.NAME, jpki.NAME]
    taps: list[tuple[Callable[[], Chip], Reason]] = [
        (japanese, Reason.VALID),
        (lambda: japanese(surface_key=mynumber_cards.STRANGER()), Reason.WRONG_SIGNATURE),
        (lambda: japanese(identification=b"4AB00000000018"), Reason.NOT_ENROLLED),
        (japanese, Reason.VALID),
    ]
    async with lane_of(tmp_path / "lane", families, sold_to=[SURFACE]) as lane:
        for make, reason in taps:
            tap = (await lane.tap(make(), Technology.TYPE_B)).tap
            assert (tap.reason, tap.profile) == (reason, mynumber_surface.NAME)
            assert (tap.assurance is Assurance.CHIP) == (last_said(lane) is Signal.GRANT) == (reason is Reason.VALID)
            assert tap.credential_id == (SURFACE if reason is Reason.VALID else None)


TORN: list[tuple[str, Callable[[], Chip], Technology]] = [
    (esteid2018.NAME, partial(estonian, IDEMIA), Technology.TYPE_A),
    (jpki.NAME, japanese, Technology.TYPE_B),
]


@pytest.mark.parametrize(("family", "make", "technology"), TORN, ids=[family for family, *_ in TORN])
async def test_a_card_that_was_torn_away_is_asked_again(
    tmp_path: Path, family: str, make: Callable[[], Chip], technology: Technology
) -> None:
    """No card of these is taken for a lesser one because it left early."""
    async with lane_of(tmp_path / "lane", [family], sold_to=[]) as lane:
        whole = (await lane.tap(make(), technology)).traffic.apdus
        assert whole
        for answered in range(whole):
            await asyncio.sleep(2 * HOLD_OFF_S)  # back sooner, it would count as never having left
            tap = (await lane.tap(make(), technology, tear_after=answered)).tap
            assert tap.reason is Reason.PRESENT_AGAIN, answered
        assert Signal.GRANT not in lane.gate.shown


@dataclass(frozen=True)
class Inspected:
    """One look of an inspector.

    Attributes:
        document: The certificate policy's last number.
        concession: Whether the pass is for residents.
        told: The number that the holder told.
        said: Whether the ticket holds, why, and how far the card was proved.
    """

    name: str
    document: dict[str, int]
    concession: bool
    told: str | None
    said: tuple[bool, str, str | None]


CITIZEN, E_RESIDENT = {IDEMIA.name: 1, THALES.name: 1}, {IDEMIA.name: 4, THALES.name: 6}
LOOKS = [
    Inspected("an e-resident's concession", E_RESIDENT, True, CAN, (False, "RESIDENTS_ONLY", "SHARED_SECRET")),
    Inspected("an e-resident's pass", E_RESIDENT, False, CAN, (True, "VALID", "SHARED_SECRET")),
    Inspected("a citizen's concession", CITIZEN, True, CAN, (True, "VALID", "SHARED_SECRET")),
    Inspected("no number", CITIZEN, True, None, (False, "CAN_NEEDED", None)),
    Inspected("a wrong number", CITIZEN, True, WRONG_CAN, (False, "WRONG_CAN", None)),
]


@pytest.mark.parametrize("kind", [IDEMIA, THALES], ids=lambda kind: kind.name)
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
async def test_an_inspector_is_told_whether_the_ticket_holds_for_this_holder(
    tmp_path: Path, kind: Kind, look: Inspected
) -> None:
    policy = f"{kind.policy.rpartition('.')[0]}.{look.document[kind.name]}"
    card = estonian(kind, certificate=kind.certificate(estonia(), policy=policy))
    async with lane_of(tmp_path / "lane", CLAIMING, sold_to=[ESTONIAN], residents_only=look.concession) as lane:
        config = lane.depot.gate_toml
    numbers = [] if look.told is None else ["--can", look.told]
    found = await held(card, Technology.TYPE_A, "inspect", "--config", str(config), *numbers)
    assert (found["valid"], found["reason"], found["assurance"]) == look.said
    believed = found["assurance"] is not None
    assert (found["compare_photo"], len(found["tickets"])) == (believed, believed)

"""The publisher: what it publishes a gate installs, and what no gate could install it does not publish."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.clubcard_builder import build
from backend_sync.publisher import Dates, InputMissing, Publisher, PublishError, create_key, write_public_key
from backend_sync.ribbon_builder import Ids
from tests.backend_sync.test_deny_changes import ids_of
from tests.validator.authority import FOR_CARDS, Authority
from validator.key_loading import load_private_key
from validator.list_facts import ListVersions
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_list import encode_deny_list, register_block
from validator.lists.directory import install
from validator.lists.gate_rules import KEEP, GateRules, StalePolicy
from validator.lists.installed import load
from validator.lists.manifest import ListKind
from validator.model import Credential
from validator.rights import Product, ProductKind

DATES = Dates(issued_s=1_790_000_000, not_after_s=1_790_086_400)
CARD = bytes(range(16))
PURSE = Product(9, ProductKind.STORED_VALUE, 0, 2_000_000_000, 0, balance=500, fare=120, places=frozenset({"north"}))
RULES = GateRules({ListKind.DENY: StalePolicy(3600, 250), ListKind.TRUST: KEEP})


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "published", "office", create_key(tmp_path / "key.pem"), "north")


@pytest.fixture
def root() -> Authority:
    return Authority.root()


def pem_file(folder: Path, *authorities: Authority) -> Path:
    path = folder / "issuers.pem"
    path.write_bytes(b"".join(one.certificate.public_bytes(Encoding.PEM) for one in authorities))
    return path


def test_a_gate_installs_what_was_published(tmp_path: Path, publisher: Publisher, root: Authority) -> None:
    middle = root.subordinate("Middle")
    der = tmp_path / "middle.der"
    der.write_bytes(middle.certificate.public_bytes(Encoding.DER))
    told: list[int] = []
    published = [
        publisher.trust([pem_file(tmp_path, root, Authority.root("Another"))], [der], DATES),
        publisher.deny([CARD, bytes(16), CARD], DATES),
        publisher.tickets([(CARD, PURSE)], {"gate-1": (2, 71)}, DATES, told.append),
        publisher.config(RULES, DATES),
    ]
    keys = {"office": publisher.key.public_key()}
    for one in published:
        manifest = install(tmp_path / "gate", one.manifest_path.read_bytes(), one.payload_path, keys, region="north")
        assert manifest == one.manifest
        assert (manifest.region, manifest.issued_s, manifest.not_after_s) == ("north", 1_790_000_000, 1_790_086_400)
    lists = load(tmp_path / "gate", keys, "north")
    assert (lists.versions, lists.faults) == (ListVersions(1, 1, 1), ())
    assert lists.denied(Credential(CARD))
    assert lists.products(CARD) == [PURSE]
    assert lists.horizon("gate-1") == (2, 71)
    assert told == [1]
    assert lists.rules == RULES
    assert [one.entries for one in published] == [3, 2, 1, 2]


def test_versions_count_up_for_each_kind_and_the_old_ones_stay(publisher: Publisher) -> None:
    assert [publisher.deny([], DATES).manifest.version for _ in range(3)] == [1, 2, 3]
    assert publisher.tickets([], {}, DATES).manifest.version == 1
    later = dataclasses.replace(publisher)
    assert later.deny([], DATES).manifest_path == publisher.out / "deny" / "4" / "manifest"
    assert sorted(path.name for path in (publisher.out / "deny").iterdir()) == ["1", "2", "3", "4"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.sets(st.binary(min_size=16, max_size=16), max_size=40))
def test_every_deny_list_is_installable(publisher: Publisher, tmp_path: Path, ids: set[bytes]) -> None:
    one = publisher.deny(ids, DATES)
    keys = {"office": publisher.key.public_key()}
    install(tmp_path / "gate", one.manifest_path.read_bytes(), one.payload_path, keys)
    lists = load(tmp_path / "gate", keys, "north")
    assert lists.deny is not None
    assert len(lists.deny) == len(ids)
    assert all(lists.denied(Credential(credential)) for credential in ids)


NUMBERED = st.dictionaries(
    st.sampled_from([b"a first issuer..", b"a second issuer."]), st.sets(st.integers(0, 99), max_size=20)
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sets(st.binary(min_size=16, max_size=16), max_size=9),
    numbers=NUMBERED,
    revoked=st.sets(st.integers(0, 29), max_size=20),
)
def test_a_list_of_all_three_forms_denies_just_those_it_was_made_from(
    publisher: Publisher, tmp_path: Path, ids: set[bytes], numbers: dict[bytes, set[int]], revoked: set[int]
) -> None:
    nation = [Credential(b"a foreign card%02d" % number, b"a third issuer..", 1_700_000_000) for number in range(30)]
    block = BlockOf(nation, revoked)
    sections = [dense_deny(issuer, 100, sorted(each)) for issuer, each in numbers.items()]
    asked = [(card, number in revoked) for number, card in enumerate(nation)]
    register = build([block], b"a seed").payload
    one = publisher.deny(ids, DATES, numbered=sections, register=register, asked=asked)
    keys = {"office": publisher.key.public_key()}
    install(tmp_path / "gate", one.manifest_path.read_bytes(), one.payload_path, keys)
    denied = load(tmp_path / "gate", keys, "north").denied
    assert all(denied(Credential(each)) for each in ids)
    for issuer, listed in numbers.items():
        asked_by_number = {each for each in range(120) if denied(Credential(b"whoever it may be", issuer, index=each))}
        assert asked_by_number == listed
    assert {number for number, card in enumerate(nation) if denied(card)} == revoked
    assert one.entries == len(ids) + sum(map(len, numbers.values()))


@dataclasses.dataclass(frozen=True)
class BlockOf:
    """Cards of one issuer and year, some of which are revoked."""

    cards: list[Credential]
    places: set[int]
    covered_until_s: int = 1_700_000_000

    @property
    def name(self) -> bytes:
        return register_block(self.cards[0].issuer_id, self.covered_until_s)

    def good(self) -> Iterator[Ids]:
        yield ids_of(card for place, card in enumerate(self.cards) if place not in self.places)

    def revoked(self) -> Iterator[Ids]:
        yield ids_of(card for place, card in enumerate(self.cards) if place in self.places)


class TestAWrongListIsNotPublished:
    """Whatever went wrong between what was given and what a gate would read."""

    SECTION = dense_deny(b"a first issuer..", 100, [7, 9])
    NATION = BlockOf([Credential(CARD, b"a third issuer..", 1_700_000_000)], {0})
    REGISTER = build([NATION], b"a seed").payload

    @pytest.mark.parametrize(
        ("other", "why"),
        [
            (([], [SECTION], REGISTER), "would not be refused"),
            (([CARD], [], REGISTER), "card 7 of .* would not be refused"),
            (([CARD], [dense_deny(SECTION.issuer, 100, [9])], REGISTER), "card 7 of .* would not be refused"),
            (([CARD], [dense_deny(SECTION.issuer, 100, [7, 8, 9])], REGISTER), "it holds 4 cards and was made from 3"),
            (([CARD, bytes(16)], [SECTION], REGISTER), "it holds 4 cards and was made from 3"),
            (([CARD], [SECTION], b""), "its register is not the one"),
            (([CARD], [SECTION], build([NATION], b"other").payload), "its register is not the one"),
        ],
    )
    def test_another_list_than_was_meant(
        self, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, other: tuple[Any, Any, bytes], why: str
    ) -> None:
        monkeypatch.setattr("backend_sync.publisher.encode_deny_list", lambda *_: encode_deny_list(*other))
        with pytest.raises(PublishError, match=why):
            publisher.deny([CARD], DATES, numbered=[self.SECTION], register=self.REGISTER)
        assert not publisher.out.exists()

    @pytest.mark.parametrize("denied", [True, False])
    def test_a_card_that_was_asked_about(self, publisher: Publisher, denied: bool) -> None:  # noqa: FBT001 - pytest passes by name
        card = Credential(b"some other card.", self.SECTION.issuer, index=8 if denied else 9)
        with pytest.raises(PublishError, match="would not be refused" if denied else "would be refused"):
            publisher.deny([CARD], DATES, numbered=[self.SECTION], asked=[(card, denied)])
        assert not publisher.out.exists()

    def test_what_no_gate_could_read(self, publisher: Publisher) -> None:
        with pytest.raises(PublishError, match="two sections of the issuer"):
            publisher.deny([], DATES, numbered=[self.SECTION, self.SECTION])
        with pytest.raises(PublishError, match="damaged"):
            publisher.deny([], DATES, register=self.REGISTER[:-1] + bytes([self.REGISTER[-1] ^ 1]))
        assert not publisher.out.exists()


class TestNothingBadIsPublished:
    @pytest.fixture(autouse=True)
    def _nothing(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def refused(self, kind: ListKind) -> bool:
        shelf = self.publisher.out / kind
        return not shelf.exists() or not list(shelf.iterdir())

    def test_an_issuer_that_is_none(self, tmp_path: Path) -> None:
        path = pem_file(tmp_path, Authority.root(extensions=FOR_CARDS))
        with pytest.raises(PublishError, match=rf"^{path}, certificate 1: .* has no basic constraints"):
            self.publisher.trust([path], [], DATES)
        assert self.refused(ListKind.TRUST)

    def test_no_anchor(self) -> None:
        with pytest.raises(PublishError, match="nobody is on it"):
            self.publisher.trust([], [], DATES)
        assert self.refused(ListKind.TRUST)

    @pytest.mark.parametrize(
        "content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n"]
    )
    def test_a_file_without_a_certificate_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "junk.pem").write_bytes(content)
        for name, error in (("junk.pem", PublishError), ("absent.pem", InputMissing)):
            with pytest.raises(error, match=name):
                self.publisher.trust([tmp_path / name], [], DATES)

    def test_an_id_of_the_wrong_length(self) -> None:
        with pytest.raises(PublishError, match="15 bytes"):
            self.publisher.deny([CARD, bytes(15)], DATES)
        assert self.refused(ListKind.DENY)

    def test_dates_the_wrong_way_round(self) -> None:
        with pytest.raises(PublishError, match="not_after_s"):
            self.publisher.deny([], Dates(200, 100))
        assert self.refused(ListKind.DENY)

    def test_a_configuration_that_no_gate_takes(self) -> None:
        """A struct is not checked when it is made: a gate's own reading is what refuses."""
        with pytest.raises(PublishError, match=r"^config list: not a configuration of gates: .*grace_s"):
            self.publisher.config(GateRules({ListKind.DENY: StalePolicy(-1)}), DATES)
        assert self.refused(ListKind.CONFIG)

    def test_two_products_of_one_number(self) -> None:
        with pytest.raises(PublishError, match=r"^tickets list: two entries share product id 9"):
            self.publisher.tickets([(CARD, PURSE), (bytes(16), PURSE)], {}, DATES)
        assert self.refused(ListKind.TICKETS)

    def test_a_horizon_before_the_first_tap(self) -> None:
        with pytest.raises(PublishError, match="horizons"):
            self.publisher.tickets([], {"gate-1": (1, -1)}, DATES)
        assert self.refused(ListKind.TICKETS)


class TestKeys:
    def test_a_key_is_its_owners_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        key = create_key(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert load_private_key(path, "publisher.key").private_bytes_raw() == key.private_bytes_raw()
        with pytest.raises(PublishError, match="exists"):
            create_key(path)

    def test_the_public_half(self, tmp_path: Path) -> None:
        key = Ed25519PrivateKey.generate()
        write_public_key(key, tmp_path / "key.pub")
        assert load_pem_public_key((tmp_path / "key.pub").read_bytes()) == key.public_key()

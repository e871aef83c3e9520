"""`validator read` with national identity cards on the air that should not be believed, and secrets that are wrong."""

import base64
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hardware.medium import Technology
from hardware.virtual.card_tree import MOST_TRIES
from hardware.virtual.chip import Chip
from hardware.virtual.emrtd import AgreementKey
from tests.flow.national_cards import (
    JAPANESE_PIN,
    WITH_CAN,
    WITH_MRZ,
    WITH_PIN,
    Row,
    cloned_estonian,
    cloned_spanish,
    estonian,
    expired_estonian,
    expired_spanish,
    expiring,
    foreign_spanish,
    former_generation,
    japanese,
    japanese_of,
    judged,
    read,
    renamed,
    signed_by,
    spanish,
    stranger,
    tries_left,
    trust_folder,
    with_tries,
)
from tests.missing import missing
from tests.validator.dual_interface_cards import IDEMIA, PIN, THALES, WRONG_CAN, WRONG_PIN, Kind
from tests.validator.mynumber_cards import STRANGER, Generation, rsa_key
from tests.validator.travel_authority import Country
from tests.validator.travel_documents import (
    BRAINPOOL,
    CA_AES_128,
    PLAIN_SHA256,
    Issued,
    bare,
    curve_key,
    private,
    with_agreement,
    with_mapping,
    with_signature,
)
from tests.validator.travel_documents import rsa_key as document_key
from validator import estonian_issuers
from validator.estonian_issuers import issuers_of_test_cards, production_issuers
from validator.profiles import dnie, emrtd, jpki, mynumber_surface
from validator.trust_store import NationalIssuers

VECTORS = Path(__file__).parents[1] / "vectors" / "estonian_certificates.json"
WRONG_JAPANESE_PIN = ("--pin", "4321")
ESTONIANS = (IDEMIA, THALES)
KINDS = pytest.mark.parametrize("kind", ESTONIANS, ids=lambda kind: kind.name)
SURFACE = mynumber_surface.NAME


def refused(name: str, card: Callable[[], Chip], told: tuple[str, ...], reason: str, profile: str) -> Row:
    return Row(name, card, told, (reason, profile, None, None))


def of_each_document(name: str, change: Callable[[Issued], Issued], reason: str) -> list[Row]:
    """The same fault in a document of each way to prove a chip."""

    def made(make: Callable[[], Issued]) -> Chip:
        return change(make()).chip()

    return [
        refused(f"document, {way}, {name}", partial(made, make), WITH_CAN, reason, emrtd.NAME)
        for way, make in (
            ("PACE alone", bare),
            ("Chip Authentication", with_agreement),
            ("mapping", with_mapping),
            ("Active Authentication", lambda: with_signature(document_key())),
        )
    ]


@cache
def another_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def another_agreement_key() -> Chip:
    key = AgreementKey(CA_AES_128, BRAINPOOL, private(BRAINPOOL, 8))
    return with_agreement().with_keys(agreement=key).chip()


def tried(tries: int) -> Chip:
    return with_tries(japanese(), tries)


SECRETS = [
    *(
        refused(f"{kind.name}, {name}", partial(estonian, kind), told, reason, kind.name)
        for kind in ESTONIANS
        for name, told, reason in (
            ("wrong CAN", ("--can", WRONG_CAN), "WRONG_CAN"),
            ("wrong CAN, right PIN", ("--can", WRONG_CAN, "--pin", PIN), "WRONG_CAN"),
        )
    ),
    refused("DNIe, wrong CAN", spanish, ("--can", WRONG_CAN), "WRONG_CAN", dnie.NAME),
    *(
        refused(f"document, wrong {name}", lambda: with_mapping().chip(), told, reason, emrtd.NAME)
        for name, told, reason in (
            ("CAN", ("--can", WRONG_CAN), "WRONG_CAN"),
            ("MRZ", ("--mrz", WITH_MRZ[1].replace("L898902C3", "L898902C4")), "WRONG_CAN"),
        )
    ),
]

FOREIGN = [
    *(
        refused(f"{kind.name}, {name}", partial(estonian, kind, stranger()), told, "UNTRUSTED_ISSUER", kind.name)
        for kind in ESTONIANS
        for name, told in (("CAN", WITH_CAN), ("CAN and PIN", WITH_PIN))
    ),
    refused(
        "MyNumber, PIN",
        lambda: japanese_of(Generation.make(rsa_key(61))),
        JAPANESE_PIN,
        "UNTRUSTED_ISSUER",
        jpki.NAME,
    ),
    refused(
        "MyNumber, not enrolled",
        lambda: japanese(identification=b"4AB00000000018"),
        (),
        "NOT_ENROLLED",
        SURFACE,
    ),
    refused("DNIe", foreign_spanish, WITH_CAN, "UNTRUSTED_ISSUER", dnie.NAME),
    *of_each_document(
        "of a country unknown here",
        lambda made: signed_by(made, Country.founded("XO", "Nowhere CSCA")),
        "UNTRUSTED_ISSUER",
    ),
    *of_each_document(
        "of a country that took another's name", lambda made: signed_by(made, Country.founded()), "UNTRUSTED_ISSUER"
    ),
]

EXPIRED = [
    *(
        refused(f"{kind.name}, {name}", partial(expired_estonian, kind), told, "CERTIFICATE_EXPIRED", kind.name)
        for kind in ESTONIANS
        for name, told in (("CAN", WITH_CAN), ("CAN and PIN", WITH_PIN))
    ),
    refused("MyNumber, PIN", lambda: japanese_of(former_generation()), JAPANESE_PIN, "CERTIFICATE_EXPIRED", jpki.NAME),
    refused("DNIe", expired_spanish, WITH_CAN, "CERTIFICATE_EXPIRED", dnie.NAME),
    *of_each_document("expired", lambda made: expiring(made, "260102"), "CERTIFICATE_EXPIRED"),
]

TAMPERED = of_each_document("another's name in data group 1", renamed, "DATA_TAMPERED")

CLONED = [
    *(
        refused(f"{kind.name}, CAN and PIN", partial(cloned_estonian, kind), WITH_PIN, "WRONG_SIGNATURE", kind.name)
        for kind in ESTONIANS
    ),
    refused("MyNumber, enrolled", lambda: japanese(surface_key=STRANGER()), (), "WRONG_SIGNATURE", SURFACE),
    refused(
        "MyNumber, PIN",
        lambda: japanese(authentication_key=STRANGER()),
        JAPANESE_PIN,
        "WRONG_SIGNATURE",
        jpki.NAME,
    ),
    refused("DNIe", lambda: spanish(component=cloned_spanish()), WITH_CAN, "WRONG_SIGNATURE", dnie.NAME),
    refused("document, Chip Authentication", another_agreement_key, WITH_CAN, "WRONG_SIGNATURE", emrtd.NAME),
    refused(
        "document, mapping",
        lambda: with_mapping().with_keys(mapping=private(BRAINPOOL, 8)).chip(),
        WITH_CAN,
        "WRONG_SIGNATURE",
        emrtd.NAME,
    ),
    refused(
        "document, Active Authentication, RSA",
        lambda: with_signature(document_key()).with_keys(active=STRANGER()).chip(),
        WITH_CAN,
        "WRONG_SIGNATURE",
        emrtd.NAME,
    ),
    refused(
        "document, Active Authentication, P-256",
        lambda: with_signature(curve_key(), PLAIN_SHA256).with_keys(active=another_key()).chip(),
        WITH_CAN,
        "WRONG_SIGNATURE",
        emrtd.NAME,
    ),
]


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trust_folder(tmp_path_factory.mktemp("trust"))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{group}: {row.name}")
        for group, rows in (
            ("secrets", SECRETS),
            ("foreign", FOREIGN),
            ("expired", EXPIRED),
            ("tampered", TAMPERED),
            ("cloned", CLONED),
        )
        for row in rows
    ],
)
async def test_a_card_that_is_not_believed(row: Row, trust: Path, tmp_path: Path) -> None:
    """Each ends with its one reason, no rung, and nothing that could be sold a ticket to somebody's key."""
    card = row.card()
    found = await read(card, row.technology, trust, tmp_path / "cache.db", row.told)
    assert judged(found) == row.judged
    assert not found["cached"]
    if row.judged[0] in ("WRONG_CAN", "WRONG_SIGNATURE", "DATA_TAMPERED", "NOT_ENROLLED"):
        assert found["credential_id"] is None


def with_production(folder: Path, issuers: NationalIssuers) -> Path:
    """The same folder, with published issuers in the place of the invented Estonian one."""
    trust = trust_folder(folder)
    (trust / "ee" / "issuer-0.pem").unlink()
    for number, certificate in enumerate((*issuers.anchors, *issuers.intermediates)):
        (trust / "ee" / f"published-{number}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return trust


@pytest.mark.parametrize(("position", "kind"), [(0, IDEMIA), (1, THALES)], ids=lambda value: getattr(value, "name", ""))
async def test_a_test_card_is_no_card_where_real_ones_are_taken(position: int, kind: Kind, tmp_path: Path) -> None:
    """With a certificate that its test issuer published; where that issuer is taken only its date speaks against it."""
    if importlib.util.find_spec(estonian_issuers.PACKAGE) is None:
        missing("esteid-certificates is not installed")
    vector = json.loads(VECTORS.read_text())["vectors"][position]
    card = estonian(kind, certificate=base64.b64decode(vector["certificate"]))
    verdicts = {}
    for name, issuers in (("real", production_issuers()), ("test", issuers_of_test_cards())):
        trust = with_production(tmp_path / name, issuers)
        found = await read(card, Technology.TYPE_A, trust, tmp_path / f"{name}.db", WITH_CAN)
        assert (found["profile"], found["credential_id"] is None) == (kind.name, found["verdict"] != "claimed")
        verdicts[name] = found["verdict"]
    assert verdicts["real"] == "UNTRUSTED_ISSUER"
    assert verdicts["test"] in ("claimed", "CERTIFICATE_EXPIRED")


@dataclass(frozen=True)
class PinRow(Row):
    """A row with the tries that it may cost."""

    spent: int = 0


def of_pin(
    name: str, card: Callable[[], Chip], profile: str, told: tuple[str, ...], reason: str, *, spent: int = 0
) -> PinRow:
    return PinRow(f"{profile}, {name}", card, told, (reason, profile, None, None), spent)


PINS = [
    *(
        of_pin(name, partial(estonian, kind, tries=tries), kind.name, told, reason, spent=spent)
        for kind in ESTONIANS
        for name, tries, told, reason, spent in (
            ("wrong, three left", 3, (*WITH_CAN, "--pin", WRONG_PIN), "WRONG_PIN", 1),
            ("wrong, two left", 2, (*WITH_CAN, "--pin", WRONG_PIN), "WRONG_PIN", 1),
            ("right, one left", 1, WITH_PIN, "PIN_AT_RISK", 0),
            ("wrong, one left", 1, (*WITH_CAN, "--pin", WRONG_PIN), "PIN_AT_RISK", 0),
            ("right, blocked", 0, WITH_PIN, "PIN_BLOCKED", 0),
            ("right, and a wrong CAN", 2, ("--can", WRONG_CAN, "--pin", PIN), "WRONG_CAN", 0),
            ("right, and no CAN", 2, ("--pin", PIN), "CAN_NEEDED", 0),
        )
    ),
    *(
        of_pin(name, partial(tried, tries), jpki.NAME, told, reason, spent=spent)
        for name, tries, told, reason, spent in (
            ("wrong, three left", 3, WRONG_JAPANESE_PIN, "WRONG_PIN", 1),
            ("wrong, two left", 2, WRONG_JAPANESE_PIN, "WRONG_PIN", 1),
            ("of another length", 2, ("--pin", "12345"), "WRONG_PIN", 0),
            ("right, one left", 1, JAPANESE_PIN, "PIN_AT_RISK", 0),
            ("right, blocked", 0, JAPANESE_PIN, "PIN_BLOCKED", 0),
        )
    ),
    *(
        of_pin(
            f"{name}, while the first was never changed",
            partial(estonian, THALES, transport_pin=True),
            THALES.name,
            (*WITH_CAN, "--pin", pin),
            "PIN_NOT_SET",
        )
        for name, pin in (("right", PIN), ("wrong", WRONG_PIN))
    ),
]


@pytest.mark.parametrize("row", PINS, ids=lambda row: row.name)
async def test_a_pin_costs_what_it_must_and_no_more(row: PinRow, trust: Path, tmp_path: Path) -> None:
    card = row.card()
    before = tries_left(card)
    found = await read(card, row.technology, trust, tmp_path / "cache.db", row.told)
    assert judged(found) == row.judged
    assert before - tries_left(card) == row.spent
    assert found["credential_id"] is None


@KINDS
async def test_a_right_pin_gives_the_tries_back(kind: Kind, trust: Path, tmp_path: Path) -> None:
    card = estonian(kind, tries=2)
    found = await read(card, Technology.TYPE_A, trust, tmp_path / "cache.db", WITH_PIN)
    assert (found["verdict"], tries_left(card)) == ("authentic", MOST_TRIES)

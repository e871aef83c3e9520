"""Virtual cards made from what describes them: what each family needs, what it has no use for, and which files fail."""

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.demo.media import Operator
from hardware.virtual import card_files
from hardware.virtual.card_files import CardFiles, NotThisCard, Profile, make
from hardware.virtual.esteid2018 import EstEid2018Chip
from hardware.virtual.esteid2025 import EstEid2025Chip
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.pkoc import PkocChip
from hardware.virtual.timing import MODELS, ChipTiming, KeyType
from hardware.virtual.ultralight_aes import UltralightAes
from tests.describing import describe, shared_uid_key
from tests.issuing import IssuedCard
from validator.families import OPERATOR_FAMILIES
from validator.profiles import esteid2018, esteid2025, ntag424, ultralight_aes
from validator.profiles.attempt import TOKEN_BYTES

FIELDS = {
    "--key": "key",
    "--cert": "certificate",
    "--sm-key": "sm_key",
    "--cvc": "cvc",
    "--uid": "uid",
    "--card-key-file": "card_key",
    "--token": "token",
}
IN_HEXADECIMAL = {"uid", "token"}
KINDS = {
    Profile.PIV: (PivChip, "P-256"),
    Profile.PIV_SM: (PivChip, "P-256"),
    Profile.PKOC1: (PkocChip, "P-256"),
    Profile.PKOC2: (PkocChip, "P-256"),
    Profile.NTAG424: (Ntag424Chip, "AES-128"),
    Profile.ULTRALIGHT_AES: (UltralightAes, "AES-128"),
    Profile.ESTEID2018: (EstEid2018Chip, "P-384"),
    Profile.ESTEID2025: (EstEid2025Chip, "P-384"),
}
ESTONIAN = (Profile.ESTEID2018, Profile.ESTEID2025)
NEEDS = {
    Profile.PIV: ("key", "certificate"),
    Profile.PIV_SM: ("key", "certificate", "sm_key", "cvc"),
    Profile.PKOC1: ("key",),
    Profile.PKOC2: ("key", "cvc"),
    Profile.NTAG424: ("uid", "card_key", "token"),
    Profile.ULTRALIGHT_AES: ("uid", "card_key", "token"),
    Profile.ESTEID2018: ("key", "certificate"),
    Profile.ESTEID2025: ("key", "certificate"),
}
MAY_HAVE = {
    Profile.PIV: {"password", "pin", "compress", "uid", "timing"},
    Profile.PIV_SM: {"password", "pin", "compress", "uid", "timing"},
    Profile.PKOC1: {"password", "uid", "timing"},
    Profile.PKOC2: {"password", "uid", "timing"},
    Profile.NTAG424: set(),
    Profile.ULTRALIGHT_AES: {"uid_key", "random_uid"},
    Profile.ESTEID2018: {"password", "pin", "can", "uid"},
    Profile.ESTEID2025: {"password", "pin", "can", "uid"},
}


@pytest.fixture(scope="module")
def described(
    tmp_path_factory: pytest.TempPathFactory, issued: Callable[[KeyType], IssuedCard]
) -> dict[Profile, CardFiles]:
    folder = tmp_path_factory.mktemp("cards")
    operator = Operator.create(folder / "operator", dt.datetime.now(dt.UTC))
    found = {}
    key, certificate = folder / "estonian.key", folder / "estonian.pem"
    key.write_bytes(issued(KeyType.P_384).key_pem)
    certificate.write_bytes(issued(KeyType.P_384).pem)
    for profile in Profile:
        if profile in ESTONIAN:
            found[profile] = CardFiles(key=key, certificate=certificate)
            continue
        options = describe(operator, profile.value, folder / profile.value).options
        known: dict[str, Any] = {}
        for option, value in options.items():
            name = FIELDS[option]
            known[name] = bytes.fromhex(value) if name in IN_HEXADECIMAL else Path(value)
        found[profile] = replace(CardFiles(), **known)
    return found


@pytest.fixture(scope="module")
def everything(
    described: dict[Profile, CardFiles],
    issued: Callable[[KeyType], IssuedCard],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """A value of every field, good for some family."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "p12").write_bytes(issued(KeyType.P_256).der)
    (folder / "uid_key").write_text("00" * 16)
    values: dict[str, Any] = {
        "p12": folder / "p12",
        "uid_key": folder / "uid_key",
        "password": b"x",
        "pin": "123456",
        "compress": True,
        "random_uid": True,
        "can": "123456",
        "timing": ChipTiming.of("jcop4-p71"),
    }
    for files in described.values():
        values |= {field.name: value for field in fields(files) if (value := getattr(files, field.name))}
    return values


def test_the_families_are_those_of_the_gate() -> None:
    """The operator's own, and of the nations' those whose cards need no more than a key and a certificate."""
    assert {profile.value for profile in Profile} == set(OPERATOR_FAMILIES) | {esteid2018.NAME, esteid2025.NAME}


def test_the_layout_is_that_of_the_gate() -> None:
    """Neither side may import the other's."""
    assert card_files.NTAG424_GATE_KEY == ntag424.KEY_NUMBER
    assert card_files.ULTRALIGHT_TOKEN_PAGE == ultralight_aes.TOKEN_PAGE
    assert card_files.TOKEN_BYTES == TOKEN_BYTES


@pytest.mark.parametrize("profile", Profile)
def test_what_each_family_needs_is_enough(described: dict[Profile, CardFiles], profile: Profile) -> None:
    card, kind = make(profile, described[profile])
    assert (type(card), kind) == KINDS[profile]


@pytest.mark.parametrize("profile", Profile)
def test_without_any_of_it_there_is_no_card(described: dict[Profile, CardFiles], profile: Profile) -> None:
    files = described[profile]
    for count in range(len(NEEDS[profile])):
        for kept in itertools.combinations(NEEDS[profile], count):
            some = {name: getattr(files, name) for name in kept}
            with pytest.raises(NotThisCard, match="needs"):
                make(profile, replace(CardFiles(), **some))


@pytest.mark.parametrize("profile", Profile)
def test_what_a_family_has_no_use_for_is_named(
    described: dict[Profile, CardFiles], everything: dict[str, Any], profile: Profile
) -> None:
    files = described[profile]
    useless = everything.keys() - MAY_HAVE[profile] - set(NEEDS[profile])
    if profile in (Profile.PIV, Profile.PIV_SM):
        useless -= {"p12"}  # instead of a key and its certificate
    assert everything.keys() == {field.name for field in fields(CardFiles)}
    assert useless
    for name in useless:
        option = card_files._OPTIONS[name]
        with pytest.raises(NotThisCard, match=f"{profile} has no use for {option}: leave it out"):
            make(profile, replace(files, **{name: everything[name]}))


@pytest.mark.parametrize("profile", [Profile.PIV, Profile.PIV_SM])
def test_a_card_of_two_certificates_is_none(
    described: dict[Profile, CardFiles], everything: dict[str, Any], profile: Profile
) -> None:
    with pytest.raises(NotThisCard, match="needs --key and --cert, or --p12"):
        make(profile, replace(described[profile], p12=everything["p12"]))


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("uid", [b"", b"\x04", bytes(8), bytes(11)])
def test_a_uid_has_one_of_three_lengths(described: dict[Profile, CardFiles], profile: Profile, uid: bytes) -> None:
    with pytest.raises(NotThisCard, match=f"a UID has 4, 7 or 10 bytes, not {len(uid)}"):
        make(profile, replace(described[profile], uid=uid))


@pytest.mark.parametrize("profile", [Profile.NTAG424, Profile.ULTRALIGHT_AES])
@pytest.mark.parametrize("uid", [bytes(4), bytes(10)])
def test_a_uid_that_keys_are_derived_from_has_seven_bytes(
    described: dict[Profile, CardFiles], profile: Profile, uid: bytes
) -> None:
    with pytest.raises(ValueError, match="7"):
        make(profile, replace(described[profile], uid=uid))


@pytest.mark.parametrize("profile", [Profile.NTAG424, Profile.ULTRALIGHT_AES])
@pytest.mark.parametrize("size", [0, 4, 15, 17, 32])
def test_a_token_has_sixteen_bytes(described: dict[Profile, CardFiles], profile: Profile, size: int) -> None:
    with pytest.raises(ValueError, match=f"a token of {size} bytes: it has 16"):
        make(profile, replace(described[profile], token=bytes(size)))


def test_a_hidden_uid_needs_the_key_that_finds_it(described: dict[Profile, CardFiles], tmp_path: Path) -> None:
    files = replace(described[Profile.ULTRALIGHT_AES], random_uid=True)
    with pytest.raises(NotThisCard, match="hides its UID needs --uid-key-file"):
        make(Profile.ULTRALIGHT_AES, files)
    operator = Operator.create(tmp_path / "operator", dt.datetime.now(dt.UTC))
    tag, _ = make(Profile.ULTRALIGHT_AES, replace(files, uid_key=Path(shared_uid_key(operator, tmp_path))))
    assert isinstance(tag, UltralightAes)
    assert tag.shown_uid is None


@pytest.mark.parametrize("profile", [Profile.PKOC1, Profile.PKOC2])
def test_a_pkoc_card_takes_no_other_curve(
    described: dict[Profile, CardFiles],
    issued: Callable[[KeyType], IssuedCard],
    tmp_path: Path,
    profile: Profile,
) -> None:
    (tmp_path / "key").write_bytes(issued(KeyType.P_384).key_pem)
    with pytest.raises(CardFileError, match="make a P-256 key"):
        make(profile, replace(described[profile], key=tmp_path / "key"))


@pytest.mark.parametrize("profile", ESTONIAN)
def test_an_estonian_card_takes_no_other_curve(
    described: dict[Profile, CardFiles],
    issued: Callable[[KeyType], IssuedCard],
    tmp_path: Path,
    profile: Profile,
) -> None:
    (tmp_path / "key").write_bytes(issued(KeyType.P_256).key_pem)
    with pytest.raises(CardFileError, match="make P-384"):
        make(profile, replace(described[profile], key=tmp_path / "key"))


@pytest.mark.parametrize("profile", ESTONIAN)
@pytest.mark.parametrize("can", ["", "12345", "1234567", "12345x", "١٢٣٤٥٦"])
def test_a_can_has_six_digits(described: dict[Profile, CardFiles], profile: Profile, can: str) -> None:
    with pytest.raises(NotThisCard, match="a CAN has 6 digits"):
        make(profile, replace(described[profile], can=can))


@pytest.mark.parametrize("profile", ESTONIAN)
def test_an_estonian_card_without_a_pin_is_one_whose_pin_is_blocked(
    described: dict[Profile, CardFiles], profile: Profile
) -> None:
    for pin, tries in ((None, 0), ("4711", 3)):
        card, _ = make(profile, replace(described[profile], pin=pin))
        assert isinstance(card, EstEid2018Chip | EstEid2025Chip)
        assert card.tries_left == tries


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profile=st.sampled_from(Profile), junk=st.binary(max_size=60), data=st.data())
def test_a_file_of_anything_is_refused_by_its_name(
    described: dict[Profile, CardFiles], tmp_path: Path, profile: Profile, junk: bytes, data: st.DataObject
) -> None:
    files = described[profile]
    name = data.draw(st.sampled_from([each for each in NEEDS[profile] if each not in IN_HEXADECIMAL]))
    (tmp_path / "scrap").write_bytes(junk)
    scrap: dict[str, Any] = {name: tmp_path / "scrap"}
    absent: dict[str, Any] = {name: tmp_path / "absent"}
    with pytest.raises(CardFileError, match="scrap: "):
        make(profile, replace(files, **scrap))
    with pytest.raises(CardFileError, match="absent: No such file"):
        make(profile, replace(files, **absent))


def test_models_time_the_families_that_have_figures(described: dict[Profile, CardFiles]) -> None:
    timing = ChipTiming.of(next(iter(MODELS)))
    for profile in (Profile.PIV, Profile.PIV_SM, Profile.PKOC1, Profile.PKOC2):
        make(profile, replace(described[profile], timing=timing))

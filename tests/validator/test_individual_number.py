"""Japan's individual number is never read: by no mode of any family, by no enrolment, by no constant in the sources."""

import ast
import contextlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backend_sync
import validator
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.medium import Target, Technology
from hardware.virtual.mynumber import GUARDED, SURFACE, TEXT, MynumberChip
from tests.validator.attempting import attempt
from tests.validator.mynumber_cards import (
    BIRTH_DIGITS,
    STRANGER,
    Exchanges,
    chip,
    over,
    personalised,
    spoilt,
    tap,
    with_pin,
)
from validator import choice
from validator.choice import Family
from validator.dialogue import Traffic, drive
from validator.families import FAMILIES
from validator.profiles import jpki, mynumber_surface
from validator.profiles.attempt import Attempt, Secrets
from validator.profiles.errors import ProfileError
from validator.surface_enrolment import collect, opening_digits

ROOT = Path(validator.__file__).parents[1]
SELECTED = ResponseApdu(b"", 0x9000)
TOLD = Secrets(can=bytearray(b"123456"), mrz=bytearray(b"L898902C<369080619406236"), pin=bytearray(b"1234"))

Talk = Callable[[Exchanges], object]

TALKS: dict[str, Talk] = {
    "jpki, no secret": lambda carry: tap(jpki.authenticate(attempt(), SELECTED), carry),
    "jpki, right PIN": lambda carry: tap(jpki.authenticate(with_pin(), SELECTED), carry),
    "jpki, wrong PIN": lambda carry: tap(jpki.authenticate(with_pin(b"4321"), SELECTED), carry),
    "surface, no secret": lambda carry: tap(mynumber_surface.authenticate(attempt(), SELECTED), carry),
    "surface, PIN": lambda carry: tap(mynumber_surface.authenticate(with_pin(), SELECTED), carry),
    "enrolment, right date": lambda carry: tap(collect(attempt(), opening_digits(BIRTH_DIGITS)), carry),
    "enrolment, wrong date": lambda carry: tap(collect(attempt(), opening_digits("640107")), carry),
    "enrolment, reference number B": lambda carry: tap(
        collect(attempt(), opening_digits(BIRTH_DIGITS + "20352285")), carry
    ),
}

CARDS: dict[str, Callable[[], MynumberChip]] = {
    "good": chip,
    "without a certificate": lambda: chip(authentication_certificate=None),
    "blank certificate": lambda: chip(authentication_certificate=b"\xff" * 40),
    "clone": lambda: chip(authentication_key=STRANGER(), surface_key=STRANGER()),
    "without a number to look it up by": lambda: chip(identification=b""),
    "in an application": lambda: preselected(TEXT),
}

#: All that may ever be sent to such a card. A card that wants another Le is asked again with that.
ALLOWED = re.compile(
    r"""
      00A4040C0A(D392F000260100000001|D3921000310001010402)(..)?  # the two applications, by their whole names
    | 00A4040C07A0000001510000(..)?                               # the card manager
    | 00A4020C02(000A|0017|0018)(..)?                             # in JPKI: certificate, key, PIN
    | 00A4020C02(0001|0004|0011)(..)?                             # in surface: record, certificate, birth date
    | 00B0[0-7].{3}..                                             # the file that is selected, by no short identifier
    | 00CA0045..
    | 00200080(04.{8}|06.{12})?
    | 802A00(00|80)33.{102}..
    | 00C00000..                                                  # more of an answer
    """,
    re.VERBOSE,
)


def preselected(application: bytes) -> MynumberChip:
    card = chip()
    assert card.process(bytes.fromhex("00A4040C0A") + application).response == b"\x90\x00"
    return card


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("talk", TALKS)
def test_no_mode_of_any_card_trips_the_wire(talk: str, card: str) -> None:
    held = CARDS[card]()
    carry = over(held)
    with contextlib.suppress(ProfileError):
        TALKS[talk](carry)
    assert held.tripped == []
    assert all(ALLOWED.fullmatch(command) for command in carry.commands)


@given(
    talk=st.sampled_from(sorted(TALKS)),
    position=st.integers(0, 16),
    answer=st.one_of(st.binary(min_size=2, max_size=300), st.sampled_from([b"\x90\x00", b"\x6a\x82", b"\x61\x10"])),
)
def test_a_card_that_lies_does_not_lead_anybody_there(talk: str, position: int, answer: bytes) -> None:
    held = chip()
    carry = spoilt(held, position, lambda _true: answer)
    with contextlib.suppress(ProfileError):
        TALKS[talk](carry)
    assert held.tripped == []
    assert all(ALLOWED.fullmatch(command) for command in carry.commands)


@given(talk=st.sampled_from(sorted(TALKS)), answers=st.lists(st.binary(min_size=2, max_size=300), max_size=30))
def test_whatever_is_answered_nothing_else_is_asked(talk: str, answers: list[bytes]) -> None:
    script = iter(answers)
    carry = Exchanges(lambda _command: next(script, b"\x90\x00"))
    with contextlib.suppress(ProfileError):
        TALKS[talk](carry)
    assert all(ALLOWED.fullmatch(command) for command in carry.commands)


@pytest.mark.parametrize("technology", list(Technology))
@pytest.mark.parametrize("told", [Secrets(), TOLD], ids=["nothing told", "all told"])
@pytest.mark.parametrize("card", CARDS)
def test_no_family_at_all_trips_the_wire(card: str, told: Secrets, technology: Technology) -> None:
    """Each family of the gate alone, those of other countries too, and all of them one after another."""
    every = [*(each for each in FAMILIES.values() if isinstance(each, Family)), *MYNUMBER]
    for families in (*([each] for each in every), every):
        held = CARDS[card]()
        dialogue = choice.authenticate(families, Target(technology, b"", b""), told_to(told, technology))
        with contextlib.suppress(ProfileError):
            drive(dialogue, over(held), Traffic())
        assert held.tripped == []


MYNUMBER = (
    Family(mynumber_surface.NAME, mynumber_surface.AID, mynumber_surface.authenticate),
    Family(jpki.NAME, jpki.AID, jpki.authenticate),
)


def told_to(secrets: Secrets, technology: Technology) -> Attempt:
    return replace(attempt(), secrets=secrets, contactless=technology is not Technology.CONTACT)


def sources() -> list[Path]:
    found = [path for room in ("validator", "backend_sync") for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(found) > 60
    return found


def constants(tree: ast.AST) -> Iterator[str]:
    """Every text, every byte string and every list of small numbers, in hexadecimal without separators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"[^0-9A-F]", "", node.value.upper().replace("0X", ""))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield node.value.hex().upper()
            yield re.sub(rb"[^0-9A-F]", b"", node.value.upper()).decode()
        elif isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > 0xFF:
            yield f"{node.value:X}"
        elif isinstance(node, ast.List | ast.Tuple):
            numbers = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            octets = [number for number in numbers if isinstance(number, int) and 0 <= number <= 0xFF]
            yield bytes(octets).hex().upper()


def names_the_text_application(digits: str) -> bool:
    """Whether an identifier selects it: the whole name, or a beginning that may be its own (JICSAP 1.1 §4.2)."""
    beginnings = [TEXT.hex().upper()[:length] for length in (20, 18, 16, 14, 12, 10, 8, 6)]
    if beginnings[0] in digits:
        return True
    return any(digits == beginning for beginning in beginnings[1:])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_names_the_application_that_holds_it(path: Path) -> None:
    for digits in constants(ast.parse(path.read_text())):
        assert not names_the_text_application(digits), f"{path.name} names the text application"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("A = bytes.fromhex('D3921000310001010408')", True),
        ("A = bytes.fromhex('00A4040C0A d392 1000 3100 0101 0408')", True),
        (r"A = b'\xd3\x92\x10\x00\x31\x00\x01\x01\x04\x08'", True),
        ("A = b'D3921000310001010408'", True),
        ("A = bytes([0xD3, 0x92, 0x10, 0x00, 0x31, 0x00, 0x01, 0x01, 0x04, 0x08])", True),
        ("A = 0xD3921000310001010408", True),
        ("A = bytes.fromhex('D39210003100010104')", True),
        ("A = bytes.fromhex('D3921000310001010402')", False),
        ("A = bytes.fromhex('D392F000260100000001')", False),
    ],
)
def test_the_scan_sees_what_it_looks_for(source: str, *, named: bool) -> None:
    assert any(map(names_the_text_application, constants(ast.parse(source)))) is named


def modules() -> Iterator[ModuleType]:
    for package in (validator, backend_sync):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def test_no_value_of_any_module_names_it_either() -> None:
    """What a source puts together from pieces is whole in the module."""
    seen = 0
    for module in modules():
        for value in vars(module).values():
            octets = bytes(value) if isinstance(value, CommandApdu) else value
            if isinstance(octets, bytes):
                seen += 1
                assert not names_the_text_application(octets.hex().upper()), module.__name__
    assert seen > 20


def test_the_wire_is_where_the_number_is() -> None:
    assert {(TEXT, 0x0001), (SURFACE, 0x0005)} <= GUARDED
    assert personalised().individual_number.isdecimal()

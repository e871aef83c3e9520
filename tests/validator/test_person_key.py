"""What stands for a person: the same with each of their cards, another for everybody else, nothing without the key."""

import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.model import Scheme
from validator.person_key import (
    IdentifierError,
    PersonKey,
    canonical,
    load_person_key,
    scheme_name,
    serial_identifier,
)
from validator.secret_files import SecretError

KEY = bytes(range(32))


def key(octets: bytes = KEY) -> PersonKey:
    return PersonKey(bytearray(octets))


@given(code=st.from_regex(r"[1-8][0-9]{10}", fullmatch=True), other=st.from_regex(r"[1-8][0-9]{10}", fullmatch=True))
def test_a_person_is_the_same_with_every_card_and_nobody_else(code: str, other: str) -> None:
    told = key().person(Scheme.ESTONIA, code)
    assert len(told) == 32
    assert told == key().person(Scheme.ESTONIA, f"PNOEE-{code}") == key().person(Scheme.ESTONIA, f" pnoee-{code}\n")
    assert (told == key().person(Scheme.ESTONIA, other)) is (code == other)
    assert told != key(bytes(32 - 1) + b"\1").person(Scheme.ESTONIA, code)


def test_what_is_hashed_says_whose_identifier_it_is() -> None:
    wanted = hmac.new(KEY, b"pilet/1\0person\0ee\x0038001010001", hashlib.sha256).digest()
    assert key().person(Scheme.ESTONIA, "38001010001") == wanted


@pytest.mark.parametrize(
    ("scheme", "identifier", "wanted"),
    [
        (Scheme.ESTONIA, "PNOEE-38001010001", "38001010001"),
        (Scheme.SPAIN, "12345678Z", "12345678Z"),
        (Scheme.SPAIN, "IDCES-12345678z", "12345678Z"),
        (Scheme.SPAIN, "X1234567L", "X1234567L"),
        (Scheme.JAPAN, serial_identifier(bytes.fromhex("1ac100f5") * 5, 0x6D18006), f"SERIAL-{'1AC100F5' * 5}-6D18006"),
        (None, "fin-xr1234567", "FIN-XR1234567"),
        (None, "D-C01X00T47", "D-C01X00T47"),
    ],
)
def test_one_form_for_each_identifier(scheme: Scheme | None, identifier: str, wanted: str) -> None:
    assert canonical(scheme, identifier) == wanted
    assert canonical(scheme, canonical(scheme, identifier)) == wanted


@pytest.mark.parametrize(
    ("scheme", "identifier"),
    [
        (Scheme.ESTONIA, ""),
        (Scheme.ESTONIA, "3800101000"),
        (Scheme.ESTONIA, "08001010001"),
        (Scheme.ESTONIA, "PNOEE-PNOEE-38001010001"),
        (Scheme.ESTONIA, "٣8001010001"),
        (Scheme.SPAIN, "12345678"),
        (Scheme.JAPAN, "537686677188"),
        (Scheme.JAPAN, "SERIAL-537686677188"),
        (None, "38001010001"),
        (None, "FIN-XR 12"),
    ],
)
def test_what_is_no_identifier_makes_nobody_and_is_not_repeated(scheme: Scheme | None, identifier: str) -> None:
    with pytest.raises(IdentifierError, match=f"no identifier of scheme {scheme_name(scheme)}") as caught:
        key().person(scheme, identifier)
    assert not identifier or identifier not in str(caught.value)


@given(st.from_regex(r"[0-9]{12}", fullmatch=True))
def test_an_individual_number_is_never_taken(number: str) -> None:
    with pytest.raises(IdentifierError):
        canonical(Scheme.JAPAN, number)


@given(scheme=st.sampled_from([*Scheme, None]), identifier=st.text(max_size=40))
def test_any_text_is_an_identifier_or_refused(scheme: Scheme | None, identifier: str) -> None:
    try:
        told = canonical(scheme, identifier)
    except IdentifierError:
        return
    assert told.isascii()


def test_schemes_do_not_meet() -> None:
    serial = serial_identifier(bytes(20), 7)
    assert len({key().person(Scheme.JAPAN, serial), key().person(None, "SER-1"), key().person(None, "SE-R1")}) == 3


def test_a_key_tells_itself_from_others_and_nothing_else() -> None:
    assert key().check_value == hmac.new(KEY, b"pilet/1\0check", hashlib.sha256).digest()[:3].hex().upper()
    assert key().check_value != key(KEY[::-1]).check_value
    assert KEY.hex() not in repr(key()).lower()
    with pytest.raises(ValueError, match="a person key of 31 bytes"):
        key(KEY[1:])


def test_a_key_that_is_wiped_is_gone() -> None:
    mine = key()
    mine.wipe()
    assert mine.octets == bytes(32)


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\r\n"])
def test_a_key_comes_from_a_file_that_is_its_owners(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "person-1.key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert load_person_key(path).octets == KEY
    path.chmod(0o640)
    with pytest.raises(SecretError, match="lets others read it"):
        load_person_key(path)


@pytest.mark.parametrize(
    "content", [b"", KEY[1:], KEY + b"\n", KEY.hex().encode()[1:], b"g" * 64, bytes(32), b"11" * 32, KEY * 3]
)
def test_what_is_no_key_is_refused_without_being_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "person-1.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretError, match=r"a person key is 32 bytes|the key is blank") as caught:
        load_person_key(path)
    assert KEY.hex()[:8] not in str(caught.value)
    path.unlink()
    with pytest.raises(SecretError, match=os.strerror(2)):
        load_person_key(path)

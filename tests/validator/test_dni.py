"""The number of a Spanish DNI: a law over all numbers, published examples, and what is none."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.authority import Authority, card_key
from validator import dni
from validator.certificates import CertificateError, load_certificate
from validator.dni import DniError
from validator.model import KeyAlgorithm

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "dni.json").read_text(encoding="utf-8"))

# What may be said of a number that is refused, whatever it is.
REFUSALS = {"the number of a DNI is 8 digits and a letter", "the check letter of the DNI is another"}


@given(number=st.integers(0, 99_999_999), other=st.sampled_from(dni.LETTERS))
def test_of_all_letters_one_is_right(number: int, other: str) -> None:
    right = dni.check_letter(number)
    assert dni.parse(f"{number:08}{right}") == f"{number:08}{right}"
    if other != right:
        with pytest.raises(DniError):
            dni.parse(f"{number:08}{other}")


@given(number=st.integers(0, 99_999_999), place=st.integers(0, 7), digit=st.integers(0, 9))
def test_one_wrong_digit_always_shows(number: int, place: int, digit: int) -> None:
    """23 is a prime that divides no difference of ten's power times a digit."""
    text = f"{number:08}"
    changed = text[:place] + str(digit) + text[place + 1 :]
    assert (dni.check_letter(int(changed)) == dni.check_letter(number)) == (changed == text)


@hostile
@given(text=st.text(max_size=20))
def test_any_text_is_a_number_or_refused_without_being_repeated(text: str) -> None:
    try:
        said = dni.parse(text)
    except DniError as error:
        said = str(error)
    assert said in REFUSALS or text in {said, f"IDCES-{said}"}


@pytest.mark.parametrize("text", VECTORS["valid"])
def test_published_numbers(text: str) -> None:
    assert dni.parse(text) == text[-9:]


@pytest.mark.parametrize("text", VECTORS["invalid"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(DniError):
        dni.parse(text)


@pytest.mark.parametrize("number", [-1, 100_000_000])
def test_a_number_out_of_range(number: int) -> None:
    with pytest.raises(DniError):
        dni.check_letter(number)


def certificate(*serial_numbers: str) -> x509.Certificate:
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "ES")]
    attributes += [x509.NameAttribute(NameOID.SERIAL_NUMBER, number) for number in serial_numbers]
    return load_certificate(Authority.root().issue(card_key(KeyAlgorithm.P256), subject=x509.Name(attributes)))


@pytest.mark.parametrize("text", ["99999999R", "IDCES-99999999R"])
def test_the_holder_of_a_certificate(text: str) -> None:
    assert dni.of_certificate(certificate(text)) == "99999999R"


@pytest.mark.parametrize("texts", [(), ("99999999R", "00000000T"), ("99999999A",), ("PNOES-99999999R",)])
def test_a_certificate_that_names_no_holder(texts: tuple[str, ...]) -> None:
    with pytest.raises(CertificateError) as caught:
        dni.of_certificate(certificate(*texts))
    assert "99999999" not in str(caught.value)

"""Estonian personal codes: every code that the rule makes is read, no other is, and no message repeats one."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.personal_code import PersonalCodeError, Sex, check_digit, parse

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "personal_codes.json").read_text())

# What may be said of a text that is refused, whatever it is.
REFUSALS = {
    "a personal code is 11 digits",
    "the first digit of a personal code is 1 to 8",
    "a personal code with a birthday that no calendar has",
    "the check digit of a personal code does not match",
}

FIRST_DAY, LAST_DAY = dt.date(1800, 1, 1), dt.date(2199, 12, 31)


def by_the_rule(ten: str) -> int:
    """The check digit as the vectors' own weights give it."""
    for row in ("weights_1", "weights_2"):
        remainder = sum(int(digit) * weight for digit, weight in zip(ten, VECTORS[row], strict=True))
        remainder %= VECTORS["modulus"]
        if remainder != 10:
            return int(remainder)
    return 0


def ten_digits(sex: Sex, born: dt.date, serial: int) -> str:
    first = (born.year - 1800) // 100 * 2 + (1 if sex is Sex.MALE else 2)
    return f"{first}{born:%y%m%d}{serial:03}"


class TestLaw:
    @given(sex=st.sampled_from(Sex), born=st.dates(FIRST_DAY, LAST_DAY), serial=st.integers(0, 999))
    def test_what_the_rule_makes_is_read(self, sex: Sex, born: dt.date, serial: int) -> None:
        ten = ten_digits(sex, born, serial)
        code = parse(f"{ten}{by_the_rule(ten)}")
        assert (code.digits[:-1], code.sex, code.born) == (ten, sex, born)

    @given(born=st.dates(FIRST_DAY, LAST_DAY), serial=st.integers(0, 999), off=st.integers(1, 9))
    def test_nine_of_ten_check_digits_are_refused(self, born: dt.date, serial: int, off: int) -> None:
        ten = ten_digits(Sex.FEMALE, born, serial)
        with pytest.raises(PersonalCodeError, match="check digit"):
            parse(f"{ten}{(by_the_rule(ten) + off) % 10}")

    @hostile
    @given(st.one_of(st.text(max_size=14), st.text("0123456789", min_size=11, max_size=11)))
    def test_any_text_is_a_code_that_says_the_same_or_refused_without_being_repeated(self, text: str) -> None:
        said = ""
        try:
            code = parse(text)
        except PersonalCodeError as error:
            said = str(error)
        else:
            assert ten_digits(code.sex, code.born, int(text[7:10])) == text[:10]
        assert said in {"", *REFUSALS}


class TestPublished:
    @pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: str(vector["path"]))
    def test_valid(self, vector: dict[str, Any]) -> None:
        code = parse(vector["code"])
        assert check_digit(vector["code"][:10]) == vector["check_digit"] == int(vector["code"][-1])
        assert (code.sex, code.born.isoformat()) == (vector["sex"], vector["born"])

    @pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: str(vector["path"]))
    def test_invalid(self, vector: dict[str, Any]) -> None:
        assert check_digit(vector["code"][:10]) == vector["check_digit_computed"]
        with pytest.raises(PersonalCodeError, match="check digit"):
            parse(vector["code"])

    def test_both_rows_and_both_ends_are_covered(self) -> None:
        paths = {vector["path"] for vector in VECTORS["valid"]}
        assert paths == {"first row", "first row gives 10, second row decides", "both rows give 10"}


class TestWrong:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "11 digits"),
            ("3800108571", "11 digits"),
            ("380010857188", "11 digits"),
            ("3800108571B", "11 digits"),
            (" 8001085718", "11 digits"),
            ("٣٨٠٠١٠٨٥٧١٨", "11 digits"),
            ("²8001085718", "11 digits"),
            ("08001085718", "1 to 8"),
            ("98001085718", "1 to 8"),
            ("38000085718", "calendar"),
            ("38013085718", "calendar"),
            ("38102295718", "calendar"),
            ("39002295718", "calendar"),
        ],
    )
    def test_each_has_its_words(self, text: str, why: str) -> None:
        with pytest.raises(PersonalCodeError, match=why):
            parse(text)

    @pytest.mark.parametrize("digits", ["", "123456789", "12345678901", "12345 7890"])
    def test_a_check_digit_is_of_ten(self, digits: str) -> None:
        with pytest.raises(PersonalCodeError, match="10 digits"):
            check_digit(digits)

    def test_a_code_does_not_print_itself(self) -> None:
        code = parse(VECTORS["valid"][0]["code"])
        assert repr(code) == "PersonalCode()"

"""What a holder tells a desk: taken as it is, refused without being repeated, wiped."""

import getpass
import io
import string
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hardware import lds
from hardware.virtual.emrtd_files import Holder
from validator import holder_secrets as room
from validator.holder_secrets import ASK, SecretRefused, holder_secrets
from validator.profiles.attempt import Secrets

MRZ = "L898902C3,740812,320415"
DIGITS = st.text(string.digits)


def zone_of(holder: Holder) -> bytearray:
    """What PACE makes its key of, as the document itself has it."""
    return bytearray(lds.parse_dg1(lds.encode_dg1(holder.card())).pace_secret)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Secrets]:
    """Every `Secrets` that is made, whatever becomes of it."""
    kept: list[Secrets] = []

    def make(**given: bytearray | None) -> Secrets:
        kept.append(Secrets(**given))
        return kept[-1]

    monkeypatch.setattr(room, "Secrets", make)
    return kept


class TestLaws:
    @given(text=DIGITS)
    def test_a_can_is_six_digits_and_nothing_else(self, text: str) -> None:
        if len(text) == 6:
            assert holder_secrets(text, None, None).can == bytearray(text.encode())
        else:
            with pytest.raises(SecretRefused):
                holder_secrets(text, None, None)

    @given(text=DIGITS)
    def test_a_pin_is_four_to_twelve_digits_and_nothing_else(self, text: str) -> None:
        if 4 <= len(text) <= 12:
            assert holder_secrets(None, None, text).pin == bytearray(text.encode())
        else:
            with pytest.raises(SecretRefused):
                holder_secrets(None, None, text)

    @given(can=st.none() | st.text(), mrz=st.none() | st.text(), pin=st.none() | st.text())
    def test_whatever_is_typed_is_taken_or_refused_and_never_repeated(
        self, can: str | None, mrz: str | None, pin: str | None
    ) -> None:
        typed = [text for text in (can, mrz, pin) if text is not None]
        assume(ASK not in typed)
        try:
            told = holder_secrets(can, mrz, pin)
        except SecretRefused as refused:
            said = str(refused)
            assert said in {
                "a CAN has 6 digits",
                "a PIN has 4 to 12 digits",
                "give NUMBER,YYMMDD,YYMMDD: document number, date of birth, date of expiry",
                "give NUMBER,YYMMDD,YYMMDD: letters and digits, then six digits twice",
            }
        else:
            assert repr(told) == "Secrets()"
            assert [told.can is None, told.mrz is None, told.pin is None] == [can is None, mrz is None, pin is None]
            told.wipe()
            assert not any(any(secret) for secret in (told.can, told.mrz, told.pin) if secret is not None)

    @given(
        number=st.text(string.ascii_uppercase + string.digits, min_size=1, max_size=14),
        birth=st.text(string.digits + "<", min_size=6, max_size=6),
    )
    def test_a_machine_readable_zone_is_made_as_a_document_has_it(self, number: str, birth: str) -> None:
        holder = Holder(number=number, birth=birth)
        told = holder_secrets(None, f" {number.lower()}, {birth} ,{holder.expiry}", None)
        assert told.mrz == zone_of(holder)


class TestAsked:
    def test_each_is_read_from_a_line_of_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        piped(monkeypatch, f"123456\r\n{MRZ}\n4711\nleft for others\n")
        told = holder_secrets(ASK, ASK, ASK)
        assert (told.can, told.pin) == (bytearray(b"123456"), bytearray(b"4711"))
        assert told.mrz == zone_of(Holder())
        assert sys.stdin.read() == "left for others\n"

    def test_a_person_at_a_terminal_is_asked_without_showing_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def answer(question: str) -> str:
            asked.append(question)
            return "4711"

        monkeypatch.setattr(sys, "stdin", Terminal("1147\n"))
        monkeypatch.setattr(getpass, "getpass", answer)
        assert holder_secrets(None, None, ASK).pin == bytearray(b"4711")
        assert asked == ["PIN1: "]

    def test_a_line_that_never_came_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        piped(monkeypatch, "")
        with pytest.raises(SecretRefused, match="a PIN has 4 to 12 digits"):
            holder_secrets(None, None, ASK)

    def test_what_is_not_asked_for_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        piped(monkeypatch, "4711\n")
        assert holder_secrets(None, None, None) == Secrets()
        assert sys.stdin.read() == "4711\n"


REFUSED = [
    ("12345", None, None),
    ("1234567", None, None),
    ("12345a", None, None),
    ("١٢٣٤٥٦", None, None),
    (None, None, "123"),
    (None, None, "1234567890123"),
    (None, None, "47 11"),
    (None, "L898902C3", None),
    (None, "L898902C3,740812", None),
    (None, "L898902C3,740812,", None),
    (None, "L898902C3,740812,320415,1", None),
    (None, "L898902C3,74081,320415", None),
    (None, "L898902C3,740812,32O415", None),
    (None, "L8989-2C3,740812,320415", None),
    (None, "<<<,740812,320415", None),
]


@pytest.mark.parametrize(("can", "mrz", "pin"), REFUSED)
def test_what_cannot_be_one_is_refused_and_wiped(
    made: list[Secrets], can: str | None, mrz: str | None, pin: str | None
) -> None:
    with pytest.raises(SecretRefused) as refused:
        holder_secrets(can, mrz, pin)
    typed = can or mrz or pin
    assert typed is not None
    assert typed not in str(refused.value)
    held = [one for one in (made[0].can, made[0].mrz, made[0].pin) if one is not None]
    assert len(held) == 1
    assert not any(held[0])


def test_one_that_is_wrong_takes_the_good_ones_with_it(made: list[Secrets]) -> None:
    with pytest.raises(SecretRefused):
        holder_secrets("123456", MRZ, "123")
    assert [len(one or b"") for one in (made[0].can, made[0].mrz, made[0].pin)] == [6, len(MRZ), 3]
    assert not any(any(one or b"") for one in (made[0].can, made[0].mrz, made[0].pin))

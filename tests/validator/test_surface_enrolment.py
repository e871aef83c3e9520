"""Enrolment of a MyNumber card's key: a record that its issuer signed, by a card that holds the key, or nothing."""

import datetime as dt
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from hardware import tlv
from hardware.virtual.mynumber import MynumberChip, age_record, card_verifiable_certificate, public_key_objects
from tests.hostile import hostile
from tests.validator.attempting import attempt
from tests.validator.mynumber_cards import (
    BIRTH_DATE,
    BIRTH_DIGITS,
    IDENTIFICATION,
    ROOT,
    ROOT_ID,
    STRANGER,
    SURFACE,
    TOWN,
    TOWN_ID,
    Exchanges,
    Torn,
    chip,
    over,
    personalised,
    spoilt,
    tap,
    torn,
)
from validator.certificates import spki_of
from validator.model import Reason
from validator.profiles.errors import CardMalformed, CardRefused, PinAtRisk, PinBlocked, ProfileError, WrongFamily
from validator.surface_enrolment import (
    EnrolmentRefusedError,
    MunicipalCertificate,
    SurfaceEnrolment,
    SurfaceFiles,
    WrongBirthDate,
    collect,
    judge,
    opening_digits,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "mynumber.json"


[_known] = [each for each in json.loads(VECTORS.read_text()) if each["name"] == "reference-number-b"]
PUBLISHED_DATES = [(_known[told], _known["birth_digits"]) for told in ("birth_date", "reference_number_b")]


def roots() -> dict[bytes, rsa.RSAPublicKey]:
    return {ROOT_ID: ROOT().public_key()}


def read(carry: Exchanges, told: str = BIRTH_DIGITS) -> SurfaceFiles:
    return tap(collect(attempt(), opening_digits(told)), carry)


@cache
def given_files() -> SurfaceFiles:
    return read(over(chip()))


def refused(card: MynumberChip, known: dict[bytes, rsa.RSAPublicKey] | None = None) -> Reason:
    files = read(over(card))
    with pytest.raises(EnrolmentRefusedError) as caught:
        judge(files, roots() if known is None else known)
    return caught.value.reason


def shown_dates(carry: Exchanges) -> list[str]:
    return [command for command in carry.commands if command.startswith("00200080") and len(command) > 8]


class TestEnrolled:
    def test_the_key_is_enrolled_under_the_identification_number(self) -> None:
        found = judge(read(over(chip())), roots())
        assert found == SurfaceEnrolment(IDENTIFICATION, spki_of(SURFACE().public_key()))

    def test_what_crosses_the_air(self) -> None:
        carry = over(chip())
        read(carry)
        digits = BIRTH_DIGITS.encode().hex().upper()
        assert carry.commands[:-1] == [
            "00CA004500",
            "00A4040C0AD3921000310001010402",
            "00A4020C020004",
            "00B0000000",
            "00B0010000",
            "00B0020038",
            "00A4020C020011",
            "00200080",
            f"0020008006{digits}",
            "00A4020C020001",
            "00B0000000",
            "00B0010000",
            "00B0020023",
        ]
        assert carry.commands[-1].startswith("802A0000333031300D0609608648016503040201")

    @pytest.mark.parametrize("told", [BIRTH_DIGITS, BIRTH_DATE, BIRTH_DIGITS + "20352285"])
    def test_the_birth_date_is_told_in_any_form(self, told: str) -> None:
        carry = over(chip())
        assert judge(read(carry, told), roots()).identifier == IDENTIFICATION
        assert shown_dates(carry) == ["0020008006" + BIRTH_DIGITS.encode().hex().upper()]

    @given(piece=st.integers(32, 256))
    def test_whatever_the_pieces(self, piece: int) -> None:
        assert judge(read(over(chip(piece=piece))), roots()).spki == spki_of(SURFACE().public_key())

    def test_what_was_read_prints_nothing_of_the_holder(self) -> None:
        assert repr(read(over(chip()))) == "SurfaceFiles()"


class TestBirthDate:
    @pytest.mark.parametrize(
        ("told", "digits"),
        [
            *PUBLISHED_DATES,
            ("19890107", "640107"),
            ("19890108", "010108"),
            ("20190430", "310430"),
            ("20190501", "010501"),
            ("19261224", "151224"),
            ("19261225", "011225"),
            ("19120729", "450729"),
            ("19120730", "010730"),
            ("18680125", "010125"),
            ("20261123", "081123"),
        ],
    )
    def test_eras_begin_on_their_first_day(self, told: str, digits: str) -> None:
        assert opening_digits(told) == digits.encode()

    @given(day=st.dates(dt.date(1868, 1, 25), dt.date(2100, 1, 1)))
    def test_month_and_day_stay_and_the_year_has_two_digits(self, day: dt.date) -> None:
        digits = opening_digits(f"{day:%Y%m%d}").decode()
        assert len(digits) == 6
        assert digits[2:] == f"{day:%m%d}"
        assert 1 <= int(digits[:2]) <= 82

    @pytest.mark.parametrize(
        "told",
        ["", "1", "1989010", "19890132", "18680124", "1989-1-8", "\uff10\uff11\uff10\uff11\uff10\uff18", "x" * 6],
    )
    def test_what_is_no_birth_date_is_not_repeated(self, told: str) -> None:
        with pytest.raises(ValueError, match=r"birth|day|born") as caught:
            opening_digits(told)
        assert len(told) < 4 or told not in str(caught.value)

    def test_a_wrong_one_is_shown_once(self) -> None:
        card = chip()
        carry = over(card)
        with pytest.raises(WrongBirthDate, match="birth date; 9 tries") as caught:
            read(carry, "640107")
        assert (caught.value.tries_left, caught.value.reason, len(shown_dates(carry))) == (9, Reason.WRONG_PIN, 1)

    def test_the_last_try_is_never_spent(self) -> None:
        card = chip()
        for _ in range(9):
            with pytest.raises(WrongBirthDate):
                read(over(card), "640107")
        carry = over(card)
        with pytest.raises(PinAtRisk):
            read(carry)
        assert shown_dates(carry) == []

    def test_a_blocked_one_is_said(self) -> None:
        card = chip()
        for command in ("00A4040C0AD3921000310001010402", "00A4020C020011", *["0020008006303030303030"] * 10):
            card.process(bytes.fromhex(command))
        with pytest.raises(PinBlocked):
            read(over(card))


def record_of(*objects: tuple[int, bytes]) -> bytes:
    return tlv.encode(0xFF10, b"".join(tlv.encode(tag, value) for tag, value in objects))


def good_fields() -> list[tuple[int, bytes]]:
    return [(item.tag, item.value) for item in tlv.parse(tlv.parse_one(personalised().record, 0xFF10))]


class TestRefused:
    def test_a_root_that_is_not_given(self) -> None:
        assert refused(chip(), {}) is Reason.UNTRUSTED_ISSUER

    def test_a_root_of_that_name_with_another_key(self) -> None:
        assert refused(chip(), {ROOT_ID: STRANGER().public_key()}) is Reason.UNTRUSTED_ISSUER

    def test_an_identifier_counts_to_its_last_byte(self) -> None:
        other = ROOT_ID[:-1] + b"\xa8"
        assert refused(chip(), {other: ROOT().public_key()}) is Reason.UNTRUSTED_ISSUER

    def test_a_town_that_certified_itself(self) -> None:
        own = card_verifiable_certificate(ROOT_ID, TOWN_ID, STRANGER().public_key(), STRANGER())
        record = age_record(BIRTH_DATE, SURFACE().public_key(), STRANGER())
        assert refused(chip(certificate=own, record=record)) is Reason.UNTRUSTED_ISSUER

    def test_a_record_that_another_town_signed(self) -> None:
        record = age_record(BIRTH_DATE, SURFACE().public_key(), STRANGER())
        assert refused(chip(record=record)) is Reason.DATA_TAMPERED

    def test_a_record_that_the_card_signed_itself(self) -> None:
        record = age_record(BIRTH_DATE, SURFACE().public_key(), SURFACE())
        assert refused(chip(record=record)) is Reason.DATA_TAMPERED

    def test_another_birth_date_in_the_record(self) -> None:
        fields = good_fields()
        fields[0] = (0xDF11, b"19890109")
        assert refused(chip(record=record_of(*fields))) is Reason.DATA_TAMPERED

    def test_another_key_in_the_record(self) -> None:
        fields = good_fields()
        fields[1] = (0xDF12, public_key_objects(STRANGER().public_key()))
        assert refused(chip(record=record_of(*fields), surface_key=STRANGER())) is Reason.DATA_TAMPERED

    def test_a_copy_without_its_key(self) -> None:
        assert refused(chip(surface_key=STRANGER())) is Reason.WRONG_SIGNATURE

    def test_a_signature_of_another_moment(self) -> None:
        files = read(over(chip()))
        later = replace(attempt(), wall_ms=attempt().wall_ms + 1)
        fresh = tap(collect(later, opening_digits(BIRTH_DIGITS)), over(chip()))
        with pytest.raises(EnrolmentRefusedError) as caught:
            judge(replace(fresh, signature=files.signature), roots())
        assert caught.value.reason is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize(
        "key", [rsa.generate_private_key(65537, 3072), rsa.generate_private_key(3, 2048)], ids=["3072", "exponent 3"]
    )
    def test_a_key_of_another_kind(self, key: rsa.RSAPrivateKey) -> None:
        public = key.public_key()
        assert refused(chip(record=age_record(BIRTH_DATE, public, TOWN()))) is Reason.UNSUPPORTED_KEY
        certificate = card_verifiable_certificate(ROOT_ID, TOWN_ID, public, ROOT())
        assert refused(chip(certificate=certificate)) is Reason.UNSUPPORTED_KEY

    def test_a_modulus_that_no_key_has(self) -> None:
        even = tlv.encode(0x90, b"\x01\x00\x01") + tlv.encode(0x91, b"\xff" * 255 + b"\xfe")
        fields = good_fields()
        fields[1] = (0xDF12, even)
        assert refused(chip(record=record_of(*fields))) is Reason.UNSUPPORTED_KEY

    @pytest.mark.parametrize("order", [(1, 0, 2), (0, 1), (0, 2), (0, 1, 2, 2), (0, 0, 1, 2), (2, 0, 1), ()])
    def test_a_record_with_other_fields(self, order: tuple[int, ...]) -> None:
        fields = good_fields()
        card = chip(record=record_of(*(fields[index] for index in order)))
        assert refused(card) is Reason.MALFORMED_ANSWER

    def test_a_longer_spelling_of_a_length_is_another_record(self) -> None:
        (_, birth), (_, key), (_, signature) = good_fields()
        inside = b"\xdf\x11\x81\x08" + birth + tlv.encode(0xDF12, key) + tlv.encode(0xDF13, signature)
        assert refused(chip(record=tlv.encode(0xFF10, inside))) is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize(
        "key",
        [
            b"",
            tlv.encode(0x90, b"\x01\x00\x01"),
            tlv.encode(0x91, b"\xff" * 256) + tlv.encode(0x90, b"\x01\x00\x01"),
            tlv.encode(0x90, b"\x01\x00\x01") * 2 + tlv.encode(0x91, b"\xff" * 256),
            b"\x90\x81\x03\x01\x00\x01" + tlv.encode(0x91, b"\xff" * 256),
            b"\x90\x03\x01",
        ],
        ids=range(6),
    )
    def test_a_key_in_another_form(self, key: bytes) -> None:
        fields = good_fields()
        fields[1] = (0xDF12, key)
        assert refused(chip(record=record_of(*fields))) is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize("body", [b"", bytes(16), bytes(32)])
    def test_a_certificate_without_a_key(self, body: bytes) -> None:
        octets = tlv.encode(0x7F21, tlv.encode(0x5F4E, body) + tlv.encode(0x5F37, bytes(256)))
        assert refused(chip(certificate=octets)) is Reason.MALFORMED_ANSWER


class TestBadCards:
    @pytest.mark.parametrize(
        ("prefix", "answer", "error"),
        [
            ("00A4040C0A", "6A82", WrongFamily),
            ("00A4020C020004", "6A82", CardRefused),
            ("00A4020C020011", "6A82", CardRefused),
            ("00A4020C020001", "6A82", CardRefused),
            ("00B0", "6982", CardRefused),
            ("00B0", "FFFF9000", CardMalformed),
            ("00B0", "9000", CardMalformed),
            ("0020008006", "6700", CardRefused),
            ("802A", "6982", CardRefused),
            ("802A", "9000", CardMalformed),
        ],
    )
    def test_each_wrong_answer_has_its_refusal(self, prefix: str, answer: str, error: type[ProfileError]) -> None:
        verb = over(chip())

        def process(command: bytes) -> bytes:
            return bytes.fromhex(answer) if command.startswith(bytes.fromhex(prefix)) else verb(command)

        with pytest.raises(error) as caught:
            read(Exchanges(process))
        assert type(caught.value) is error

    def test_a_card_that_leaves_at_any_exchange_is_just_gone(self) -> None:
        whole = over(chip())
        read(whole)
        for after in range(len(whole.log)):
            with pytest.raises(Torn):
                read(torn(chip(), after))

    @hostile
    @given(
        answers=st.lists(st.binary(min_size=2, max_size=300), max_size=12),
        last=st.sampled_from([b"\x90\x00", b"\x61\x10"]),
    )
    def test_any_answers_end_in_a_profile_error(self, answers: list[bytes], last: bytes) -> None:
        script = iter(answers)
        with pytest.raises(ProfileError):
            read(Exchanges(lambda _command: next(script, last)))

    @given(position=st.integers(0, 15), index=st.integers(0, 260), flip=st.integers(1, 255))
    def test_one_flipped_byte_never_enrols_another_key(self, position: int, index: int, flip: int) -> None:
        def change(answer: bytes) -> bytes:
            other = bytearray(answer)
            other[index % len(other)] ^= flip
            return bytes(other)

        try:
            found = judge(read(spoilt(chip(), position, change)), roots())
        except (ProfileError, EnrolmentRefusedError):
            return
        assert found.spki == spki_of(SURFACE().public_key())


class TestParsers:
    @hostile
    @given(octets=st.binary(max_size=700))
    def test_any_bytes_end_in_one_error(self, octets: bytes) -> None:
        with pytest.raises(EnrolmentRefusedError):
            MunicipalCertificate.parse(octets)
        with pytest.raises(EnrolmentRefusedError):
            judge(replace(given_files(), record=octets), roots())

    @given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
    def test_one_flipped_byte_of_a_certificate_is_seen(self, position: int, flip: int) -> None:
        files = read(over(chip()))
        octets = bytearray(files.certificate)
        octets[position % len(octets)] ^= flip
        with pytest.raises(EnrolmentRefusedError):
            judge(replace(files, certificate=bytes(octets)), roots())

    @given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
    def test_one_flipped_byte_of_a_record_is_seen(self, position: int, flip: int) -> None:
        files = read(over(chip()))
        octets = bytearray(files.record)
        octets[position % len(octets)] ^= flip
        with pytest.raises(EnrolmentRefusedError):
            judge(replace(files, record=bytes(octets)), roots())


def test_the_published_layout() -> None:
    """Lengths that soltia48/myna-card read off a test card: the record's header, its key's, the certificate's body."""
    [layout] = [each for each in json.loads(VECTORS.read_text()) if each["name"] == "record-layouts"]
    record, certificate = personalised().record, personalised().certificate
    assert record.startswith(bytes.fromhex(layout["record_header"]))
    assert bytes.fromhex(layout["record_key_header"]) in record
    assert bytes.fromhex(layout["record_signature_header"]) in record
    assert certificate.startswith(bytes.fromhex(layout["certificate_header"]))
    assert len(MunicipalCertificate.parse(certificate).body) == layout["certificate_body_bytes"]

"""The contact profile of EstEID 3: octets, what each wrong answer becomes, and a PIN that is sent once or never."""

import hashlib
from collections.abc import Callable, Generator
from typing import TypeVar

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.medium import MediumLost
from hardware.virtual.esteid3 import EstEid3Chip
from tests.hostile import hostile
from tests.validator import estonian_cards
from tests.validator.attempting import GATE, WALL_MS, counting
from tests.validator.authority import Authority, CardPrivateKey, card_key
from tests.validator.estonian_cards import CODE, GIVEN, PERSON, PIN, SURNAME, Contacts, attempting, chip_of, tap
from validator.certificates import certificate_key, load_certificate
from validator.dialogue import MAX_APDUS, MAX_BYTES, Traffic
from validator.model import Assurance, KeyAlgorithm, Reason, Scheme
from validator.profiles import esteid3
from validator.profiles.attempt import challenge_message
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    PinAtRisk,
    PinBlocked,
    ProfileError,
    WrongFamily,
    WrongPin,
)
from validator.proof import CardProof, IdCertificate, Shown, Signed, Unproved

T = TypeVar("T")

MESSAGE = challenge_message(GATE, WALL_MS, counting(32))
DIGEST_INFO = "3031300D060960864801650304020105000420"
KINDS = pytest.mark.parametrize("algorithm", [KeyAlgorithm.RSA2048, KeyAlgorithm.P384])
SELECT = ["00A4000C", "00A4010C02EEEE", "00A4020402AACE00"]


@pytest.fixture(scope="module")
def chip(authority: Authority) -> EstEid3Chip:
    return chip_of(authority)


def hexes(log: list[bytes]) -> list[str]:
    return [command.hex().upper() for command in log]


def holds(proof: CardProof) -> bool:
    """Whether the key of the certificate that was shown made the signature."""
    assert isinstance(proof.shown, IdCertificate)
    assert isinstance(proof.evidence, Signed)
    key = certificate_key(load_certificate(proof.shown.der))
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(proof.evidence.signature, proof.evidence.challenge, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(proof.evidence.signature, proof.evidence.challenge, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def read(dialogue: Generator[CommandApdu, ResponseApdu, T], answer: Callable[[bytes], bytes]) -> T:
    command = next(dialogue)
    while True:
        try:
            command = dialogue.send(ResponseApdu.from_bytes(answer(bytes(command))))
        except StopIteration as done:
            value: T = done.value
            return value


class TestClaim:
    @KINDS
    def test_without_a_pin_the_certificate_is_read_and_nothing_else(
        self, authority: Authority, algorithm: KeyAlgorithm
    ) -> None:
        contacts = Contacts.holding(chip_of(authority, algorithm))
        proof = tap(contacts, attempting())
        assert (proof.profile, proof.assurance, proof.evidence) == ("esteid3", Assurance.CLAIMED, Unproved())
        assert isinstance(proof.shown, IdCertificate)
        assert (proof.shown.scheme, proof.cache_key) == (Scheme.ESTONIA, None)
        certificate = load_certificate(proof.shown.der)
        assert certificate.subject == estonian_cards.subject(estonian_cards.Form.OF_2011)
        size = len(proof.shown.der)
        reads = [f"00B0{at:04X}{min(250, size - at) if at else 250:02X}" for at in range(0, size, 250)]
        assert hexes(contacts.log) == [*SELECT, *reads]

    def test_the_personal_data_file_is_not_touched(self, chip: EstEid3Chip) -> None:
        for pin in (None, PIN):
            contacts = Contacts.holding(chip)
            tap(contacts, attempting(pin))
            assert not any(bytes.fromhex("5044") in command for command in contacts.log)

    def test_what_it_is_judged_by_is_announced(self, chip: EstEid3Chip) -> None:
        seen: list[Shown] = []
        proof = tap(Contacts.holding(chip), attempting(begin=seen.append))
        assert seen == [proof.shown]

    @pytest.mark.parametrize("piece", [64, 100, 200, 249, 250, 255, 256])
    def test_any_size_of_answer_gives_the_same_certificate(self, authority: Authority, piece: int) -> None:
        shown = tap(Contacts.holding(chip_of(authority, piece=piece)), attempting()).shown
        assert isinstance(shown, IdCertificate)
        load_certificate(shown.der)

    def test_a_card_on_the_air_is_none_of_these_and_is_not_asked(self, chip: EstEid3Chip) -> None:
        contacts = Contacts.holding(chip)
        with pytest.raises(WrongFamily):
            tap(contacts, attempting(contactless=True))
        assert contacts.log == []

    def test_an_application_among_others_is_selected_by_its_name(self, chip: EstEid3Chip) -> None:
        contacts = Contacts.holding(chip)
        inner, named = contacts.answer, bytes.fromhex("00A404000FD2330000004573744549442076333500")

        def answer(command: bytes) -> bytes:
            return inner(command) if named in contacts.log else b"\x6a\x82"

        contacts.answer = answer
        assert tap(contacts, attempting()).assurance is Assurance.CLAIMED
        assert contacts.log[:3] == [bytes.fromhex("00A4000C"), named, bytes.fromhex("00A4010C02EEEE")]


class TestHolder:
    @KINDS
    def test_with_pin1_the_key_signs_our_challenge(self, authority: Authority, algorithm: KeyAlgorithm) -> None:
        contacts = Contacts.holding(chip_of(authority, algorithm))
        seen: list[Shown] = []
        proof = tap(contacts, attempting(PIN, begin=seen.append))
        assert (proof.profile, proof.assurance, seen) == ("esteid3", Assurance.HOLDER, [proof.shown])
        assert isinstance(proof.evidence, Signed)
        assert (proof.evidence.challenge, proof.evidence.algorithm) == (MESSAGE, algorithm)
        assert holds(proof)
        asked = (
            f"{DIGEST_INFO}{hashlib.sha256(MESSAGE).hexdigest()}"
            if algorithm is KeyAlgorithm.RSA2048
            else hashlib.sha384(MESSAGE).hexdigest()
        ).upper()
        signing = [command for command in hexes(contacts.log) if not command.startswith(("00B0", "00C0"))]
        assert signing == [
            *SELECT,
            "00A4000C",
            "00A4020402001600",
            "00B2010400",
            "00A4000C",
            "00A4010C02EEEE",
            "0022F30100",
            "0020000106" + PIN.encode().hex(),
            f"00880000{len(asked) // 2:02X}{asked}00",
        ]

    def test_it_stays_far_below_the_bounds_of_a_dialogue(self, chip: EstEid3Chip) -> None:
        traffic = Traffic()
        tap(Contacts.holding(chip), attempting(PIN), traffic)
        assert traffic.apdus < MAX_APDUS // 3
        assert traffic.bytes_in < MAX_BYTES // 4

    def test_a_signature_in_pieces(self, authority: Authority) -> None:
        assert holds(tap(Contacts.holding(chip_of(authority, piece=100)), attempting(PIN)))

    def test_a_cloned_certificate_does_not_hold(self, authority: Authority) -> None:
        clone = chip_of(authority, certificate_key=card_key(KeyAlgorithm.RSA2048, 1))
        assert not holds(tap(Contacts.holding(clone), attempting(PIN)))

    def test_replayed_answers_do_not_hold_for_a_new_challenge(self, chip: EstEid3Chip) -> None:
        contacts = Contacts.holding(chip)
        assert holds(tap(contacts, attempting(PIN)))
        replay = iter(contacts.answers)
        proof = tap(lambda _command: next(replay), attempting(PIN, random=lambda count: b"\x77" * count))
        assert not holds(proof)

    @KINDS
    def test_two_cards_with_two_keys_never_stand_for_each_other(
        self, authority: Authority, algorithm: KeyAlgorithm
    ) -> None:
        kinds = {KeyAlgorithm.RSA2048: KeyAlgorithm.P384, KeyAlgorithm.P384: KeyAlgorithm.RSA2048}
        clone = chip_of(authority, algorithm, certificate_key=card_key(kinds[algorithm]))
        contacts = Contacts.holding(clone)
        with pytest.raises(ProfileError) as caught:
            tap(contacts, attempting(PIN))
        assert caught.value.reason is Reason.MALFORMED_ANSWER


class TestPin:
    def test_a_wrong_pin_says_what_is_left_and_is_not_sent_again(self, authority: Authority) -> None:
        chip = chip_of(authority)
        contacts = Contacts.holding(chip)
        with pytest.raises(WrongPin) as caught:
            tap(contacts, attempting("9999"))
        assert (caught.value.tries_left, caught.value.reason) == (2, Reason.WRONG_PIN)
        assert (contacts.verifications, chip.tries_left) == (1, 2)

    def test_the_last_try_is_the_holders(self, authority: Authority) -> None:
        chip = chip_of(authority, tries=1)
        contacts = Contacts.holding(chip)
        with pytest.raises(PinAtRisk) as caught:
            tap(contacts, attempting(PIN))
        assert caught.value.reason is Reason.PIN_AT_RISK
        assert (contacts.verifications, chip.tries_left) == (0, 1)

    def test_a_blocked_pin_is_said_and_not_tried(self, authority: Authority) -> None:
        contacts = Contacts.holding(chip_of(authority, tries=0))
        with pytest.raises(PinBlocked) as caught:
            tap(contacts, attempting(PIN))
        assert (caught.value.reason, contacts.verifications) == (Reason.PIN_BLOCKED, 0)

    def test_a_good_pin_restores_the_tries(self, authority: Authority) -> None:
        chip = chip_of(authority, tries=2)
        assert holds(tap(Contacts.holding(chip), attempting(PIN)))
        assert chip.tries_left == 3

    @pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "12 4", "1234\n"])
    def test_what_no_card_has_for_a_pin_costs_no_try(self, authority: Authority, pin: str) -> None:
        chip = chip_of(authority)
        contacts = Contacts.holding(chip)
        with pytest.raises(WrongPin) as caught:
            tap(contacts, attempting(pin))
        assert (caught.value.tries_left, contacts.verifications, chip.tries_left) == (3, 0, 3)

    @pytest.mark.parametrize(
        ("answer", "error", "left"),
        [
            ("63C2", WrongPin, 2),
            ("63C1", WrongPin, 1),
            ("63CF", WrongPin, 15),
            ("63C0", PinBlocked, None),
            ("6983", PinBlocked, None),
            ("6982", CardRefused, None),
            ("6985", CardRefused, None),
            ("6300", CardRefused, None),
            ("6C04", CardRefused, None),  # an Le that would send the PIN twice
            ("6104", CardRefused, None),
            ("6A88", CardRefused, None),
        ],
    )
    def test_each_answer_to_verify_has_its_words(
        self, chip: EstEid3Chip, answer: str, error: type[ProfileError], left: int | None
    ) -> None:
        contacts = Contacts.holding(chip)
        inner = contacts.answer
        contacts.answer = lambda command: bytes.fromhex(answer) if command[1] == 0x20 else inner(command)
        with pytest.raises(error) as caught:
            tap(contacts, attempting(PIN))
        assert type(caught.value) is error
        assert getattr(caught.value, "tries_left", None) == left
        assert contacts.verifications == 1
        assert contacts.log[-1][1] == 0x20

    @pytest.mark.parametrize(
        ("record", "error"),
        [
            ("800103900103 9000", None),
            ("800103900102 83020000 9000", None),
            ("9001028001039000", None),
            ("800103900101 9000", PinAtRisk),
            ("800103900100 9000", PinBlocked),
            ("8001039000", CardMalformed),
            ("9000", CardMalformed),
            ("80010390020003 9000", CardMalformed),
            ("80010390 9000", CardMalformed),
            ("800103 9000 9000", CardMalformed),
            ("FF" * 51 + "9000", CardMalformed),
            ("6A83", CardRefused),
            ("6982", CardRefused),
        ],
    )
    def test_no_pin_is_sent_before_the_tries_are_known(
        self, chip: EstEid3Chip, record: str, error: type[ProfileError] | None
    ) -> None:
        contacts = Contacts.holding(chip)
        inner = contacts.answer
        contacts.answer = lambda command: bytes.fromhex(record) if command[1] == 0xB2 else inner(command)
        if error is None:
            assert holds(tap(contacts, attempting(PIN)))
            return
        with pytest.raises(error) as caught:
            tap(contacts, attempting(PIN))
        assert type(caught.value) is error
        assert contacts.verifications == 0


def der_of(size: int) -> str:
    return "3082" + f"{size:04X}"


class TestRefusals:
    @pytest.mark.parametrize(
        ("prefix", "answer", "error", "reason"),
        [
            ("00A4", "6A82", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00A4", "6D00", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00A4010C", "6A82", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00A4010C", "6A86", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00A4020402AACE", "6A82", CardRefused, Reason.MALFORMED_ANSWER),
            ("00A40204020016", "6A82", CardRefused, Reason.MALFORMED_ANSWER),
            ("00B00000", "6982", CardRefused, Reason.MALFORMED_ANSWER),
            ("00B00000", "6B00", CardRefused, Reason.MALFORMED_ANSWER),
            ("00B00000", "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "6282", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "30829000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "00" * 250 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "FF" * 250 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "3081C8" + "00" * 200 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "3080" + "00" * 200 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", "30830004 00" + "00" * 200 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", der_of(0x5FD) + "00" * 200 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", der_of(0xFFFF) + "00" * 200 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B00000", der_of(0x300) + "00" * 247 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),  # 251 bytes
            ("00B00000", der_of(0x0010) + "00" * 16 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B000FA", "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00B000FA", "6B00", CardRefused, Reason.MALFORMED_ANSWER),
            ("0022F301", "6A88", CardRefused, Reason.MALFORMED_ANSWER),
            ("00880000", "6982", CardRefused, Reason.MALFORMED_ANSWER),
            ("00880000", "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00880000", "00" * 255 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00880000", "00" * 257 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00880000", "00" * 96 + "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00880000", "6100", CardRefused, Reason.MALFORMED_ANSWER),
        ],
    )
    def test_each_wrong_answer_has_its_reason(
        self, chip: EstEid3Chip, prefix: str, answer: str, error: type[ProfileError], reason: Reason
    ) -> None:
        contacts = Contacts.holding(chip)
        inner, start = contacts.answer, bytes.fromhex(prefix)

        contacts.answer = lambda command: bytes.fromhex(answer) if command.startswith(start) else inner(command)
        with pytest.raises(error) as caught:
            tap(contacts, attempting(PIN))
        assert type(caught.value) is error
        assert caught.value.reason is reason

    @pytest.mark.parametrize("signature", ["00" * 96, "00" * 48 + "01" * 48, "01" * 48 + "00" * 48])
    def test_a_signature_with_a_zero_in_it(self, authority: Authority, signature: str) -> None:
        contacts = Contacts.holding(chip_of(authority, KeyAlgorithm.P384))
        inner = contacts.answer
        contacts.answer = lambda command: bytes.fromhex(signature + "9000") if command[1] == 0x88 else inner(command)
        with pytest.raises(CardMalformed, match="zero"):
            tap(contacts, attempting(PIN))

    @pytest.mark.parametrize("kind", ["P-256", "RSA-3072", "RSA-1024", "secp256k1"])
    def test_a_key_that_no_such_card_has_costs_no_try(self, authority: Authority, kind: str) -> None:
        keys: dict[str, Callable[[], CardPrivateKey]] = {
            "P-256": lambda: card_key(KeyAlgorithm.P256),
            "RSA-3072": lambda: card_key(KeyAlgorithm.RSA3072),
            "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
            "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        }
        contacts = Contacts.holding(chip_of(authority, certificate_key=keys[kind]()))
        with pytest.raises(KeyUnsupported) as caught:
            tap(contacts, attempting(PIN))
        assert (caught.value.reason, contacts.verifications) == (Reason.UNSUPPORTED_KEY, 0)

    def test_a_file_that_is_no_certificate_costs_no_try(self) -> None:
        chip = EstEid3Chip(card_key(KeyAlgorithm.RSA2048), bytes.fromhex(der_of(0x200)) + bytes(0x200), PERSON, pin=PIN)
        contacts = Contacts.holding(chip)
        with pytest.raises(CardMalformed, match="not a certificate"):
            tap(contacts, attempting(PIN))
        assert contacts.verifications == 0

    def test_a_certificate_in_crumbs_is_refused(self, chip: EstEid3Chip) -> None:
        contacts = Contacts.holding(chip)
        inner = contacts.answer

        def crumble(command: bytes) -> bytes:
            return inner(command[:4] + b"\x08") if command[1] == 0xB0 else inner(command)

        contacts.answer = crumble
        with pytest.raises(CardMalformed, match=f"more than {esteid3.MAX_READS} pieces"):
            tap(contacts, attempting())
        assert len(contacts.log) == len(SELECT) + esteid3.MAX_READS

    def test_a_card_torn_away_at_any_apdu_is_lost_and_has_a_try_for_each_tear(self, authority: Authority) -> None:
        whole = Contacts.holding(chip_of(authority))
        tap(whole, attempting(PIN))
        for count in range(len(whole.log)):
            chip = chip_of(authority)
            contacts = Contacts.holding(chip)

            def torn(command: bytes, contacts: Contacts = contacts, count: int = count) -> bytes:
                if len(contacts.log) == count:
                    raise MediumLost("test", "torn away")
                return contacts(command)

            with pytest.raises(MediumLost):
                tap(torn, attempting(PIN))
            assert (contacts.verifications <= 1, chip.tries_left) == (True, 3)


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=64),
    st.integers(2, 300).map(bytes),
    st.tuples(
        st.one_of(
            st.binary(max_size=64),
            st.integers(0, 258).map(lambda size: b"A" * size),
            st.just(bytes.fromhex("800103900103")),
            st.just(bytes.fromhex("30820200")),
        ),
        st.sampled_from(["9000", "6100", "6110", "6C10", "6282", "6A82", "63C2", "6983"]),
    ).map(lambda parts: parts[0] + bytes.fromhex(parts[1])),
)


class TestHostile:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER, pin=st.sampled_from([None, PIN]))
    def test_any_answers_end_in_a_claim_or_a_profile_error_within_bounds(
        self, answers: list[bytes], last: bytes, pin: str | None
    ) -> None:
        script = iter(answers)
        contacts = Contacts(lambda _command: next(script, last))
        traffic, said = Traffic(), ""
        try:
            proof = tap(contacts, attempting(pin), traffic)
        except ProfileError as error:
            said = f"{error}{error!r}"
        else:
            assert proof.assurance is Assurance.CLAIMED
        assert PIN not in said
        assert traffic.apdus <= MAX_APDUS
        assert contacts.verifications <= 1

    @given(
        spoilt=st.dictionaries(st.integers(0, 24), st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
        cut=st.integers(0, 300),
        at=st.integers(0, 24),
    )
    def test_spoilt_answers_never_prove_and_never_send_the_pin_twice(
        self, authority: Authority, spoilt: dict[int, tuple[int, int]], cut: int, at: int
    ) -> None:
        """A proof that comes back all the same holds, or the key that signed is not the certificate's."""
        chip = chip_of(authority)
        contacts = Contacts.holding(chip)
        inner = contacts.answer

        def spoil(command: bytes) -> bytes:
            answer = bytearray(inner(command))
            number = len(contacts.log) - 1
            position, flip = spoilt.get(number, (0, 0))
            answer[position % len(answer)] ^= flip
            return bytes(answer[: cut or None] if number == at else answer)

        contacts.answer = spoil
        said = ""
        try:
            proof = tap(contacts, attempting(PIN))
        except ProfileError as error:
            said = f"{error}{error!r}"
        else:
            assert proof.assurance is Assurance.HOLDER
            assert isinstance(proof.evidence, Signed)
            assert proof.evidence.challenge == MESSAGE
        assert not any(secret in said for secret in (PIN, CODE, SURNAME, GIVEN))
        assert contacts.verifications <= 1
        assert chip.tries_left == 3

    @hostile
    @given(answers=st.lists(ANSWER, max_size=24), last=ANSWER)
    def test_any_personal_data_end_in_text_or_a_profile_error(self, answers: list[bytes], last: bytes) -> None:
        script = iter(answers)
        count = 0

        def answer(_command: bytes) -> bytes:
            nonlocal count
            count += 1
            assert count <= 20 * 130  # each of twenty exchanges may fetch what it announced, within its own bound
            return next(script, last)

        try:
            data = read(esteid3.personal_data(), answer)
        except ProfileError:
            return
        assert len(data.remarks) == 4
        assert all(len(text) <= 50 for text in (data.surname, data.personal_code, *data.remarks))


class TestPersonalData:
    def test_the_records_are_read_in_order(self, chip: EstEid3Chip) -> None:
        contacts = Contacts.holding(chip)
        data = read(esteid3.personal_data(), contacts)
        assert (data.surname, data.given_names, data.sex, data.citizenship) == (SURNAME, GIVEN, "N", "EST")
        assert (data.born, data.personal_code, data.document_number) == ("24.12.2199", CODE, "AA0000007")
        assert (data.expires, data.place_of_birth, data.issued) == ("31.12.2026", "EESTI / EST", "01.01.2022")
        assert (data.permit, data.remarks) == ("", ("", "ELAB / LIVES HERE", "", ""))
        records = [f"00B2{number:02X}0400" for number in range(1, 17)]
        assert hexes(contacts.log) == ["00A4000C", "00A4010C02EEEE", "00A4020402504400", *records]

    def test_a_digi_id_holds_little(self, authority: Authority) -> None:
        key = card_key(KeyAlgorithm.RSA2048)
        records = ["" if number != 7 else "NS0000009" for number in range(16)]
        chip = EstEid3Chip(key, estonian_cards.certificate(authority, key), records)
        data = read(esteid3.personal_data(), Contacts.holding(chip))
        assert (data.surname, data.given_names, data.personal_code) == ("", "", "")
        assert data.document_number == "NS0000009"

    def test_they_do_not_print_themselves(self, chip: EstEid3Chip) -> None:
        text = repr(read(esteid3.personal_data(), Contacts.holding(chip)))
        assert not any(secret in text for secret in (SURNAME, GIVEN, CODE, "AA0000007"))

    @pytest.mark.parametrize(
        ("prefix", "answer", "error"),
        [
            ("00A4", "6A82", WrongFamily),
            ("00A4010C", "6A82", WrongFamily),
            ("00A40204", "6A82", CardRefused),
            ("00B207", "6A83", CardRefused),
            ("00B207", "81" + "9000", CardMalformed),  # 81 is no character of code page 1252
            ("00B207", "41" * 51 + "9000", CardMalformed),
            ("00B207", "6105", CardMalformed),
        ],
    )
    def test_each_wrong_answer_has_its_error(
        self, chip: EstEid3Chip, prefix: str, answer: str, error: type[ProfileError]
    ) -> None:
        contacts = Contacts.holding(chip)
        inner, start = contacts.answer, bytes.fromhex(prefix)

        def spoil(command: bytes) -> bytes:
            if command[1] == 0xC0:
                return bytes.fromhex("6105")  # and brings nothing, again and again
            return bytes.fromhex(answer) if command.startswith(start) else inner(command)

        contacts.answer = spoil
        with pytest.raises(error) as caught:
            read(esteid3.personal_data(), contacts)
        assert type(caught.value) is error

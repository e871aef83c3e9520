"""The internal authentication of CWA 14890-1: both roles against each other and against the book; what is refused."""

import functools
import hashlib
import json
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st

from hardware import cwa14890, iso9796, tlv
from hardware.cwa14890 import Cwa14890Error, TerminalCertificate, TerminalKeys, parse_terminals, published_terminals
from tests.hostile import hostile

CHALLENGE = bytes.fromhex("0102030405060708")
K_ICC = bytes(range(32))
PUBLISHED = pytest.mark.parametrize("terminal", published_terminals(), ids=lambda terminal: terminal.unit)
FIRST, SECOND = published_terminals()


@functools.cache
def card(name: str, bits: int) -> rsa.RSAPrivateNumbers:
    return rsa.generate_private_key(65537, bits).private_numbers()


def chip_key() -> rsa.RSAPrivateNumbers:
    return card("chip", 1024)


def answer(terminal: TerminalKeys, command: bytes | None = None, name: str = "chip") -> bytes:
    numbers = card(name, 1024)
    asked = CHALLENGE + terminal.serial if command is None else command
    return cwa14890.answer((numbers.public_numbers.n, numbers.d), terminal.key, asked, K_ICC, os.urandom)


def by_the_book(terminal: TerminalKeys, received: bytes) -> bytes:
    """Open and verify an answer in plain integers, step by step as the standard has it; return K.ICC."""
    public = chip_key().public_numbers
    smaller = pow(int.from_bytes(received), terminal.private_exponent, terminal.modulus)
    for signature in (smaller, public.n - smaller):
        block = pow(signature, public.e, public.n).to_bytes(128)
        if block[0] == 0x6A and block[127] == 0xBC:
            filling, session_key, digest = block[1:75], block[75:107], block[107:127]
            assert hashlib.sha1(filling + session_key + CHALLENGE + terminal.serial).digest() == digest
            return session_key
    raise AssertionError("neither number opens")


class TestPublishedKeys:
    """What the file holds proves itself: each number is bound to another one by a signature of the police."""

    def test_there_is_one_set_for_each_root(self) -> None:
        assert [terminal.unit for terminal in published_terminals()] == ["AC RAIZ COMPONENTES", "AC RAIZ COMPONENTES 2"]
        assert [terminal.serial.hex().upper() for terminal in published_terminals()] == [
            "2000000000000001",
            "D002E00000000002",
        ]

    @PUBLISHED
    def test_the_private_exponent_belongs_to_the_modulus(self, terminal: TerminalKeys) -> None:
        for number in (2, 3, 1 << 1000):
            assert pow(pow(number, terminal.private_exponent, terminal.modulus), 65537, terminal.modulus) == number

    @PUBLISHED
    def test_the_certificates_lead_from_the_root_to_the_terminal(self, terminal: TerminalKeys) -> None:
        authority = TerminalCertificate.open(terminal.authority_certificate, terminal.root)
        opened = TerminalCertificate.open(terminal.certificate, authority.key)
        assert authority.holder[-8:] == terminal.authority_reference == opened.authority
        assert (opened.holder, opened.key) == (terminal.reference, terminal.key)
        assert authority.key.n.bit_length() == 1024

    def test_no_set_leads_to_the_other_root(self) -> None:
        for terminal, other in ((FIRST, SECOND), (SECOND, FIRST)):
            with pytest.raises(Cwa14890Error):
                TerminalCertificate.open(terminal.authority_certificate, other.root)


class TestAnswer:
    @PUBLISHED
    def test_what_the_card_makes_the_terminal_opens(self, terminal: TerminalKeys) -> None:
        for _ in range(8):  # both numbers of SIGMIN
            signature = terminal.open(answer(terminal), 128)
            assert cwa14890.verify_answer(chip_key().public_numbers, CHALLENGE, terminal.serial, signature) == K_ICC

    @PUBLISHED
    def test_what_the_card_makes_is_what_the_standard_prints(self, terminal: TerminalKeys) -> None:
        for _ in range(8):
            received = answer(terminal)
            assert len(received) == 128
            assert by_the_book(terminal, received) == K_ICC

    def test_what_the_standard_prints_the_terminal_opens(self) -> None:
        numbers = chip_key()
        modulus, serial = numbers.public_numbers.n, FIRST.serial
        filling = bytes(74)
        digest = hashlib.sha1(filling + K_ICC + CHALLENGE + serial).digest()
        number = pow(int.from_bytes(b"\x6a" + filling + K_ICC + digest + b"\xbc"), numbers.d, modulus)
        sent = pow(min(number, modulus - number), 65537, FIRST.modulus).to_bytes(128)
        assert cwa14890.verify_answer(numbers.public_numbers, CHALLENGE, serial, FIRST.open(sent, 128)) == K_ICC

    def test_two_answers_differ(self) -> None:
        assert answer(FIRST) != answer(FIRST)

    @given(message=st.binary(max_size=80), other=st.binary(max_size=80))
    def test_a_challenge_is_of_its_message_alone(self, message: bytes, other: bytes) -> None:
        assert len(cwa14890.challenge_of(message)) == 8
        assert (cwa14890.challenge_of(message) == cwa14890.challenge_of(other)) == (message == other)


class TestWrongAnswer:
    @pytest.mark.parametrize(
        ("challenge", "serial"),
        [
            (bytes(8), FIRST.serial),
            (CHALLENGE, SECOND.serial),
            (FIRST.serial, CHALLENGE),
            (CHALLENGE[:7], FIRST.serial),
            (CHALLENGE, FIRST.serial + b"\0"),
            (b"", CHALLENGE + FIRST.serial),
        ],
    )
    def test_an_answer_to_another_question(self, challenge: bytes, serial: bytes) -> None:
        signature = FIRST.open(answer(FIRST), 128)
        with pytest.raises(Cwa14890Error):
            cwa14890.verify_answer(chip_key().public_numbers, challenge, serial, signature)

    def test_an_answer_of_another_chip(self) -> None:
        signature = FIRST.open(answer(FIRST, name="another"), 128)
        with pytest.raises(Cwa14890Error):
            cwa14890.verify_answer(chip_key().public_numbers, CHALLENGE, FIRST.serial, signature)

    def test_an_answer_to_another_terminal(self) -> None:
        received = answer(SECOND, CHALLENGE + FIRST.serial)
        try:
            signature = FIRST.open(received, 128)
        except Cwa14890Error:
            return
        with pytest.raises(Cwa14890Error):
            cwa14890.verify_answer(chip_key().public_numbers, CHALLENGE, FIRST.serial, signature)

    def test_a_signature_that_is_not_the_smaller_number(self) -> None:
        public = chip_key().public_numbers
        larger = public.n - int.from_bytes(FIRST.open(answer(FIRST), 128))
        with pytest.raises(Cwa14890Error, match="larger"):
            cwa14890.verify_answer(public, CHALLENGE, FIRST.serial, larger.to_bytes(128))

    @pytest.mark.parametrize(
        "octets",
        [b"", bytes(127), bytes(129), b"\xff" * 128, FIRST.modulus.to_bytes(128)],
        ids=["none", "short", "long", "ones", "modulus"],
    )
    def test_bytes_that_are_not_encrypted_to_the_terminal(self, octets: bytes) -> None:
        with pytest.raises(Cwa14890Error, match="no answer"):
            FIRST.open(octets, 128)

    def test_what_opens_to_more_than_the_cards_key_can_sign(self) -> None:
        encrypted = pow(1 << 1020, 65537, FIRST.modulus).to_bytes(128)
        assert FIRST.open(encrypted, 128) == (1 << 1020).to_bytes(128)
        with pytest.raises(Cwa14890Error, match="longer"):
            FIRST.open(encrypted, 120)

    @hostile
    @given(octets=st.binary(max_size=140))
    def test_any_bytes_are_refused(self, octets: bytes) -> None:
        with pytest.raises(Cwa14890Error):
            cwa14890.verify_answer(chip_key().public_numbers, CHALLENGE, FIRST.serial, FIRST.open(octets, 128))

    @pytest.mark.parametrize("command", [b"", bytes(15), bytes(17)])
    def test_a_card_takes_sixteen_bytes(self, command: bytes) -> None:
        with pytest.raises(Cwa14890Error, match="no challenge"):
            answer(FIRST, command)

    def test_a_card_whose_key_is_larger_than_the_terminals(self) -> None:
        numbers = card("large", 2048)
        with pytest.raises(Cwa14890Error, match="larger"):
            cwa14890.answer(
                (numbers.public_numbers.n, numbers.d), FIRST.key, CHALLENGE + FIRST.serial, K_ICC, os.urandom
            )


def issued(body: bytes, authority: bytes, *, fields: tuple[int, ...] = (0x5F37, 0x5F38, 0x42)) -> bytes:
    """A certificate of an issuer of our own, with any body."""
    numbers = card("issuer", 1024)
    signature = iso9796.sign(numbers.public_numbers.n, numbers.d, body)
    values = {0x5F37: signature, 0x5F38: body[106:], 0x42: authority, 0x5F20: b"more"}
    return tlv.encode(0x7F21, b"".join(tlv.encode(tag, values[tag]) for tag in fields))


AUTHORITY, HOLDER = b"esAUTH\x00\x01", bytes(4) + b"esHOLD\x00\x02"
KEY = RSAPublicNumbers(65537, FIRST.modulus)
BODY = (
    b"\x01" + AUTHORITY + HOLDER + bytes(7) + bytes.fromhex("2B240702010100") + KEY.n.to_bytes(128) + KEY.e.to_bytes(4)
)


class TestTerminalCertificate:
    def test_an_issuer_of_our_own(self) -> None:
        opened = TerminalCertificate.open(issued(BODY, AUTHORITY), card("issuer", 1024).public_numbers)
        assert (opened.profile, opened.authority, opened.holder, opened.key) == (1, AUTHORITY, HOLDER, KEY)

    @pytest.mark.parametrize(
        "octets",
        [
            b"",
            b"\x7f\x21\x00",
            issued(BODY, AUTHORITY)[:-1],
            issued(BODY, AUTHORITY) + b"\0",
            issued(BODY, b"another8"),
            issued(BODY, AUTHORITY, fields=(0x5F37, 0x5F38)),
            issued(BODY, AUTHORITY, fields=(0x5F37, 0x42)),
            issued(BODY, AUTHORITY, fields=(0x5F37, 0x5F38, 0x42, 0x5F20)),
            issued(BODY[:20] + BODY[-132:], AUTHORITY),  # no room for names
            issued(BODY[:28] + BODY[-132:], AUTHORITY),  # no object identifier
            issued(BODY[:28] + bytes(17) + BODY[-132:], AUTHORITY),
            FIRST.certificate,
        ],
        ids=lambda _octets: "case",
    )
    def test_what_is_no_certificate_of_the_issuer(self, octets: bytes) -> None:
        with pytest.raises(Cwa14890Error):
            TerminalCertificate.open(octets, card("issuer", 1024).public_numbers)

    @given(at=st.integers(0, 300), flip=st.integers(1, 255))
    def test_a_changed_certificate_never_holds(self, at: int, flip: int) -> None:
        octets = bytearray(FIRST.authority_certificate)
        octets[at % len(octets)] ^= flip
        with pytest.raises(Cwa14890Error):
            TerminalCertificate.open(bytes(octets), FIRST.root)

    @hostile
    @given(octets=st.binary(max_size=260))
    def test_any_bytes_are_refused(self, octets: bytes) -> None:
        with pytest.raises(Cwa14890Error):
            TerminalCertificate.open(octets, FIRST.root)


class TestKeyFile:
    @hostile
    @given(octets=st.binary(max_size=60))
    def test_any_bytes_are_no_file_of_keys(self, octets: bytes) -> None:
        with pytest.raises(Cwa14890Error):
            parse_terminals(octets)

    @pytest.mark.parametrize(
        "content", [[], {}, {"sets": 1}, {"sets": [1]}, {"sets": [{}]}, {"sets": [{"unit": "x", "root_modulus": "zz"}]}]
    )
    def test_json_of_another_shape(self, content: object) -> None:
        with pytest.raises(Cwa14890Error):
            parse_terminals(json.dumps(content).encode())

    def test_a_file_without_sets(self) -> None:
        assert parse_terminals(b'{"sets": []}') == ()

    @pytest.mark.parametrize(
        "changes", [{"reference": bytes(11)}, {"authority_reference": bytes(12)}, {"reference": b""}]
    )
    def test_a_reference_of_another_length(self, changes: dict[str, bytes]) -> None:
        with pytest.raises(Cwa14890Error, match="length"):
            replace(FIRST, **changes)  # type: ignore[arg-type]

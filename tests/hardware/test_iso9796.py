"""Scheme 1 of ISO/IEC 9796-2: a law, certificates of the Spanish police, openssl's opinion, and what does not hold."""

import functools
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware import iso9796
from hardware.cwa14890 import published_terminals
from hardware.iso9796 import NAMED, SHA1_AGREED, Iso9796Error, Production, Trailer
from hardware.tlv import parse, parse_one
from tests.hostile import hostile
from tests.missing import program

TRAILERS = (SHA1_AGREED, *NAMED)
BOTH = pytest.mark.parametrize("production", list(Production))
ALL = pytest.mark.parametrize("trailer", TRAILERS, ids=lambda trailer: f"{trailer.octets.hex()}-{trailer.digest}")
REST = b"RND.IFD."


@functools.cache
def key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def numbers(bits: int = 1024) -> tuple[int, int, RSAPublicNumbers]:
    private = key(bits).private_numbers()
    return private.public_numbers.n, private.d, private.public_numbers


def raised(block: bytes, production: Production = Production.PLAIN, bits: int = 1024) -> bytes:
    """Put the private exponent to any block."""
    modulus, exponent, _ = numbers(bits)
    number = pow(int.from_bytes(block), exponent, modulus)
    if production is Production.SMALLER:
        number = min(number, modulus - number)
    return number.to_bytes(bits // 8)


def good_block(rest: bytes = REST, trailer: Trailer = SHA1_AGREED, size: int = 128) -> bytes:
    message = bytes(iso9796.capacity(size, trailer))
    digest = hashlib.new(trailer.digest, message + rest).digest()
    return b"\x6a" + message + digest + trailer.octets


class TestLaw:
    @BOTH
    @ALL
    @given(data=st.data())
    def test_what_was_signed_comes_back(self, production: Production, trailer: Trailer, data: st.DataObject) -> None:
        modulus, exponent, public = numbers()
        size = iso9796.capacity(128, trailer)
        message = data.draw(st.binary(min_size=size + 1, max_size=size + 40))
        signature = iso9796.sign(modulus, exponent, message, trailer=trailer, production=production)
        recovered = iso9796.recover(public, signature, message[size:], trailers=(trailer,), production=production)
        assert recovered == message[:size]

    @pytest.mark.parametrize("bits", [1024, 2048])
    def test_sizes(self, bits: int) -> None:
        modulus, exponent, public = numbers(bits)
        message = bytes(range(256)) + REST
        signature = iso9796.sign(modulus, exponent, message)
        size = iso9796.capacity(bits // 8)
        assert (len(signature), size) == (bits // 8, bits // 8 - 22)
        assert iso9796.recover(public, signature, message[size:]) == message[:size]

    def test_the_layout(self) -> None:
        """Raised by hand, the block is what the standard prints."""
        modulus, exponent, public = numbers()
        message = bytes(range(120))
        signature = iso9796.sign(modulus, exponent, message)
        block = pow(int.from_bytes(signature), public.e, public.n).to_bytes(128)
        assert block == b"\x6a" + message[:106] + hashlib.sha1(message).digest() + b"\xbc"

    def test_the_smaller_number_is_one_that_both_powers_lead_back_from(self) -> None:
        modulus, exponent, public = numbers()
        turned = set[bool]()
        for filling in range(64):
            message = bytes([filling]) * 120
            plain = int.from_bytes(iso9796.sign(modulus, exponent, message))
            smaller = int.from_bytes(iso9796.sign(modulus, exponent, message, production=Production.SMALLER))
            assert smaller == min(plain, modulus - plain)
            turned.add(smaller != plain)
            larger = (modulus - smaller).to_bytes(128)
            with pytest.raises(Iso9796Error, match="larger"):
                iso9796.recover(public, larger, message[106:], production=Production.SMALLER)
        assert turned == {True, False}


class TestPublishedCertificates:
    """Card-verifiable certificates that the Spanish police signed: nothing of ours made them."""

    @pytest.mark.parametrize("terminal", published_terminals(), ids=lambda terminal: terminal.unit)
    def test_the_roots_signature(self, terminal: object) -> None:
        keys = next(each for each in published_terminals() if each is terminal)
        fields = {item.tag: item.value for item in parse(parse_one(keys.authority_certificate, 0x7F21))}
        recovered = iso9796.recover(keys.root, fields[0x5F37], fields[0x5F38])
        assert recovered[1:9] == fields[0x42]  # it names who signed it
        assert recovered[13:21] == keys.authority_reference
        assert fields[0x5F38].endswith(bytes.fromhex("00010001"))


class TestStranger:
    """OpenSSL raises numbers, and leaves the padding to whoever looks. It signs hashes alone, and decrypts anything."""

    def test_openssl_recovers_the_block(self, tmp_path: Path) -> None:
        modulus, exponent, _ = numbers()
        message = bytes(range(100, 220))
        public = tmp_path / "public.pem"
        public.write_bytes(key(1024).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        block = self.pkeyutl(
            ["-verifyrecover", "-pubin", "-inkey", str(public)], iso9796.sign(modulus, exponent, message), tmp_path
        )
        assert block == b"\x6a" + message[:106] + hashlib.sha1(message).digest() + b"\xbc"

    @BOTH
    @ALL
    def test_a_block_that_openssl_raised_holds(self, production: Production, trailer: Trailer, tmp_path: Path) -> None:
        private = tmp_path / "private.pem"
        private.write_bytes(key(1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        signature = self.pkeyutl(["-decrypt", "-inkey", str(private)], good_block(trailer=trailer), tmp_path)
        modulus, _, public = numbers()
        if production is Production.SMALLER:
            number = int.from_bytes(signature)
            signature = min(number, modulus - number).to_bytes(128)
        recovered = iso9796.recover(public, signature, REST, trailers=(trailer,), production=production)
        assert recovered == bytes(iso9796.capacity(128, trailer))

    @staticmethod
    def pkeyutl(arguments: list[str], content: bytes, folder: Path) -> bytes:
        given_file = folder / "in"
        given_file.write_bytes(content)
        command = [
            program("openssl"),
            "pkeyutl",
            *arguments,
            "-pkeyopt",
            "rsa_padding_mode:none",
            "-in",
            str(given_file),
        ]
        return subprocess.run(command, capture_output=True, check=True).stdout


def spoilt(at: int, value: int) -> bytes:
    block = bytearray(good_block())
    block[at] = value
    return bytes(block)


class TestWrong:
    @BOTH
    @pytest.mark.parametrize(
        "block",
        [
            spoilt(0, 0x4A),  # nothing cut
            spoilt(0, 0x6B),  # padding
            spoilt(0, 0x2A),
            spoilt(0, 0x0A),
            spoilt(127, 0xCC),  # a named hash
            spoilt(127, 0xAC),
            spoilt(126, good_block()[126] ^ 1),
            spoilt(107, good_block()[107] ^ 0x80),
            spoilt(1, 1),
            b"\x6a" + bytes(126) + b"\xbc",
            b"\x00\x01" + b"\xff" * 90 + b"\x00" + bytes(34) + b"\xbc",
            good_block(b"another"),
            good_block(REST + b"\0"),
            good_block(trailer=NAMED[1]),
        ],
        ids=lambda _block: "case",
    )
    def test_a_block_that_is_not_the_schemes(self, production: Production, block: bytes) -> None:
        with pytest.raises(Iso9796Error):
            iso9796.recover(numbers()[2], raised(block, production), REST, production=production)

    @ALL
    def test_a_trailer_that_was_not_asked_for(self, trailer: Trailer) -> None:
        signature = raised(good_block(trailer=trailer))
        others = tuple(other for other in TRAILERS if other is not trailer)
        with pytest.raises(Iso9796Error, match="does not hold"):
            iso9796.recover(numbers()[2], signature, REST, trailers=others)
        assert iso9796.recover(numbers()[2], signature, REST, trailers=TRAILERS) == bytes(
            iso9796.capacity(128, trailer)
        )

    def test_the_other_number_where_the_signer_does_not_choose(self) -> None:
        modulus, _, public = numbers()
        other = (modulus - int.from_bytes(raised(good_block()))).to_bytes(128)
        with pytest.raises(Iso9796Error, match="does not hold"):
            iso9796.recover(public, other, REST)

    @BOTH
    def test_numbers_and_lengths_out_of_range(self, production: Production) -> None:
        modulus, _, public = numbers()
        good = raised(good_block(), production)
        for signature in (b"", bytes(128), modulus.to_bytes(128), b"\xff" * 128, good[1:], good + b"\0", b"\0" + good):
            with pytest.raises(Iso9796Error, match="no signature"):
                iso9796.recover(public, signature, REST, production=production)

    def test_a_message_that_is_not_cut(self) -> None:
        with pytest.raises(Iso9796Error, match="not cut"):
            iso9796.recover(numbers()[2], raised(good_block(b"")), b"")

    @pytest.mark.parametrize("exponent", [0, 1, 2, 65536, (1 << 32) + 1])
    def test_a_public_exponent_that_no_signer_has(self, exponent: int) -> None:
        with pytest.raises(Iso9796Error, match="exponent"):
            iso9796.recover(RSAPublicNumbers(exponent, numbers()[0]), raised(good_block()), REST)

    @pytest.mark.parametrize(
        "modulus", [1, (1 << 1023) + 2, (1 << 1022) + 1, (1 << 1024) + 1, (1 << 1015) + 1, (1 << 4103) + 1]
    )
    def test_a_modulus_that_is_none_of_the_schemes(self, modulus: int) -> None:
        with pytest.raises(Iso9796Error, match="modulus"):
            iso9796.recover(RSAPublicNumbers(65537, modulus), bytes(128), REST)
        with pytest.raises(Iso9796Error, match="modulus"):
            iso9796.sign(modulus, 3, bytes(4096))

    @ALL
    def test_a_message_that_fits_whole_is_not_signed(self, trailer: Trailer) -> None:
        modulus, exponent, _ = numbers()
        with pytest.raises(Iso9796Error, match="fits whole"):
            iso9796.sign(modulus, exponent, bytes(iso9796.capacity(128, trailer)), trailer=trailer)

    @BOTH
    @given(at=st.integers(0, 127), flip=st.integers(1, 255))
    def test_a_changed_signature_never_holds(self, production: Production, at: int, flip: int) -> None:
        signature = bytearray(raised(good_block(), production))
        signature[at] ^= flip
        with pytest.raises(Iso9796Error):
            iso9796.recover(numbers()[2], bytes(signature), REST, production=production)

    @hostile
    @BOTH
    @given(signature=st.binary(max_size=140), rest=st.binary(max_size=20))
    def test_any_bytes_are_refused(self, production: Production, signature: bytes, rest: bytes) -> None:
        with pytest.raises(Iso9796Error):
            iso9796.recover(numbers()[2], signature, rest, trailers=TRAILERS, production=production)

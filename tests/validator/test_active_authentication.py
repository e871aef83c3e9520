"""Active authentication: the standard's worked example, and what is no signature of the key."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware import iso9796
from tests.hostile import hostile
from tests.validator.travel_documents import curve_key, rsa_key, spki
from validator.active_authentication import confirms

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "icao_active_authentication.json").read_text())
CHALLENGE = bytes.fromhex(VECTOR["rnd_ifd"])


def signed(block: bytes, bits: int = 1024) -> bytes:
    """What a chip does with a block: one exponentiation."""
    numbers = rsa_key(bits).private_numbers()
    return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(bits // 8)


def test_the_block_of_the_worked_example() -> None:
    block = bytes.fromhex(VECTOR["block"])
    assert block == b"\x6a" + bytes.fromhex(VECTOR["m1"]) + block[-21:]
    assert confirms(spki(rsa_key(1024)), CHALLENGE, signed(block))


@pytest.mark.parametrize("position", [0, 1, 105, 106, 107, 126, 127])
def test_one_octet_of_the_block_is_not_free(position: int) -> None:
    block = bytearray(bytes.fromhex(VECTOR["block"]))
    block[position] ^= 1
    assert not confirms(spki(rsa_key(1024)), CHALLENGE, signed(bytes(block)))


def test_the_challenge_counts() -> None:
    assert not confirms(spki(rsa_key(1024)), CHALLENGE[:-1] + b"\0", signed(bytes.fromhex(VECTOR["block"])))


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_digests_that_are_named(digest: str) -> None:
    numbers = rsa_key().private_numbers()
    trailer = next(each for each in iso9796.NAMED if each.digest == digest)
    message = bytes(iso9796.capacity(256, trailer)) + CHALLENGE
    assert confirms(
        spki(rsa_key()), CHALLENGE, iso9796.sign(numbers.public_numbers.n, numbers.d, message, trailer=trailer)
    )


@pytest.mark.parametrize(("name", "digest"), [("secp256r1", hashes.SHA256()), ("secp384r1", hashes.SHA384())])
def test_a_key_on_a_curve(name: str, digest: hashes.HashAlgorithm) -> None:
    signature = curve_key(name).sign(CHALLENGE, ec.ECDSA(digest))
    assert confirms(spki(curve_key(name)), CHALLENGE, signature)
    assert not confirms(spki(curve_key(name)), CHALLENGE, curve_key(name).sign(CHALLENGE, ec.ECDSA(hashes.SHA512())))


@hostile
@given(st.binary(max_size=300))
def test_any_octets_are_no_signature(signature: bytes) -> None:
    for key in (spki(rsa_key()), spki(curve_key())):
        assert not confirms(key, CHALLENGE, signature)


@hostile
@given(st.binary(max_size=100))
def test_any_octets_are_no_key(key: bytes) -> None:
    assert not confirms(key, CHALLENGE, bytes(256))


def test_a_key_of_another_kind() -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    key = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert not confirms(key, CHALLENGE, other.sign(CHALLENGE))

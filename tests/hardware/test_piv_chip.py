"""The virtual PIV card: laws for any bytes and any piece size, and every signature under the certified key."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import tlv
from hardware.apdu import CommandApdu, ResponseApdu, exchange
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import ALGORITHM
from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer, make_key

IssuedOf = Callable[[KeyType], IssuedCard]

SELECT = bytes.fromhex("00A4040009A0000003080000100000")
GET_CERTIFICATE = bytes.fromhex("00CB3FFF055C035FC10100")
RSA_KINDS = (KeyType.RSA_2048, KeyType.RSA_3072)
EC_KINDS = (KeyType.P_256, KeyType.P_384)
#: RSA in plain integers takes its time.
rsa_examples = settings(max_examples=1000 if os.environ.get("PILET_SOAK") == "1" else 25)
DIGEST = {KeyType.P_256: hashes.SHA256(), KeyType.P_384: hashes.SHA384()}


@pytest.fixture(scope="module")
def p256(issued: IssuedOf) -> IssuedCard:
    return issued(KeyType.P_256)


def selected(card: IssuedCard, **options: Any) -> PivChip:
    chip = PivChip(card.key, card.der, **options)
    assert whole(chip, SELECT).ok
    return chip


def ask(chip: PivChip, command: bytes | CommandApdu) -> ResponseApdu:
    answer = chip.process(bytes(command)).response
    assert answer is not None
    return ResponseApdu.from_bytes(answer)


def whole(chip: PivChip, command: bytes) -> ResponseApdu:
    """The response with everything that the card holds back, however small its pieces."""
    response = ask(chip, command)
    data = response.data
    while response.more:
        response = ask(chip, CommandApdu(0, 0xC0, 0, 0, le=response.more))
        assert response.data
        data += response.data
    return ResponseApdu(data, response.sw)


def converse(chip: PivChip, command: CommandApdu, chunk: int = 255) -> ResponseApdu:
    """Send a command as the gate does: chained, and drained."""
    dialogue = exchange(command, chunk=chunk)
    request = next(dialogue)
    while True:
        try:
            request = dialogue.send(ask(chip, request))
        except StopIteration as end:
            final = end.value
            assert isinstance(final, ResponseApdu)
            return final


def template(challenge: bytes) -> bytes:
    return tlv.encode(0x7C, tlv.encode(0x82, b"") + tlv.encode(0x81, challenge))


def authenticate(chip: PivChip, kind: KeyType, challenge: bytes, chunk: int = 255) -> bytes:
    response = converse(chip, CommandApdu(0, 0x87, ALGORITHM[kind], 0x9E, template(challenge), le=256), chunk)
    assert response.ok, f"{response.sw:04X}"
    return tlv.parse_one(tlv.parse_one(response.data, 0x7C), 0x82)


def padded(digest: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 with SHA-256, built here by hand: the terminal's half of the work."""
    info = bytes.fromhex("3031300D060960864801650304020105000420") + digest
    return b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info


# Commands that come near enough to real ones to reach the deeper branches.
commands = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda cla, ins, p1, p2, body: bytes([cla, ins, p1, p2]) + body,
        st.sampled_from([0x00, 0x10, 0x0C, 0x01, 0xFF]),
        st.sampled_from([0x20, 0x87, 0xA4, 0xC0, 0xCB, 0xFD, 0xDB]),
        st.sampled_from([0x00, 0x04, 0x11, 0x3F, 0xFF]),
        st.sampled_from([0x00, 0x0C, 0x80, 0x9A, 0x9E, 0xFF]),
        st.one_of(
            st.binary(max_size=20),
            st.binary(max_size=60).map(lambda data: bytes([len(data)]) + data + b"\x00"),
            st.binary(max_size=60).map(lambda data: b"\x00" + len(data).to_bytes(2) + data + b"\x00\x00"),
            st.binary(max_size=40).map(lambda data: bytes([len(template(data))]) + template(data) + b"\x00"),
        ),
    ),
    st.sampled_from([SELECT, GET_CERTIFICATE, bytes.fromhex("00C0000000")]),
)


@given(script=st.lists(commands, max_size=12), piece=st.integers(1, 256), pin=st.sampled_from([None, "123456"]))
def test_any_bytes_get_a_status_word(p256: IssuedCard, script: list[bytes], piece: int, pin: str | None) -> None:
    chip = PivChip(p256.key, p256.der, piece=piece, pin=pin)
    for command in script:
        response = chip.process(command).response
        assert response is not None
        assert 2 <= len(response) <= piece + 2
        assert response[-2] & 0xF0 in (0x60, 0x90)


@given(script=st.lists(commands, max_size=12))
def test_after_a_reset_nothing_of_the_past_remains(p256: IssuedCard, script: list[bytes]) -> None:
    chip = PivChip(p256.key, p256.der)
    for command in script:
        chip.process(command)
    chip.reset()
    assert ask(chip, bytes.fromhex("00C0000000")).sw == 0x6D00
    assert ask(chip, GET_CERTIFICATE).sw == 0x6D00
    assert ask(chip, SELECT).ok
    assert whole(chip, GET_CERTIFICATE).ok


@given(piece=st.integers(1, 256), le=st.integers(1, 256))
def test_pieces_of_any_size_make_the_same_object(p256: IssuedCard, piece: int, le: int) -> None:
    expected = whole(selected(p256), GET_CERTIFICATE)
    chip = selected(p256, piece=piece)
    response = ask(chip, CommandApdu(0, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), le=le))
    data = response.data
    assert len(data) == min(piece, le)
    while response.more:
        assert response.more <= piece
        response = ask(chip, CommandApdu(0, 0xC0, 0, 0, le=le))
        data += response.data
    assert ResponseApdu(data, response.sw) == expected


@rsa_examples
@given(chunk=st.integers(1, 255), seed=st.binary(min_size=32, max_size=32))
def test_chained_in_any_way_and_extended_give_one_signature(issued: IssuedOf, chunk: int, seed: bytes) -> None:
    chip = selected(issued(KeyType.RSA_2048))
    challenge = padded(seed, 256)
    body = template(challenge)
    extended = bytes.fromhex("0087079E00") + len(body).to_bytes(2) + body + b"\x00\x00"
    expected = tlv.parse_one(tlv.parse_one(whole(chip, extended).data, 0x7C), 0x82)
    assert authenticate(chip, KeyType.RSA_2048, challenge, chunk) == expected


@pytest.mark.parametrize("kind", EC_KINDS)
@given(message=st.binary())
def test_a_curve_signs_the_digest_it_is_given(issued: IssuedOf, kind: KeyType, message: bytes) -> None:
    card = issued(kind)
    digest = hashes.Hash(DIGEST[kind])
    digest.update(message)
    signature = authenticate(selected(card), kind, digest.finalize())
    public = card.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, message, ec.ECDSA(DIGEST[kind]))


@pytest.mark.parametrize("kind", RSA_KINDS)
@rsa_examples
@given(message=st.binary())
def test_rsa_signs_the_block_that_the_terminal_padded(issued: IssuedOf, kind: KeyType, message: bytes) -> None:
    card = issued(kind)
    public = card.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    block = padded(hashlib.sha256(message).digest(), public.key_size // 8)
    public.verify(authenticate(selected(card), kind, block), message, padding.PKCS1v15(), hashes.SHA256())


@rsa_examples
@given(message=st.integers(0, 2**2047 - 1))
def test_rsa_is_the_bare_primitive(issued: IssuedOf, message: int) -> None:
    card = issued(KeyType.RSA_2048)
    public = card.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    signature = authenticate(selected(card), KeyType.RSA_2048, message.to_bytes(256))
    numbers = public.public_numbers()
    assert pow(int.from_bytes(signature), numbers.e, numbers.n) == message


@given(length=st.integers(0, 600).filter(lambda n: n != 32))
def test_a_challenge_of_another_length_is_refused(p256: IssuedCard, length: int) -> None:
    command = CommandApdu(0, 0x87, 0x11, 0x9E, template(bytes(length)), le=256)
    assert converse(selected(p256), command).sw == 0x6A80


def test_a_clone_has_the_certificate_and_not_the_key(issuer: Issuer, p256: IssuedCard) -> None:
    clone = PivChip(make_key(KeyType.P_256), p256.der)
    ask(clone, SELECT)
    assert whole(clone, GET_CERTIFICATE) == whole(selected(p256), GET_CERTIFICATE)
    digest = hashlib.sha256(b"who are you").digest()
    public = p256.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = authenticate(clone, KeyType.P_256, digest)
    with pytest.raises(InvalidSignature):
        public.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_no_signature_repeats_its_random_number(p256: IssuedCard) -> None:
    digest = bytes(32)
    chip = selected(p256)
    r_values = {utils.decode_dss_signature(authenticate(chip, KeyType.P_256, digest))[0] for _ in range(20)}
    assert len(r_values) == 20

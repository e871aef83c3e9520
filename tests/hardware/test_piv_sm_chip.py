"""The virtual PIV card with a secure messaging key: octets, refusals, and that its other key goes on as before."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware import opacity, tlv
from hardware.apdu import CommandApdu, ResponseApdu, exchange
from hardware.opacity import CS2, CS7, HostMessage, Suite
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.piv_sm import SmKey
from hardware.virtual.timing import ChipTiming, KeyType, NoFigure
from tests import opacity_by_the_book as book
from tests.issuing import IssuedCard, Issuer

IssuedOf = Callable[[KeyType], IssuedCard]

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "piv_sm.json").read_text())
BOTH = pytest.mark.parametrize("suite", [CS2, CS7], ids=lambda suite: suite.name)
SELECT = "00A4040009A0000003080000100000"
GET_SIGNER = "00CB3FFF055C035FC12200"
SIGN_WITH_9E = "0087119E267C2482008120" + "5A" * 32 + "00"
CURVES = {0x27: book.P256, 0x2E: book.P384}
CARD, HOST = 123456789, 987654321  # private numbers
MAX_SIGNATURE = {
    0x27: bytes.fromhex("3046022100") + b"\xaa" * 32 + bytes.fromhex("022100") + b"\xaa" * 32,
    0x2E: bytes.fromhex("3066023100") + b"\xaa" * 48 + bytes.fromhex("023100") + b"\xaa" * 48,
}


@pytest.fixture(scope="module")
def p256(issued: IssuedOf) -> IssuedCard:
    return issued(KeyType.P_256)


def counting() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size)


def certificate(suite: Suite) -> bytes:
    curve = CURVES[suite.identifier]
    point = curve.times(CARD, curve.base)
    return book.certificate(suite.identifier, b"ISSUER-1", bytes(range(16)), point, MAX_SIGNATURE[suite.identifier])


def sm_key(suite: Suite, **options: Any) -> SmKey:
    return SmKey(ec.derive_private_key(CARD, suite.curve), certificate(suite), **options)


def card(cak: IssuedCard, suite: Suite, *, random: Callable[[int], bytes] | None = None, **options: Any) -> PivChip:
    key = sm_key(suite, random=random or counting())
    return PivChip(cak.key, cak.der, secure_messaging=key, **options)


def ask(chip: PivChip, command: str | bytes) -> bytes:
    response = chip.process(bytes.fromhex(command) if isinstance(command, str) else command).response
    assert response is not None
    return response


def selected(chip: PivChip) -> PivChip:
    assert ask(chip, SELECT).endswith(b"\x90\x00")
    return chip


def request(suite: Suite, *, control: int = 0, host_id: bytes = bytes(8), point: bytes | None = None) -> bytes:
    if point is None:
        point = opacity.point_of(ec.derive_private_key(HOST, suite.curve).public_key())
    return bytes(HostMessage(host_id, point, control))


def command(suite: Suite, message: bytes, *, p1: int | None = None, p2: int = 0x04) -> CommandApdu:
    template = tlv.encode(0x7C, tlv.encode(0x81, message) + tlv.encode(0x82, b""))
    return CommandApdu(0x00, 0x87, suite.identifier if p1 is None else p1, p2, template, le=256)


def converse(chip: PivChip, sent: CommandApdu) -> ResponseApdu:
    dialogue = exchange(sent)
    apdu = next(dialogue)
    while True:
        try:
            apdu = dialogue.send(ResponseApdu.from_bytes(ask(chip, bytes(apdu))))
        except StopIteration as end:
            final = end.value
            assert isinstance(final, ResponseApdu)
            return final


@pytest.mark.parametrize(("suite", "announced"), [(CS2, "AC06800127060100"), (CS7, "AC0680012E060100")])
def test_the_property_template_announces_the_suite(p256: IssuedCard, suite: Suite, announced: str) -> None:
    expected = "611E4F0BA00000030800001000010079074F05A000000308" + announced + "9000"
    assert ask(card(p256, suite), SELECT).hex().upper() == expected


@pytest.mark.parametrize("exchange_", VECTORS["exchanges"], ids=lambda each: each["name"])
def test_real_cards_announce_it_in_the_same_octets(p256: IssuedCard, exchange_: Any) -> None:
    suite = opacity.SUITES[int(exchange_["inputs"]["suite"], 16)]
    recorded = tlv.find(bytes.fromhex(exchange_["inputs"]["select_response"]), 0x61)
    assert recorded is not None
    ours = tlv.parse_one(ask(card(p256, suite), SELECT)[:-2], 0x61)
    assert tlv.find(ours, 0xAC) == tlv.find(recorded, 0xAC) is not None


@BOTH
@given(host_id=st.binary(min_size=8, max_size=8), nonce=st.binary(min_size=24, max_size=24))
def test_the_answer_is_that_of_the_second_computation(
    p256: IssuedCard, suite: Suite, host_id: bytes, nonce: bytes
) -> None:
    chip = selected(card(p256, suite, random=lambda size: nonce[:size]))
    message = request(suite, host_id=host_id)
    response = converse(chip, command(suite, message))
    expected = _second_answer(suite, message, nonce[: suite.nonce_bytes])
    assert response == ResponseApdu(expected, 0x9000)


def _second_answer(suite: Suite, message: bytes, nonce: bytes) -> bytes:
    return book.answer(suite.identifier, CARD, certificate(suite), message, nonce).data_field


@pytest.mark.parametrize("example", VECTORS["examples"], ids=lambda example: example["name"])
def test_the_longest_answer_has_the_standards_length(p256: IssuedCard, example: Any) -> None:
    suite = opacity.SUITES[int(example["suite"], 16)]
    assert len(certificate(suite)) == example["certificate_bytes_at_most"]
    response = converse(selected(card(p256, suite)), command(suite, request(suite)))
    assert len(response.data) == example["response_bytes_at_most"]


def test_cs2_fits_one_short_apdu_and_cs7_takes_a_second(p256: IssuedCard) -> None:
    assert ask(selected(card(p256, CS2)), bytes(command(CS2, request(CS2)))).endswith(b"\x90\x00")
    chip = selected(card(p256, CS7))
    assert ask(chip, bytes(command(CS7, request(CS7))))[-2:] == bytes([0x61, 324 - 256])
    assert len(ask(chip, "00C0000044")) == 324 - 256 + 2


@BOTH
def test_each_answer_has_a_nonce_of_its_own(p256: IssuedCard, suite: Suite) -> None:
    chip = selected(PivChip(p256.key, p256.der, secure_messaging=sm_key(suite)))
    sent = command(suite, request(suite))
    answers = {converse(chip, sent).data for _ in range(8)}
    assert len(answers) == 8


@BOTH
@pytest.mark.parametrize(
    ("message", "sw"),
    [
        (lambda suite: request(suite, control=0x10), 0x6A80),
        (lambda suite: request(suite, control=0x80), 0x6A80),
        (lambda suite: request(suite, point=b"\x04" + b"\x01" * (suite.point_bytes - 1)), 0x6A80),
        (lambda suite: request(suite, point=bytes(suite.point_bytes)), 0x6A80),
        (lambda suite: request(suite)[:-1], 0x6A80),
        (lambda suite: request(suite) + b"\x00", 0x6A80),
        (lambda _suite: b"", 0x6A80),
        (lambda suite: request(suite, control=0x01), 0x9000),  # bits of persistent binding are masked out (step C2)
    ],
    ids=["CB_H 10", "CB_H 80", "off the curve", "no 04", "short", "long", "empty", "CB_H 01"],
)
def test_what_the_card_does_not_answer(
    p256: IssuedCard, suite: Suite, message: Callable[[Suite], bytes], sw: int
) -> None:
    assert converse(selected(card(p256, suite)), command(suite, message(suite))).sw == sw


@pytest.mark.parametrize(
    ("suite", "p1", "p2"), [(CS2, 0x2E, 0x04), (CS7, 0x27, 0x04), (CS2, 0x27, 0x9E), (CS2, 0x11, 0x04), (CS2, 0, 4)]
)
def test_another_algorithm_or_key_is_refused(p256: IssuedCard, suite: Suite, p1: int, p2: int) -> None:
    assert converse(selected(card(p256, suite)), command(suite, request(suite), p1=p1, p2=p2)).sw == 0x6A86


def test_a_card_without_the_key_knows_no_such_reference(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    assert converse(chip, command(CS2, request(CS2))).sw == 0x6A86
    assert ask(chip, GET_SIGNER) == b"\x6a\x82"


@BOTH
def test_the_card_authentication_key_goes_on_as_before(p256: IssuedCard, suite: Suite) -> None:
    chip = selected(card(p256, suite))
    assert ask(chip, SIGN_WITH_9E).endswith(b"\x90\x00")
    assert converse(chip, command(suite, request(suite))).ok
    assert ask(chip, SIGN_WITH_9E).endswith(b"\x90\x00")


@given(host_message=st.binary(max_size=200))
def test_any_message_gets_a_status_word(p256: IssuedCard, host_message: bytes) -> None:
    response = converse(selected(card(p256, CS2)), command(CS2, host_message))
    assert response.sw in (0x9000, 0x6A80)


def test_the_signers_certificate_is_shown_where_there_is_one(issuer: Issuer, p256: IssuedCard) -> None:
    der = issuer.certificate.public_bytes(Encoding.DER)
    chip = selected(PivChip(p256.key, p256.der, secure_messaging=sm_key(CS2, signer=der)))
    apdu = CommandApdu.from_bytes(bytes.fromhex(GET_SIGNER))
    assert converse(chip, apdu).data == tlv.encode(0x53, tlv.encode(0x70, der) + bytes.fromhex("710100FE00"))
    assert ask(selected(card(p256, CS2)), GET_SIGNER) == b"\x6a\x82"


@pytest.mark.parametrize(("suite", "seconds"), [(CS2, 0.032), (CS7, 0.0453)])
def test_one_private_key_operation_takes_the_silicons_time(p256: IssuedCard, suite: Suite, seconds: float) -> None:
    chip = selected(card(p256, suite, timing=ChipTiming.of("jcop4-p71")))
    assert chip.process(bytes(command(suite, request(suite)))).compute_s == seconds
    assert chip.process(bytes.fromhex(SIGN_WITH_9E)).compute_s == 0.032
    assert chip.process(bytes(command(suite, b""))).compute_s == 0


def test_a_card_model_without_a_figure_for_the_key_is_refused(p256: IssuedCard) -> None:
    with pytest.raises(NoFigure, match="jcop241-j3a081 has no figure for P-384"):
        card(p256, CS7, timing=ChipTiming.of("jcop241-j3a081"))


def test_a_curve_without_a_suite_is_refused() -> None:
    with pytest.raises(CardFileError, match="no suite for secp521r1"):
        SmKey(ec.generate_private_key(ec.SECP521R1()), b"")


def test_a_key_from_files(issuer: Issuer, p256: IssuedCard, tmp_path: Path) -> None:
    key, cvc, signer, other = (tmp_path / name for name in ("key.pem", "card.cvc", "signer.der", "rsa.pem"))
    private = ec.derive_private_key(CARD, CS2.curve)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    cvc.write_bytes(certificate(CS2))
    signer.write_bytes(issuer.certificate.public_bytes(Encoding.DER))
    other.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "cak.pem").write_bytes(p256.key_pem)
    (tmp_path / "cak.crt").write_bytes(p256.pem)
    made = SmKey.from_files(key, cvc, signer=signer)
    chip = selected(PivChip.from_pem(tmp_path / "cak.pem", tmp_path / "cak.crt", secure_messaging=made))
    response = converse(chip, command(CS2, request(CS2)))
    assert response.data.endswith(certificate(CS2))
    assert ask(chip, GET_SIGNER)[:1] == b"\x53"
    with pytest.raises(CardFileError, match=r"rsa\.pem: secure messaging takes a P-256 or P-384 key"):
        SmKey.from_files(other, cvc)
    with pytest.raises(CardFileError, match="absent: No such file"):
        SmKey.from_files(key, tmp_path / "absent")

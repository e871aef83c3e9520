"""Whether a card confirmed a key: against real cards, a second computation, and evidence that confirms nothing."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import opacity
from hardware.opacity import CS2, CS7, SUITES, Suite
from tests import opacity_by_the_book as book
from validator.key_agreement import confirms
from validator.proof import Agreed

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "piv_sm.json").read_text())
RECORDED = pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda exchange: exchange["name"])
BOTH = pytest.mark.parametrize("suite", [CS2, CS7], ids=lambda suite: suite.name)
CURVES = {0x27: book.P256, 0x2E: book.P384}
CERTIFICATE = b"a certificate"
slow_examples = settings(max_examples=300 if os.environ.get("PILET_SOAK") == "1" else 10, deadline=None)


def agreed(suite: Suite, host: int, card: int, nonce: bytes, host_id: bytes = b"gate-007") -> Agreed:
    """What a card that answers by the book leaves behind."""
    curve = CURVES[suite.identifier]
    request = b"\x00" + host_id + b"\x04" + curve.octets(curve.times(host, curve.base))
    answer = book.answer(suite.identifier, card, CERTIFICATE, request, nonce)
    return Agreed(
        suite=suite.identifier,
        host_key=host.to_bytes(curve.size),
        host_id=host_id,
        card_id=opacity.card_id(CERTIFICATE),
        nonce=nonce,
        control=answer.message[0],
        cryptogram=answer.cryptogram,
    )


def card_key(suite: Suite, number: int = 11) -> ec.EllipticCurvePublicKey:
    return ec.derive_private_key(number, suite.curve).public_key()


GOOD = {suite: agreed(suite, 7, 11, bytes(range(suite.nonce_bytes))) for suite in (CS2, CS7)}


@RECORDED
def test_a_real_card_confirmed(exchange: Any) -> None:
    inputs, expected = exchange["inputs"], exchange["expected"]
    suite = SUITES[int(inputs["suite"], 16)]
    response = bytes.fromhex(inputs["response"])
    at = response.index(bytes.fromhex("7F21"))
    message = response[at - 1 - suite.nonce_bytes - 16 :]
    evidence = Agreed(
        suite=suite.identifier,
        host_key=bytes.fromhex(inputs["host_private"]),
        host_id=bytes.fromhex(inputs["host_id"]),
        card_id=bytes.fromhex(expected["card_id"]),
        nonce=message[1 : 1 + suite.nonce_bytes],
        control=message[0],
        cryptogram=bytes.fromhex(expected["cryptogram"]),
    )
    start = response.index(b"\x86" + bytes([suite.point_bytes])) + 2
    point = response[start : start + suite.point_bytes]
    assert confirms(evidence, ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, point))
    assert not confirms(evidence, card_key(suite))


@BOTH
@slow_examples
@given(data=st.data())
def test_a_card_by_the_book_confirms_and_any_other_key_does_not(suite: Suite, data: st.DataObject) -> None:
    numbers = st.integers(1, suite.order - 1)
    host, card = data.draw(numbers), data.draw(numbers)
    nonce = data.draw(st.binary(min_size=suite.nonce_bytes, max_size=suite.nonce_bytes))
    evidence = agreed(suite, host, card, nonce, data.draw(st.binary(min_size=8, max_size=8)))
    assert confirms(evidence, card_key(suite, card))
    # The negative of a point has the same x-coordinate: the same secret, and rightly so.
    other = data.draw(numbers.filter(lambda number: number not in (card, suite.order - card)))
    assert not confirms(evidence, card_key(suite, other))


@BOTH
@given(data=st.data())
def test_evidence_with_one_changed_byte_confirms_nothing(suite: Suite, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["host_key", "host_id", "card_id", "nonce", "cryptogram"]))
    value = bytearray(getattr(GOOD[suite], name))
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    assert not confirms(_changed(suite, name, bytes(value)), card_key(suite))


def _changed(suite: Suite, name: str, value: Any) -> Agreed:
    changes: dict[str, Any] = {name: value}
    return replace(GOOD[suite], **changes)


@BOTH
@given(data=st.data())
def test_evidence_of_another_length_confirms_nothing(suite: Suite, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["host_key", "host_id", "card_id", "nonce", "cryptogram"]))
    right: bytes = getattr(GOOD[suite], name)
    wrong = data.draw(st.one_of(st.just(right[:-1]), st.just(right + b"\x00"), st.just(b"\x00" + right), st.just(b"")))
    assert not confirms(_changed(suite, name, wrong), card_key(suite))


@BOTH
@pytest.mark.parametrize("name", ["host_id", "card_id", "nonce"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_field_of_another_length_is_not_confirmed_even_where_the_cryptogram_covers_it(
    suite: Suite, name: str, more: int
) -> None:
    wrong = _changed(suite, name, bytes(len(getattr(GOOD[suite], name)) + more))
    host = ec.derive_private_key(int.from_bytes(wrong.host_key), suite.curve)
    run = opacity.Run(suite, wrong.host_id, opacity.point_of(host.public_key()), wrong.card_id, wrong.nonce)
    cryptogram = run.cryptogram(host.exchange(ec.ECDH(), card_key(suite)))
    assert not confirms(replace(wrong, cryptogram=cryptogram), card_key(suite))


@BOTH
@pytest.mark.parametrize("control", [1, 0x10, 0x80, 0xFF, 0x100, -1])
def test_a_control_byte_of_persistent_binding_confirms_nothing(suite: Suite, control: int) -> None:
    assert not confirms(_changed(suite, "control", control), card_key(suite))


@BOTH
def test_a_private_number_out_of_range_confirms_nothing(suite: Suite) -> None:
    for number in (0, suite.order, 2 ** (8 * suite.coordinate_bytes) - 1):
        assert not confirms(_changed(suite, "host_key", number.to_bytes(suite.coordinate_bytes)), card_key(suite))


@pytest.mark.parametrize("identifier", [0, 0x11, 0x14, 0x28, 0x2D, -1, 0x127])
def test_an_unknown_suite_confirms_nothing(identifier: int) -> None:
    assert not confirms(_changed(CS2, "suite", identifier), card_key(CS2))


@pytest.mark.parametrize(
    "key",
    [
        card_key(CS7),
        ec.derive_private_key(11, ec.SECP256K1()).public_key(),
        ec.derive_private_key(11, ec.SECP521R1()).public_key(),
    ],
    ids=["P-384", "secp256k1", "P-521"],
)
def test_a_key_on_another_curve_than_the_suites_confirms_nothing(key: ec.EllipticCurvePublicKey) -> None:
    assert confirms(GOOD[CS2], card_key(CS2))
    assert not confirms(GOOD[CS2], key)


@given(
    evidence=st.builds(
        Agreed,
        suite=st.sampled_from([0x27, 0x2E, 0x11]),
        host_key=st.binary(max_size=50),
        host_id=st.binary(max_size=9),
        card_id=st.binary(max_size=9),
        nonce=st.binary(max_size=25),
        control=st.integers(-1, 256),
        cryptogram=st.binary(max_size=17),
    ),
    suite=st.sampled_from([CS2, CS7]),
)
def test_any_evidence_gets_an_answer(evidence: Agreed, suite: Suite) -> None:
    assert confirms(evidence, card_key(suite)) is False

"""Key establishment of PIV secure messaging: against recorded cards, published vectors and a second computation."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import opacity, tlv
from hardware.opacity import CS2, CS7, SUITES, CardMessage, HostMessage, OpacityError, Run, Suite
from tests import opacity_by_the_book as book
from tests.missing import program

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "piv_sm.json").read_text())
BOTH = pytest.mark.parametrize("suite", [CS2, CS7], ids=lambda suite: suite.name)
RECORDED = pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda exchange: exchange["name"])
#: The second computation multiplies points in plain integers.
slow_examples = settings(max_examples=500 if os.environ.get("PILET_SOAK") == "1" else 12, deadline=None)
CURVES = {0x27: book.P256, 0x2E: book.P384}


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def suite_of(exchange: Any) -> Suite:
    return SUITES[int(exchange["inputs"]["suite"], 16)]


def message_of(exchange: Any) -> CardMessage:
    response = octets(exchange["inputs"]["response"])
    return CardMessage.parse(suite_of(exchange), tlv.parse_one(tlv.parse_one(response, 0x7C), 0x82))


def openssl_cmac(key: bytes, message: bytes) -> bytes:
    cipher = f"AES-{8 * len(key)}-CBC"
    command = [program("openssl"), "mac", "-cipher", cipher, "-macopt", f"hexkey:{key.hex()}", "CMAC"]
    done = subprocess.run(command, input=message, capture_output=True, check=True)
    return octets(done.stdout.decode().strip())


class TestRecordedCards:
    """Real cards, with the reader's ephemeral private number written down."""

    @RECORDED
    def test_the_readers_point_and_command(self, exchange: Any) -> None:
        suite, private = suite_of(exchange), int(exchange["inputs"]["host_private"], 16)
        host = ec.derive_private_key(private, suite.curve).public_key()
        message = HostMessage(octets(exchange["inputs"]["host_id"]), opacity.point_of(host))
        template = tlv.encode(0x7C, tlv.encode(0x81, bytes(message)) + tlv.encode(0x82, b""))
        header = bytes([0x00, 0x87, suite.identifier, opacity.KEY_REFERENCE, len(template)])
        assert header + template + b"\x00" == octets(exchange["expected"]["command"])

    @RECORDED
    def test_every_step_to_the_cryptogram(self, exchange: Any) -> None:
        suite, card, expected = suite_of(exchange), message_of(exchange), exchange["expected"]
        host = ec.derive_private_key(int(exchange["inputs"]["host_private"], 16), suite.curve)
        certified = octets(exchange["inputs"]["response"])
        at = certified.index(b"\x86" + bytes([suite.point_bytes])) + 2
        point = certified[at : at + suite.point_bytes]
        secret = host.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, point))
        run = Run(
            suite,
            octets(exchange["inputs"]["host_id"]),
            opacity.point_of(host.public_key()),
            opacity.card_id(card.certificate),
            card.nonce,
        )
        keys = run.session_keys(secret)
        assert secret == octets(expected["shared_secret"])
        assert run.card_id == octets(expected["card_id"])
        assert run.other_info == octets(expected["other_info"])
        assert [keys.confirmation, keys.command_mac, keys.encryption, keys.response_mac] == [
            octets(key) for key in expected["keys"]
        ]
        assert run.cryptogram(secret) == octets(expected["cryptogram"]) == card.cryptogram
        assert card.control == opacity.CONTROL

    @RECORDED
    def test_a_card_with_the_readers_number_would_have_answered_the_same(self, exchange: Any) -> None:
        """The agreement is symmetric: play the card with the number that is known, against the card's point."""
        suite, card = suite_of(exchange), message_of(exchange)
        curve = CURVES[suite.identifier]
        private = int(exchange["inputs"]["host_private"], 16)
        host = curve.octets(curve.times(private, curve.base))
        certified = octets(exchange["inputs"]["response"])
        at = certified.index(b"\x86" + bytes([suite.point_bytes])) + 2
        point = certified[at : at + suite.point_bytes]
        x, y = int.from_bytes(point[1 : 1 + curve.size]), int.from_bytes(point[1 + curve.size :])
        secret = curve.times(private, (x, y))[0].to_bytes(curve.size)
        run = Run(
            suite,
            octets(exchange["inputs"]["host_id"]),
            b"\x04" + host,
            octets(exchange["expected"]["card_id"]),
            card.nonce,
        )
        assert run.cryptogram(secret) == card.cryptogram

    @RECORDED
    def test_the_recorded_lengths_are_within_the_standards(self, exchange: Any) -> None:
        limits = {example["suite"]: example for example in VECTORS["examples"]}[exchange["inputs"]["suite"]]
        assert len(octets(exchange["inputs"]["response"])) <= limits["response_bytes_at_most"]
        assert len(message_of(exchange).certificate) <= limits["certificate_bytes_at_most"]


class TestPublishedNumbers:
    @pytest.mark.parametrize("example", VECTORS["examples"], ids=lambda example: example["name"])
    def test_the_command_of_the_appendix(self, example: Any) -> None:
        suite = SUITES[int(example["suite"], 16)]
        point = b"\x04" + bytes(range(1, suite.point_bytes))
        template = tlv.encode(0x7C, tlv.encode(0x81, bytes(HostMessage(bytes(8), point))) + tlv.encode(0x82, b""))
        command = bytes([0x00, 0x87, suite.identifier, 0x04, len(template)]) + template + b"\x00"
        assert command == octets(example["before_point"]) + point + octets(example["after_point"])

    @pytest.mark.parametrize("vector", VECTORS["derivations"], ids=lambda vector: vector["name"])
    def test_the_derivation(self, vector: Any) -> None:
        keys = opacity.session_keys(CS2, octets(vector["secret"]), octets(vector["other_info"]))
        material = keys.confirmation + keys.command_mac + keys.encryption + keys.response_mac
        assert len(material) == 64
        assert material.startswith(octets(vector["begins"]))

    @pytest.mark.parametrize("vector", VECTORS["macs"], ids=lambda vector: vector["name"])
    def test_the_message_authentication_code(self, vector: Any) -> None:
        """In the library that the room uses, in the second computation, and in openssl."""
        key, message, tag = octets(vector["key"]), octets(vector["message"]), octets(vector["tag"])
        mac = CMAC(algorithms.AES(key))
        mac.update(message)
        assert mac.finalize() == book.cmac(key, message) == openssl_cmac(key, message) == tag

    @BOTH
    def test_the_orders_are_the_curves_own(self, suite: Suite) -> None:
        curve = CURVES[suite.identifier]
        assert suite.order == curve.n
        last = ec.derive_private_key(suite.order - 1, suite.curve).public_key().public_numbers()
        assert (last.x, curve.p - last.y) == curve.base
        with pytest.raises(ValueError, match="out of range"):
            ec.derive_private_key(suite.order, suite.curve)

    @pytest.mark.parametrize(("suite", "info", "request_bytes"), [(CS2, 61, 74), (CS7, 69, 106)])
    def test_lengths(self, suite: Suite, info: int, request_bytes: int) -> None:
        run = Run(suite, bytes(8), bytes(suite.point_bytes), bytes(8), bytes(suite.nonce_bytes))
        assert len(run.other_info) == info
        assert len(bytes(HostMessage(bytes(8), bytes(suite.point_bytes)))) == request_bytes
        keys = run.session_keys(bytes(suite.coordinate_bytes))
        assert {len(keys.confirmation), len(keys.command_mac), len(keys.encryption), len(keys.response_mac)} == {
            suite.key_bytes
        }


class TestAgainstTheSecondComputation:
    @BOTH
    @slow_examples
    @given(data=st.data())
    def test_both_computations_agree(self, suite: Suite, data: st.DataObject) -> None:
        curve = CURVES[suite.identifier]
        host, card = data.draw(st.integers(1, curve.n - 1)), data.draw(st.integers(1, curve.n - 1))
        nonce = data.draw(st.binary(min_size=suite.nonce_bytes, max_size=suite.nonce_bytes))
        host_id = data.draw(st.binary(min_size=8, max_size=8))
        certificate = data.draw(st.binary(min_size=1, max_size=300))
        private = ec.derive_private_key(host, suite.curve)
        peer = ec.derive_private_key(card, suite.curve).public_key()
        sent = HostMessage(host_id, opacity.point_of(private.public_key()))

        theirs = book.answer(suite.identifier, card, certificate, bytes(sent), nonce)

        received = CardMessage.parse(suite, theirs.message)
        run = Run(suite, host_id, sent.point, opacity.card_id(received.certificate), received.nonce)
        secret = private.exchange(ec.ECDH(), peer)
        keys = run.session_keys(secret)
        assert secret == theirs.secret
        assert run.other_info == theirs.other_info
        assert (keys.confirmation, keys.command_mac, keys.encryption, keys.response_mac) == theirs.keys
        assert run.cryptogram(secret) == theirs.cryptogram == received.cryptogram
        assert (received.control, received.nonce, received.certificate) == (0, nonce, certificate)

    @BOTH
    def test_openssl_computes_the_same_cryptogram(self, suite: Suite) -> None:
        curve = CURVES[suite.identifier]
        host = b"\x04" + curve.octets(curve.times(77, curve.base))
        theirs = book.answer(
            suite.identifier, 99, b"certificate", b"\x00" + b"gate-007" + host, bytes(suite.nonce_bytes)
        )
        run = Run(suite, b"gate-007", host, opacity.card_id(b"certificate"), bytes(suite.nonce_bytes))
        assert run.cryptogram(theirs.secret) == openssl_cmac(theirs.keys[0], theirs.confirmed)

    @BOTH
    def test_a_secret_that_begins_with_zeroes_keeps_them(self, suite: Suite) -> None:
        curve = CURVES[suite.identifier]
        peer = ec.derive_private_key(5, suite.curve).public_key()
        number = next(
            number
            for number in range(1, 10_000)
            if ec.derive_private_key(number, suite.curve).exchange(ec.ECDH(), peer)[0] == 0
        )
        host = b"\x04" + curve.octets(curve.times(number, curve.base))
        nonce = bytes(suite.nonce_bytes)
        theirs = book.answer(suite.identifier, 5, b"certificate", bytes(9) + host, nonce)
        secret = ec.derive_private_key(number, suite.curve).exchange(ec.ECDH(), peer)
        assert len(secret) == suite.coordinate_bytes
        assert (
            Run(suite, bytes(8), host, opacity.card_id(b"certificate"), nonce).cryptogram(secret) == theirs.cryptogram
        )


class TestMessages:
    @BOTH
    @given(data=st.data())
    def test_a_message_is_read_as_it_was_written(self, suite: Suite, data: st.DataObject) -> None:
        def some(size: int) -> bytes:
            return data.draw(st.binary(min_size=size, max_size=size))

        control = data.draw(st.integers(0, 255))
        host = HostMessage(some(8), some(suite.point_bytes), control)
        assert HostMessage.parse(suite, bytes(host)) == host
        card = CardMessage(control, some(suite.nonce_bytes), some(16), data.draw(st.binary(min_size=1, max_size=300)))
        assert CardMessage.parse(suite, bytes(card)) == card

    @BOTH
    @given(data=st.data())
    def test_another_length_is_no_message(self, suite: Suite, data: st.DataObject) -> None:
        right = 9 + suite.point_bytes
        wrong = data.draw(st.integers(0, 2 * right).filter(lambda size: size != right))
        with pytest.raises(OpacityError, match=f"{wrong} bytes"):
            HostMessage.parse(suite, bytes(wrong))
        short = data.draw(st.integers(0, 1 + suite.nonce_bytes + 16))
        with pytest.raises(OpacityError, match=f"{short} bytes"):
            CardMessage.parse(suite, bytes(short))


class TestPrivateNumber:
    @BOTH
    @given(data=st.data())
    def test_it_is_always_in_range(self, suite: Suite, data: st.DataObject) -> None:
        random = data.draw(st.binary(min_size=suite.random_bytes, max_size=suite.random_bytes))
        assert 1 <= suite.private_number(random) < suite.order

    @BOTH
    def test_its_ends(self, suite: Suite) -> None:
        size = suite.random_bytes
        assert size == suite.coordinate_bytes + 8
        assert suite.private_number(bytes(size)) == 1
        assert suite.private_number((suite.order - 2).to_bytes(size)) == suite.order - 1
        assert suite.private_number((suite.order - 1).to_bytes(size)) == 1

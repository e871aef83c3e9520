"""The PIV profile against a card that answers by the book: octets, counts, and what each wrong answer becomes."""

import gzip
import hashlib
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.attempting import GATE, WALL_MS, counting, stranger
from tests.validator.authority import Authority, card_key
from tests.validator.scripted_card import (
    APT,
    GET_CERTIFICATE,
    SELECT,
    ScriptedCard,
    container,
    run,
    tlv,
)
from validator.certificates import credential_id, spki_of
from validator.model import Assurance, KeyAlgorithm, KnownCard, Reason
from validator.profiles import piv
from validator.profiles.attempt import cache_key, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, KeyUnsupported, ProfileError, WrongFamily
from validator.proof import CardProof, Certificate, Signed

MESSAGE = challenge_message(GATE, WALL_MS, counting(32))
DIGEST_INFO = bytes.fromhex("3031300D060960864801650304020105000420")
ALL = pytest.mark.parametrize("algorithm", list(KeyAlgorithm))


def known_card(algorithm: KeyAlgorithm) -> KnownCard:
    spki = spki_of(card_key(algorithm).public_key())
    return KnownCard(credential_id(spki), algorithm, spki, 0, 2**32, bytes(16), 1)


def signed(proof: CardProof) -> Signed:
    assert isinstance(proof.evidence, Signed)
    return proof.evidence


def card_of(authority: Authority, algorithm: KeyAlgorithm, *, block: int = 256) -> ScriptedCard:
    key = card_key(algorithm)
    return ScriptedCard(key, container(authority.issue(key)), block)


def tap_known(card: ScriptedCard, algorithm: KeyAlgorithm) -> CardProof:
    return run(card.process, lambda _block_id: known_card(algorithm))


class TestKnownCard:
    def test_p256_takes_the_three_exchanges_of_the_reference(self, authority: Authority) -> None:
        card = card_of(authority, KeyAlgorithm.P256)
        tap_known(card, KeyAlgorithm.P256)
        digest = hashlib.sha256(MESSAGE).hexdigest().upper()
        assert [command.hex().upper() for command in card.log] == [
            "00A4040009A0000003080000100000",
            "00CB3FFF055C035FC10100",
            f"0087119E267C2482008120{digest}00",
        ]

    def test_p384_differs_in_parameter_and_digest(self, authority: Authority) -> None:
        card = card_of(authority, KeyAlgorithm.P384)
        tap_known(card, KeyAlgorithm.P384)
        digest = hashlib.sha384(MESSAGE).hexdigest().upper()
        assert [command.hex().upper() for command in card.log[2:]] == [f"0087149E367C3482008130{digest}00"]

    @pytest.mark.parametrize(
        ("algorithm", "template", "padding", "headers"),
        [
            (KeyAlgorithm.RSA2048, "7C82010682008182010000 01", 202, ("1087079EFF", "0087079E0B", "00C0000008")),
            (KeyAlgorithm.RSA3072, "7C82018682008182018000 01", 330, ("1087059EFF", "0087059E8B", "00C0000088")),
        ],
    )
    def test_rsa_takes_five_with_the_padding_done_here(
        self, authority: Authority, algorithm: KeyAlgorithm, template: str, padding: int, headers: tuple[str, str, str]
    ) -> None:
        card = card_of(authority, algorithm)
        tap_known(card, algorithm)
        whole = bytes.fromhex(template) + b"\xff" * padding + b"\x00" + DIGEST_INFO + hashlib.sha256(MESSAGE).digest()
        link, last, rest = (bytes.fromhex(header) for header in headers)
        assert card.log == [SELECT, GET_CERTIFICATE, link + whole[:255], last + whole[255:] + b"\x00", rest]

    @ALL
    def test_the_proof_names_the_verdict_and_carries_no_certificate(
        self, authority: Authority, algorithm: KeyAlgorithm
    ) -> None:
        proof = tap_known(card_of(authority, algorithm), algorithm)
        assert (proof.profile, proof.assurance, signed(proof).challenge) == ("piv", Assurance.CHIP, MESSAGE)
        assert (signed(proof).algorithm, proof.cached, proof.shown) == (algorithm, True, known_card(algorithm))

    def test_the_cache_is_asked_for_the_digest_of_the_first_block_alone(self, authority: Authority) -> None:
        card = card_of(authority, KeyAlgorithm.P256, block=255)
        asked: list[bytes] = []

        def find(block_id: bytes) -> KnownCard:
            asked.append(block_id)
            return known_card(KeyAlgorithm.P256)

        proof = run(card.process, find)
        assert asked == [cache_key(piv.NAME, card.object[:255])] == [proof.cache_key]

    def test_a_card_that_refuses_anothers_verdict_is_read_whole(self, authority: Authority) -> None:
        key = card_key(KeyAlgorithm.P256)
        certificate = authority.issue(key)
        card = ScriptedCard(key, container(certificate))
        proof = tap_known(card, KeyAlgorithm.P384)
        assert (proof.shown, proof.cached, signed(proof).algorithm) == (
            Certificate(certificate),
            False,
            KeyAlgorithm.P256,
        )
        assert proof.cache_key == cache_key(piv.NAME, card.object[:256])
        assert [command[1] for command in card.log] == [0xA4, 0xCB, 0x87, 0xCB, 0xC0, 0x87]


class TestStranger:
    @ALL
    @pytest.mark.parametrize("block", [254, 255, 256])
    @pytest.mark.parametrize("compress", [False, True])
    def test_the_whole_certificate_is_read(
        self, authority: Authority, algorithm: KeyAlgorithm, block: int, *, compress: bool
    ) -> None:
        key = card_key(algorithm)
        certificate = authority.issue(key)
        card = ScriptedCard(key, container(certificate, compress=compress), block)
        proof = run(card.process, stranger)
        assert (proof.shown, proof.cached, signed(proof).algorithm) == (Certificate(certificate), False, algorithm)
        assert proof.cache_key == cache_key(piv.NAME, card.object[:block])

    @pytest.mark.parametrize("block", [1, 8, 127])
    def test_a_first_block_too_short_to_tell_cards_apart_is_malformed(self, authority: Authority, block: int) -> None:
        """The cache would take two cards for one; known or not, it is never asked."""
        asked: list[bytes] = []
        card = card_of(authority, KeyAlgorithm.P256, block=block)
        with pytest.raises(CardMalformed, match=f"a first block of {block} bytes"):
            run(card.process, asked.append)
        assert asked == []

    def test_an_object_that_is_short_as_a_whole_is_judged_as_it_is(self) -> None:
        card = ScriptedCard(card_key(KeyAlgorithm.P256), tlv("53", tlv("70", b"no certificate")))
        with pytest.raises(CardMalformed, match="not a certificate"):
            run(card.process, stranger)

    @pytest.mark.parametrize("order", ["70 71 FE", "FE 71 70", "71 70", "70", "70 72 71 FE"])
    def test_objects_come_in_any_order_and_some_not_at_all(self, authority: Authority, order: str) -> None:
        key = card_key(KeyAlgorithm.P256)
        certificate = authority.issue(key)
        parts = {"70": tlv("70", certificate), "71": tlv("71", b"\0"), "FE": tlv("FE", b""), "72": tlv("72", bytes(3))}
        card = ScriptedCard(key, tlv("53", b"".join(parts[tag] for tag in order.split())))
        assert run(card.process, stranger).shown == Certificate(certificate)

    @pytest.mark.parametrize(
        ("inside", "why"),
        [
            (tlv("71", b"\0"), "no certificate"),
            (tlv("70", b"") + tlv("71", b"\0"), "no certificate"),
            (tlv("70", b"0") + tlv("70", b"0"), "two objects 70"),
            (tlv("70", b"0") + tlv("71", b"\x02"), "CertInfo"),
            (tlv("70", b"0") + tlv("71", b""), "CertInfo"),
            (tlv("70", b"0") + tlv("71", b"\0\0"), "CertInfo"),
            (tlv("70", b"0") + tlv("FE", b"\x01"), "error detection"),
            (tlv("70", b"no certificate"), "not a certificate"),
            (tlv("70", b"no gzip") + tlv("71", b"\x01"), "not gzip"),
            (tlv("70", gzip.compress(b"0", mtime=0)[:-1]) + tlv("71", b"\x01"), "cut short"),
            (tlv("70", gzip.compress(b"0", mtime=0) + b"!") + tlv("71", b"\x01"), "follow"),
            (tlv("70", zlib.compress(b"0")) + tlv("71", b"\x01"), "not gzip"),
            (tlv("70", gzip.compress(bytes(50_000_000), mtime=0)[:4096]) + tlv("71", b"\x01"), "larger than"),
            (tlv("70", gzip.compress(bytes(8193), mtime=0)) + tlv("71", b"\x01"), "larger than"),
        ],
        # Not the octets: gzip writes the time into them, and two workers would disagree on a test's name.
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_bad_container_is_malformed(self, inside: bytes, why: str) -> None:
        card = ScriptedCard(card_key(KeyAlgorithm.P256), tlv("53", inside))
        with pytest.raises(CardMalformed, match=why):
            run(card.process, stranger)

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024),
            ec.generate_private_key(ec.SECP521R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["RSA-1024", "P-521", "secp256k1", "Ed25519"],
    )
    def test_a_key_that_no_card_may_have(
        self, authority: Authority, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ) -> None:
        card = ScriptedCard(card_key(KeyAlgorithm.P256), container(authority.issue(key)))
        with pytest.raises(KeyUnsupported) as caught:
            run(card.process, stranger)
        assert caught.value.reason is Reason.UNSUPPORTED_KEY

    def test_a_contact_card_that_announces_the_length_alone(self, authority: Authority) -> None:
        card = card_of(authority, KeyAlgorithm.P256)
        pending = [card.object[:256]]

        def announce(command: bytes) -> bytes:
            if command == GET_CERTIFICATE:
                return b"\x61\x00"
            if pending and command == bytes.fromhex("00C0000000"):
                card.process(GET_CERTIFICATE)
                return pending.pop() + b"\x61" + bytes([len(card.object) - 256])
            return card.process(command)

        proof = run(announce, stranger)
        assert proof.cache_key == cache_key(piv.NAME, card.object[:256])


class TestRefusals:
    @pytest.mark.parametrize(
        ("prefix", "answer", "error", "reason"),
        [
            ("00A4", "6A82", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00A4", "6D00", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00CB", "6A82", WrongFamily, Reason.UNKNOWN_MEDIUM),
            ("00CB", "6982", CardRefused, Reason.MALFORMED_ANSWER),
            ("00CB", "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00CB", "6100", CardMalformed, Reason.MALFORMED_ANSWER),
            ("00C0", "6F00", CardRefused, Reason.MALFORMED_ANSWER),
            ("0087", "6982", CardRefused, Reason.MALFORMED_ANSWER),
            ("0087", "9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C0482028001 9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C028200 9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C0A8208 3006020100020101 9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C0A8208 3006020101020101 00 9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C0B8209 3006020101020101 00 9000", CardMalformed, Reason.MALFORMED_ANSWER),
            ("0087", "7C0C8208 3006020101020101 8200 9000", CardMalformed, Reason.MALFORMED_ANSWER),
        ],
    )
    def test_each_wrong_answer_has_its_reason(
        self, authority: Authority, prefix: str, answer: str, error: type[ProfileError], reason: Reason
    ) -> None:
        card = card_of(authority, KeyAlgorithm.P256)

        def process(command: bytes) -> bytes:
            return bytes.fromhex(answer) if command.startswith(bytes.fromhex(prefix)) else card.process(command)

        with pytest.raises(error) as caught:
            run(process, stranger)
        assert type(caught.value) is error
        assert caught.value.reason is reason

    def test_an_rsa_signature_has_the_length_of_its_modulus(self, authority: Authority) -> None:
        card = card_of(authority, KeyAlgorithm.RSA2048)

        def process(command: bytes) -> bytes:
            if command[:3] == bytes.fromhex("008707"):
                return tlv("7C", tlv("82", bytes(128))) + b"\x90\x00"
            return card.process(command)

        with pytest.raises(CardMalformed, match="128 bytes"):
            run(process, stranger)

    @pytest.mark.parametrize("apt", ["9000", APT.hex() + "9000", "61817C" + "00" * 124 + "9000", "FFFF9000"])
    def test_the_application_template_is_not_looked_at(self, authority: Authority, apt: str) -> None:
        card = card_of(authority, KeyAlgorithm.P256)

        def process(command: bytes) -> bytes:
            return bytes.fromhex(apt) if command == SELECT else card.process(command)

        assert run(process, stranger).shown is not None


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.tuples(st.binary(max_size=258), st.sampled_from(["9000", "6100", "6110", "6C10", "6A82", "6A86"])).map(
        lambda parts: parts[0] + bytes.fromhex(parts[1])
    ),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=8), last=ANSWER)
    def test_any_answers_end_in_a_profile_error_within_bounds(self, answers: list[bytes], last: bytes) -> None:
        script = iter(answers)
        count = 0

        def process(_command: bytes) -> bytes:
            nonlocal count
            count += 1
            assert count <= 200
            return next(script, last)

        with pytest.raises(ProfileError):
            run(process, stranger)

    @given(
        algorithm=st.sampled_from([KeyAlgorithm.P256, KeyAlgorithm.RSA2048]),
        known=st.booleans(),
        spoilt=st.integers(0, 5),
        position=st.integers(0, 300),
        flip=st.integers(1, 255),
    )
    def test_one_spoilt_answer_ends_in_a_proof_or_a_profile_error(
        self,
        issued: dict[KeyAlgorithm, bytes],
        algorithm: KeyAlgorithm,
        spoilt: int,
        position: int,
        flip: int,
        *,
        known: bool,
    ) -> None:
        card = ScriptedCard(card_key(algorithm), container(issued[algorithm]))

        def process(command: bytes) -> bytes:
            answer = bytearray(card.process(command))
            if len(card.log) == spoilt + 1:
                answer[position % len(answer)] ^= flip
            return bytes(answer)

        try:
            proof = run(process, lambda _block_id: known_card(algorithm) if known else None)
        except ProfileError:
            return
        assert signed(proof).challenge == MESSAGE


class TestChallengeMessage:
    def test_its_layout(self) -> None:
        message = challenge_message("A1", 0x0123456789, b"\xaa\xbb")
        assert (
            message == b"\x00\x0bpilet-tap/1" + b"\x00\x02A1" + bytes.fromhex("0000000123456789") + b"\x00\x02\xaa\xbb"
        )

    @given(
        one=st.tuples(st.text(max_size=4), st.integers(0, 2**63), st.binary(max_size=4)),
        other=st.tuples(st.text(max_size=4), st.integers(0, 2**63), st.binary(max_size=4)),
    )
    def test_two_different_inputs_never_give_one_message(
        self, one: tuple[str, int, bytes], other: tuple[str, int, bytes]
    ) -> None:
        assert (challenge_message(*one) == challenge_message(*other)) == (one == other)

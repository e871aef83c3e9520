"""Card-verifiable certificates of PIV secure messaging: real ones, our own, and everything that is none."""

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware import opacity
from hardware.opacity import CS2, CS7, SUITES, Suite
from tests import opacity_by_the_book as book
from tests.hostile import hostile
from tests.missing import program
from validator import piv_cvc
from validator.certificates import CertificateError, KeyUnsupportedError
from validator.piv_cvc import PivCertificate, PivCvcError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "piv_sm.json").read_text())
RECORDED = pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda exchange: exchange["name"])
BOTH = pytest.mark.parametrize("suite", [CS2, CS7], ids=lambda suite: suite.name)
ISSUER, GUID = bytes.fromhex("0123456789ABCDEF"), bytes(range(16))
CURVES = {0x27: book.P256, 0x2E: book.P384}
KEYS = {suite: ec.derive_private_key(0xC0FFEE, suite.curve) for suite in (CS2, CS7)}
SIGNERS = {suite: ec.derive_private_key(0x51617E, suite.curve) for suite in (CS2, CS7)}
ALGORITHM = {CS2: "300A06082A8648CE3D040302", CS7: "300A06082A8648CE3D040303"}
CURVE_OID = {CS2: "06082A8648CE3D030107", CS7: "06052B81040022"}
ORDER = "5F29 42 5F20 7F49 5F4C 5F37"
RSA_SIGNER = rsa.generate_private_key(65537, 2048)


def issued(suite: Suite) -> bytes:
    return piv_cvc.issue(issuer=ISSUER, guid=GUID, key=KEYS[suite].public_key(), signer=SIGNERS[suite])


def point_of(suite: Suite) -> bytes:
    return opacity.point_of(KEYS[suite].public_key())


def parts(suite: Suite, changes: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The six objects of a good certificate, made from literal octets; what is changed is not signed again."""
    whole = {
        "5F29": bytes.fromhex("5F290180"),
        "42": book.tlv("42", ISSUER),
        "5F20": book.tlv("5F20", GUID),
        "7F49": book.tlv("7F49", bytes.fromhex(CURVE_OID[suite]) + book.tlv("86", point_of(suite))),
        "5F4C": bytes.fromhex("5F4C0100"),
    }
    signature = SIGNERS[suite].sign(b"".join(whole.values()), ec.ECDSA(suite.digest))
    whole["5F37"] = book.signature_object(ALGORITHM[suite], signature)
    return whole | dict(changes or {})


def made(suite: Suite, changes: Mapping[str, bytes] | None = None, order: str = ORDER) -> bytes:
    objects = parts(suite, changes)
    return book.tlv("7F21", b"".join(objects[tag] for tag in order.split()))


def recorded(exchange: Any) -> bytes:
    response = bytes.fromhex(exchange["inputs"]["response"])
    return response[response.index(bytes.fromhex("7F21")) :]


class TestRecordedCards:
    @RECORDED
    def test_its_fields(self, exchange: Any) -> None:
        cvc = piv_cvc.parse(recorded(exchange))
        suite = SUITES[int(exchange["inputs"]["suite"], 16)]
        assert cvc.guid == bytes.fromhex(exchange["expected"]["guid"])
        assert cvc.issuer == bytes.fromhex(exchange["inputs"]["signer_identifier"])[:8]
        assert cvc.key.curve.name == suite.curve.name
        assert cvc.signature_hash.name == suite.digest.name

    @RECORDED
    def test_its_signer_signed_it_and_nobody_else(self, exchange: Any) -> None:
        cvc = piv_cvc.parse(recorded(exchange))
        point = bytes.fromhex(exchange["inputs"]["signer_point"])
        assert cvc.signed_by(ec.EllipticCurvePublicKey.from_encoded_point(cvc.key.curve, point))
        assert not cvc.signed_by(cvc.key)


class TestOurOwn:
    @BOTH
    @given(issuer=st.binary(min_size=8, max_size=8), guid=st.binary(min_size=16, max_size=16))
    def test_what_is_issued_is_read_and_holds(self, suite: Suite, issuer: bytes, guid: bytes) -> None:
        octets = piv_cvc.issue(issuer=issuer, guid=guid, key=KEYS[suite].public_key(), signer=SIGNERS[suite])
        cvc = piv_cvc.parse(octets)
        assert (cvc.issuer, cvc.guid) == (issuer, guid)
        assert cvc.key.public_numbers() == KEYS[suite].public_key().public_numbers()
        assert cvc.signed_by(SIGNERS[suite].public_key())
        assert not cvc.signed_by(KEYS[suite].public_key())
        assert len(octets) <= (213 if suite is CS2 else 275)
        curve = CURVES[suite.identifier]
        assert octets == book.certificate(
            suite.identifier, issuer, guid, curve.times(0xC0FFEE, curve.base), cvc.signature
        )

    @BOTH
    def test_literal_octets_in_the_standards_order_are_read(self, suite: Suite) -> None:
        cvc = piv_cvc.parse(made(suite))
        assert cvc.signed_by(SIGNERS[suite].public_key())
        assert cvc.signed == b"".join(list(parts(suite).values())[:-1])

    @BOTH
    def test_openssl_verifies_the_signature(self, suite: Suite, tmp_path: Path) -> None:
        cvc = piv_cvc.parse(issued(suite))
        (tmp_path / "signer.pem").write_bytes(
            SIGNERS[suite].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (tmp_path / "signature").write_bytes(cvc.signature)
        digest = f"-{suite.digest.name}"
        command = [program("openssl"), "dgst", digest, "-verify", "signer.pem", "-signature", "signature"]
        done = subprocess.run(command, input=cvc.signed, capture_output=True, check=True, cwd=tmp_path)
        assert done.stdout.strip() == b"Verified OK"

    @pytest.mark.parametrize(
        ("key", "signer"),
        [
            (ec.SECP256R1(), ec.SECP384R1()),
            (ec.SECP384R1(), ec.SECP256R1()),
            (ec.SECP521R1(), ec.SECP521R1()),
            (ec.SECP256K1(), ec.SECP256K1()),
        ],
        ids=lambda curve: curve.name,
    )
    def test_no_suite_mixes_curves(self, key: ec.EllipticCurve, signer: ec.EllipticCurve) -> None:
        with pytest.raises(KeyUnsupportedError, match=f"a key on {key.name} under a signer on {signer.name}"):
            piv_cvc.issue(
                issuer=ISSUER,
                guid=GUID,
                key=ec.generate_private_key(key).public_key(),
                signer=ec.generate_private_key(signer),
            )

    @pytest.mark.parametrize(("issuer", "guid"), [(ISSUER[1:], GUID), (ISSUER + b"0", GUID), (ISSUER, GUID[1:])])
    def test_identifiers_have_one_length(self, issuer: bytes, guid: bytes) -> None:
        with pytest.raises(PivCvcError, match="bytes"):
            piv_cvc.issue(issuer=issuer, guid=guid, key=KEYS[CS2].public_key(), signer=SIGNERS[CS2])

    def test_a_signer_on_another_curve_did_not_sign(self) -> None:
        assert not piv_cvc.parse(issued(CS2)).signed_by(SIGNERS[CS7].public_key())

    def test_a_weaker_signer_does_not_count_even_where_its_signature_holds(self) -> None:
        signed = b"".join(list(parts(CS7).values())[:-1])
        signature = SIGNERS[CS2].sign(signed, ec.ECDSA(hashes.SHA384()))
        cvc = piv_cvc.parse(made(CS7, {"5F37": book.signature_object(ALGORITHM[CS7], signature)}))
        SIGNERS[CS2].public_key().verify(cvc.signature, cvc.signed, ec.ECDSA(cvc.signature_hash))
        assert not cvc.signed_by(SIGNERS[CS2].public_key())


def raw_signature(suite: Suite) -> bytes:
    numbers = decode_dss_signature(SIGNERS[suite].sign(b"", ec.ECDSA(suite.digest)))
    return b"".join(number.to_bytes(suite.coordinate_bytes) for number in numbers)


def der_pair(r: int, s: int) -> bytes:
    def integer(number: int) -> bytes:
        return book.tlv("02", number.to_bytes(number.bit_length() // 8 + 1, signed=True))

    return book.tlv("30", integer(r) + integer(s))


def signature_of(content: bytes) -> bytes:
    return book.tlv("5F37", content)


P256_ALGORITHM = bytes.fromhex(ALGORITHM[CS2])
COMPRESSED = KEYS[CS2].public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
OFF_CURVE = point_of(CS2)[:-1] + bytes([point_of(CS2)[-1] ^ 1])
GOOD_SIGNATURE = SIGNERS[CS2].sign(b"", ec.ECDSA(hashes.SHA256()))


def key_object(oid: str, point: bytes, rest: bytes = b"") -> bytes:
    return book.tlv("7F49", bytes.fromhex(oid) + book.tlv("86", point) + rest)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"5F29": bytes.fromhex("5F290170")}, "another profile"),
            ({"5F29": bytes.fromhex("5F29028080")}, "another profile"),
            ({"5F29": bytes.fromhex("5F2900")}, "another profile"),
            ({"42": book.tlv("42", bytes(7))}, "an issuer of 7 bytes"),
            ({"42": book.tlv("42", bytes(9))}, "an issuer of 9 bytes"),
            ({"5F20": book.tlv("5F20", bytes(8))}, "a card identifier of 8 bytes"),
            ({"5F20": book.tlv("5F20", bytes(17))}, "a card identifier of 17 bytes"),
            ({"5F4C": bytes.fromhex("5F4C0112")}, "an intermediate certificate"),
            ({"5F4C": bytes.fromhex("5F4C0112"), "5F20": book.tlv("5F20", bytes(8))}, "an intermediate certificate"),
            ({"5F4C": bytes.fromhex("5F4C0101")}, "another role"),
            ({"5F4C": bytes.fromhex("5F4C020000")}, "another role"),
            ({"5F4C": bytes.fromhex("5F4C00")}, "another role"),
            ({"7F49": key_object(CURVE_OID[CS2], OFF_CURVE)}, "not on its curve"),
            ({"7F49": key_object(CURVE_OID[CS2], b"\x04" + bytes(64))}, "not on its curve"),
            ({"7F49": key_object(CURVE_OID[CS2], b"\x04" + b"\xff" * 64)}, "not on its curve"),
            ({"7F49": key_object(CURVE_OID[CS2], b"\x06" + point_of(CS2)[1:])}, "not on its curve"),
            ({"7F49": key_object(CURVE_OID[CS2], COMPRESSED)}, "a point of 33 bytes"),
            ({"7F49": key_object(CURVE_OID[CS2], point_of(CS2)[1:])}, "a point of 64 bytes"),
            ({"7F49": key_object(CURVE_OID[CS2], point_of(CS7))}, "a point of 97 bytes"),
            ({"7F49": key_object(CURVE_OID[CS7], point_of(CS2))}, "a point of 65 bytes"),
            ({"7F49": key_object(CURVE_OID[CS2], b"")}, "a point of 0 bytes"),
            ({"7F49": key_object(CURVE_OID[CS2], point_of(CS2), b"\x86\x00")}, "not an algorithm and a point"),
            ({"7F49": book.tlv("7F49", book.tlv("86", point_of(CS2)))}, "not an algorithm and a point"),
            ({"7F49": book.tlv("7F49", b"")}, "not an algorithm and a point"),
            (
                {"7F49": book.tlv("7F49", bytes.fromhex(CURVE_OID[CS2]) + b"\x86\x81\x41" + point_of(CS2))},
                "shortest form",
            ),
            ({"5F37": signature_of(raw_signature(CS2))}, "."),
            ({"5F37": book.signature_object(ALGORITHM[CS2], raw_signature(CS2))}, "not an ECDSA-Sig-Value"),
            ({"5F37": book.signature_object(ALGORITHM[CS2], b"")}, "not an ECDSA-Sig-Value"),
            ({"5F37": book.signature_object(ALGORITHM[CS2], GOOD_SIGNATURE + b"\x00")}, "not an ECDSA-Sig-Value"),
            ({"5F37": signature_of(GOOD_SIGNATURE)}, "not an algorithm and a bit string"),
            ({"5F37": signature_of(b"")}, "expected one object 30"),
            ({"5F37": signature_of(book.tlv("30", P256_ALGORITHM))}, "not an algorithm and a bit string"),
            ({"5F37": signature_of(book.tlv("30", P256_ALGORITHM + bytes.fromhex("0300")))}, "one encoding"),
            (
                {"5F37": signature_of(book.tlv("30", P256_ALGORITHM + book.tlv("03", b"\x01" + GOOD_SIGNATURE)))},
                "one encoding",
            ),
            (
                {
                    "5F37": signature_of(
                        book.tlv("30", P256_ALGORITHM + b"\x03\x81" + book.tlv("03", b"\x00" + GOOD_SIGNATURE)[1:])
                    )
                },
                "one encoding",
            ),
            ({"5F37": book.signature_object(ALGORITHM[CS2], der_pair(0, 1))}, "out of range"),
            ({"5F37": book.signature_object(ALGORITHM[CS2], der_pair(1, 0))}, "out of range"),
            ({"5F37": book.signature_object(ALGORITHM[CS2], der_pair(-1, 1))}, "."),
            ({"5F37": book.signature_object(ALGORITHM[CS2], der_pair(CS2.order, 1))}, "out of range"),
            ({"5F37": book.signature_object(ALGORITHM[CS2], der_pair(1, CS2.order))}, "out of range"),
        ],
    )
    def test_a_field_that_is_not_the_standards(self, changes: dict[str, bytes], why: str) -> None:
        with pytest.raises(PivCvcError, match=why):
            piv_cvc.parse(made(CS2, changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"7F49": key_object("06052B81040023", b"\x04" + bytes(132))},  # P-521
            {"7F49": key_object("06052B8104000A", point_of(CS2))},  # secp256k1
            {"7F49": key_object("0600", point_of(CS2))},
            {"5F37": book.signature_object(ALGORITHM[CS7], GOOD_SIGNATURE)},  # SHA-384 under a P-256 key
            {"5F37": book.signature_object("300C06082A8648CE3D0403020500", GOOD_SIGNATURE)},  # with parameters
            {"5F37": book.signature_object("300906072A8648CE3D0401", GOOD_SIGNATURE)},  # ECDSA with SHA-1
        ],
        ids=["P-521", "secp256k1", "no curve", "SHA-384", "parameters", "SHA-1"],
    )
    def test_a_kind_that_no_suite_has(self, changes: dict[str, bytes]) -> None:
        with pytest.raises(KeyUnsupportedError):
            piv_cvc.parse(made(CS2, changes))

    def test_a_certificate_that_is_signed_with_rsa(self) -> None:
        signature = RSA_SIGNER.sign(b"", padding.PKCS1v15(), hashes.SHA256())
        rsa_signed = book.signature_object("300D06092A864886F70D01010B0500", signature)
        with pytest.raises(KeyUnsupportedError, match="another algorithm"):
            piv_cvc.parse(made(CS2, {"5F37": rsa_signed}))

    @pytest.mark.parametrize(
        "order",
        [
            "42 5F29 5F20 7F49 5F4C 5F37",
            "5F29 42 5F20 5F4C 7F49 5F37",
            "5F29 42 5F20 7F49 5F37 5F4C",  # OPACITY's first drafts
            "5F29 42 5F20 7F49 5F4C",
            "42 5F20 7F49 5F4C 5F37",
            "5F29 5F29 42 5F20 7F49 5F4C 5F37",
            "5F29 42 42 5F20 7F49 5F4C 5F37",
            "5F29 42 5F20 7F49 7F49 5F4C 5F37",
            "5F29 42 5F20 7F49 5F4C 5F37 5F37",
            "",
        ],
    )
    def test_another_order_a_double_or_a_gap(self, order: str) -> None:
        with pytest.raises(PivCvcError, match="the six of the standard"):
            piv_cvc.parse(made(CS2, order=order))

    def test_a_longer_form_of_a_length(self) -> None:
        content = b"".join(parts(CS2).values())
        with pytest.raises(PivCvcError, match="shortest form"):
            piv_cvc.parse(bytes.fromhex("7F2182") + len(content).to_bytes(2) + content)
        with pytest.raises(PivCvcError, match="shortest form"):
            piv_cvc.parse(made(CS2, {"42": b"\x42\x81\x08" + ISSUER}))


GOOD = {suite: issued(suite) for suite in (CS2, CS7)}  # once: signing is random, and Hypothesis would mind


class TestLaws:
    @BOTH
    @given(data=st.data())
    def test_a_certificate_with_one_changed_byte_is_none_or_is_not_signed(
        self, suite: Suite, data: st.DataObject
    ) -> None:
        good = GOOD[suite]
        at, flip = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(1, 255))
        spoilt = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
        try:
            cvc = piv_cvc.parse(spoilt)
        except CertificateError:
            return
        assert not cvc.signed_by(SIGNERS[suite].public_key())

    @BOTH
    @given(data=st.data())
    def test_cut_short_or_with_more_behind_it_is_none(self, suite: Suite, data: st.DataObject) -> None:
        good = GOOD[suite]
        with pytest.raises(PivCvcError):
            piv_cvc.parse(good[: data.draw(st.integers(0, len(good) - 1))])
        with pytest.raises(PivCvcError):
            piv_cvc.parse(good + data.draw(st.binary(min_size=1, max_size=40)))

    @hostile
    @given(octets=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda some: book.tlv("7F21", some))))
    def test_any_bytes_are_a_certificate_or_a_certificate_error(self, octets: bytes) -> None:
        with contextlib.suppress(CertificateError):
            assert isinstance(piv_cvc.parse(octets), PivCertificate)

    @hostile
    @given(
        values=st.lists(st.binary(max_size=120), min_size=6, max_size=6),
        kept=st.sets(st.sampled_from(["5F29", "42", "5F20", "7F49", "5F4C", "5F37"])),
    )
    def test_any_values_in_the_right_objects_end_in_a_certificate_error(
        self, values: list[bytes], kept: set[str]
    ) -> None:
        good = parts(CS2)
        junk = {tag: book.tlv(tag, value) for tag, value in zip(good, values, strict=True)}
        objects = {tag: good[tag] if tag in kept else junk[tag] for tag in good}
        octets = book.tlv("7F21", b"".join(objects.values()))
        try:
            cvc = piv_cvc.parse(octets)
        except CertificateError:
            return
        assert cvc.signed_by(SIGNERS[CS2].public_key()) == (objects == good)

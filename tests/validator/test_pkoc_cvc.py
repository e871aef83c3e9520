"""The PKOC certificate: what is issued is read back, nothing else is, and an independent hand can make one."""

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.missing import program
from tests.validator.pkoc_cards import IIR, ORDER, VECTORS, certificate, key, point_of
from validator import pkoc_cvc
from validator.certificates import CertificateError, KeyUnsupportedError, spki_of
from validator.pkoc_cvc import PkocCvcError

SUBJECT = b"SUBJECT000000001"
FIRST, LAST = dt.date(2026, 7, 9), dt.date(2030, 7, 9)
P256_OID = "06082A8648CE3D030107"

REFERENCES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=16).map(str.encode)
DAYS = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))
OIDS = st.tuples(
    st.one_of(st.tuples(st.integers(0, 1), st.integers(0, 39)), st.tuples(st.just(2), st.integers(0, 10**39 - 1))),
    st.lists(st.integers(0, 2**32), max_size=5),
).map(lambda parts: ".".join(str(arc) for arc in (*parts[0], *parts[1])))


def only_text(value: object) -> str:
    """Names a test. Not by octets: keys are made anew, and two workers would disagree on the name."""
    return value if isinstance(value, str) else ""


def tlv(tag: str, value: bytes) -> bytes:
    """Written here anew: these certificates share no code with the room that they test."""
    length = len(value)
    head = bytes([length]) if length < 128 else bytes([0x81, length]) if length < 256 else b"\x82" + length.to_bytes(2)
    return bytes.fromhex(tag) + head + value


def fields() -> dict[str, bytes]:
    """The objects of a good body, by their tags, in their order."""
    return {
        "5F29": b"\x00",
        "42": IIR,
        "7F49": bytes.fromhex(P256_OID) + tlv("86", point_of(key())),
        "5F20": SUBJECT,
        "5F25": bytes.fromhex("020600070009"),
        "5F24": bytes.fromhex("030000070009"),
    }


def body_of(objects: dict[str, bytes]) -> bytes:
    return tlv("7F4E", b"".join(tlv(tag, value) for tag, value in objects.items()))


def raw(signature: bytes) -> bytes:
    return b"".join(number.to_bytes(32) for number in decode_dss_signature(signature))


def signed(body: bytes, signer: int = -1) -> bytes:
    return tlv("7F21", body + tlv("5F37", raw(key(signer).sign(body, ec.ECDSA(hashes.SHA256())))))


def changed(**objects: bytes) -> bytes:
    """A certificate like the good one but for some objects, properly signed."""
    return signed(body_of(fields() | {tag.removeprefix("T"): value for tag, value in objects.items()}))


def extended(inside: bytes) -> bytes:
    return changed(T65=inside)


class TestRoundTrip:
    @given(
        issuer=REFERENCES,
        subject=st.binary(min_size=16, max_size=16),
        days=st.lists(DAYS, min_size=2, max_size=2).map(sorted),
        extensions=st.dictionaries(OIDS, st.binary(max_size=300), max_size=3),
        who=st.integers(0, 1),
    )
    def test_what_is_issued_is_read_back(
        self, issuer: bytes, subject: bytes, days: list[dt.date], extensions: dict[str, bytes], who: int
    ) -> None:
        public = key(who).public_key()
        octets = pkoc_cvc.issue(
            key(-1),
            issuer=issuer,
            subject=subject,
            key=public,
            first_day=days[0],
            last_day=days[1],
            extensions=extensions,
        )
        read = pkoc_cvc.parse(octets)
        assert (read.issuer, read.subject, spki_of(read.key)) == (issuer, subject, spki_of(public))
        assert dict(read.extensions) == extensions
        start = dt.datetime.fromtimestamp(read.not_before, dt.UTC)
        end = dt.datetime.fromtimestamp(read.not_after, dt.UTC)
        assert (start.date(), start.time()) == (days[0], dt.time(0, 0, 0))
        assert (end.date(), end.time()) == (days[1], dt.time(23, 59, 59))
        assert read.signed_by(key(-1).public_key())
        assert not read.signed_by(key(-2).public_key())
        assert read.signed in octets

    def test_without_extensions_it_is_214_bytes_and_fits_one_response(self) -> None:
        octets = certificate()
        assert len(octets) == 214
        assert octets.startswith(bytes.fromhex("7F2181D2"))

    def test_the_octets_of_the_core_specification(self) -> None:
        """Every byte but the signature, put together by hand."""
        octets = pkoc_cvc.issue(
            key(-1), issuer=IIR, subject=SUBJECT, key=key().public_key(), first_day=FIRST, last_day=LAST
        )
        assert octets.startswith(tlv("7F21", body_of(fields()) + bytes(67))[:-67])
        assert octets[-67:-64] == bytes.fromhex("5F3740")

    def test_the_published_date(self) -> None:
        vector = VECTORS["cvc-date"]
        day = dt.date.fromisoformat(vector["day"])
        octets = certificate(first_day=day, last_day=day)
        assert bytes.fromhex("5F2506" + vector["octets"] + "5F2406" + vector["octets"]) in octets
        assert pkoc_cvc.parse(octets).not_before == int(dt.datetime(2026, 7, 9, tzinfo=dt.UTC).timestamp())

    @pytest.mark.parametrize(("dotted", "octets"), VECTORS["cvc-extension-oids"]["oids"].items())
    def test_the_published_object_identifiers(self, dotted: str, octets: str) -> None:
        extension = bytes.fromhex("06") + bytes([len(octets) // 2]) + bytes.fromhex(octets) + bytes.fromhex("530142")
        assert dict(pkoc_cvc.parse(extended(tlv("73", extension))).extensions) == {dotted: b"\x42"}
        issued = pkoc_cvc.issue(
            key(-1),
            issuer=IIR,
            subject=SUBJECT,
            key=key().public_key(),
            first_day=FIRST,
            last_day=LAST,
            extensions={dotted: b"\x42"},
        )
        assert tlv("65", tlv("73", extension)) in issued


def test_a_certificate_that_openssl_signed(tmp_path: Path) -> None:
    """No published certificate exists; this one is made of literal bytes and a stranger's signature."""
    openssl = program("openssl")
    body = body_of(fields())
    (tmp_path / "body").write_bytes(body)
    pem = key(-1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(pem)
    der = subprocess.run(
        [openssl, "dgst", "-sha256", "-sign", tmp_path / "key", tmp_path / "body"], check=True, capture_output=True
    ).stdout
    read = pkoc_cvc.parse(tlv("7F21", body + tlv("5F37", raw(der))))
    assert read.signed == body
    assert read.signed_by(key(-1).public_key())
    assert (read.issuer, read.subject) == (IIR, SUBJECT)


class TestSignature:
    @given(data=st.data())
    def test_any_other_byte_anywhere_is_refused_or_not_signed(self, data: st.DataObject) -> None:
        octets = bytearray(certificate())
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            read = pkoc_cvc.parse(bytes(octets))
        except CertificateError:
            return
        assert not read.signed_by(key(-1).public_key())

    def test_every_byte_in_turn(self) -> None:
        good = certificate()
        for position in range(len(good)):
            octets = bytearray(good)
            octets[position] ^= 1
            try:
                read = pkoc_cvc.parse(bytes(octets))
            except CertificateError:
                continue
            assert not read.signed_by(key(-1).public_key()), position

    def test_over_the_body_without_its_tag_and_length(self) -> None:
        body = body_of(fields())
        inner = body[4:]  # 7F4E 81 xx
        assert tlv("7F4E", inner) == body
        signature = raw(key(-1).sign(inner, ec.ECDSA(hashes.SHA256())))
        assert not pkoc_cvc.parse(tlv("7F21", body + tlv("5F37", signature))).signed_by(key(-1).public_key())

    def test_with_another_hash(self) -> None:
        body = body_of(fields())
        signature = raw(key(-1).sign(body, ec.ECDSA(hashes.SHA384())))
        assert not pkoc_cvc.parse(tlv("7F21", body + tlv("5F37", signature))).signed_by(key(-1).public_key())

    def test_an_issuer_on_another_curve_signs_nothing(self) -> None:
        """Not even where its numbers are as long."""
        other = ec.generate_private_key(ec.SECP256K1())
        body = body_of(fields())
        der = other.sign(body, ec.ECDSA(hashes.SHA256()))
        other.public_key().verify(der, body, ec.ECDSA(hashes.SHA256()))
        assert not pkoc_cvc.parse(tlv("7F21", body + tlv("5F37", raw(der)))).signed_by(other.public_key())


class TestRefused:
    @hostile
    @given(st.binary(max_size=400))
    @example(b"")
    @example(bytes.fromhex("7F2100"))
    def test_any_bytes_are_no_certificate(self, octets: bytes) -> None:
        with pytest.raises(PkocCvcError):
            pkoc_cvc.parse(octets)

    @hostile
    @given(
        st.dictionaries(
            st.sampled_from([*fields(), "65", "5F37", "73"]),
            st.one_of(st.binary(max_size=80), st.sampled_from([*fields().values()])),
        )
    )
    def test_any_objects_are_a_certificate_or_refused(self, objects: dict[str, bytes]) -> None:
        octets = signed(body_of(fields() | objects))
        try:
            read = pkoc_cvc.parse(octets)
        except CertificateError:
            return
        assert read.signed_by(key(-1).public_key())
        assert read.not_before < read.not_after

    @pytest.mark.parametrize("length", range(0, 214, 7))
    def test_cut_short(self, length: int) -> None:
        with pytest.raises(PkocCvcError):
            pkoc_cvc.parse(certificate()[:length])

    @pytest.mark.parametrize(
        ("octets", "why"),
        [
            (certificate() + b"\x00", "PKOC certificate"),
            (certificate() + certificate(), "twice"),
            (certificate() + tlv("42", IIR), "belong"),
            (b"\x7f\x21\x82\x00" + certificate()[3:], "shortest"),
            (tlv("7F21", body_of(fields())), "lacks"),
            (tlv("7F21", body_of(fields()) * 2 + tlv("5F37", bytes(64))), "twice"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 64) * 2), "twice"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 64) + tlv("42", IIR)), "belong"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 63)), "r\\|\\|s"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 65)), "r\\|\\|s"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", bytes(32) + b"\x01" * 32)), "out of range"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 32 + bytes(32))), "out of range"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", b"\x01" * 32 + ORDER.to_bytes(32))), "out of range"),
            (tlv("7F21", body_of(fields()) + tlv("5F37", encode_dss_signature(2**255, 2**255))), "r\\|\\|s"),
            (changed(T5F29=b"\x80"), "profile"),
            (changed(T5F29=b"\x01"), "profile"),
            (changed(T5F29=b"\x00\x00"), "profile"),
            (changed(T5F29=b""), "profile"),
            (changed(T42=IIR[:15]), "issuer"),
            (changed(T42=IIR + b"0"), "issuer"),
            (changed(T42=IIR.lower()), "issuer"),
            (changed(T42=IIR[:15] + b"\n"), "issuer"),
            (changed(T42=b"\xff" * 16), "issuer"),
            (changed(T5F20=SUBJECT[:15]), "subject"),
            (changed(T5F20=SUBJECT + b"0"), "subject"),
            (changed(T7F4C=b"\x01"), "belong"),
            (changed(T42=b""), "issuer"),
            (signed(body_of({tag: value for tag, value in fields().items() if tag != "5F24"})), "lacks"),
            (signed(tlv("7F4E", body_of(fields())[4:] + tlv("42", IIR))), "twice"),
        ],
        ids=only_text,
    )
    def test_a_bad_frame(self, octets: bytes, why: str) -> None:
        with pytest.raises(PkocCvcError, match=why):
            pkoc_cvc.parse(octets)

    @pytest.mark.parametrize(
        ("first", "last", "why"),
        [
            ("0206000709", "030000070009", "six digits"),  # a digit missing
            ("260709", "300709", "six digits"),  # packed
            ("32363037", "33303037", "six digits"),
            ("323630373039", "333030373039", "six digits"),  # ASCII
            ("020A00070009", "030000070009", "six digits"),
            ("020600000009", "030000070009", "calendar"),  # month 0
            ("020601030009", "030000070009", "calendar"),  # month 13
            ("020600020209", "030000070009", "calendar"),  # 29 February 2026
            ("020600070000", "030000070009", "calendar"),  # day 0
            ("020600040301", "030000070009", "calendar"),  # 31 April
            ("030000070009", "020600070009", "before the first"),
            ("02060007000900", "030000070009", "six digits"),
            ("", "030000070009", "six digits"),
        ],
    )
    def test_a_bad_date(self, first: str, last: str, why: str) -> None:
        with pytest.raises(PkocCvcError, match=why):
            pkoc_cvc.parse(changed(T5F25=bytes.fromhex(first), T5F24=bytes.fromhex(last)))

    def test_one_day_is_a_window(self) -> None:
        day = bytes.fromhex("020400020209")  # 29 February 2024
        read = pkoc_cvc.parse(changed(T5F25=day, T5F24=day))
        assert read.not_after - read.not_before == 86399

    @pytest.mark.parametrize(
        ("inside", "why"),
        [
            (bytes.fromhex(P256_OID), "none of a key on a curve"),
            (tlv("86", point_of(key())), "lacks"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())[:-1]), "uncompressed"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())[:-1] + b"\x00" + b"\x00"), "uncompressed"),
            (bytes.fromhex(P256_OID) + tlv("86", b"\x02" + point_of(key())[1:33]), "uncompressed"),  # compressed
            (bytes.fromhex(P256_OID) + tlv("86", b"\x06" + point_of(key())[1:]), "uncompressed"),  # hybrid
            (bytes.fromhex(P256_OID) + tlv("86", b"\x00"), "uncompressed"),  # the point at infinity
            (bytes.fromhex(P256_OID) + tlv("86", b"\x04" + bytes(64)), "not on P-256"),
            (bytes.fromhex(P256_OID) + tlv("86", b"\x04" + b"\xff" * 64), "not on P-256"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())[:-1] + bytes([point_of(key())[-1] ^ 1])), "not on"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())) * 2, "twice"),
            (bytes.fromhex(P256_OID) * 2 + tlv("86", point_of(key())), "twice"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())) + tlv("81", b"\x01"), "none of a key on a curve"),
            (bytes.fromhex(P256_OID) + tlv("86", point_of(key())) + tlv("87", b"\x01"), "belong"),
        ],
        ids=only_text,
    )
    def test_a_bad_key(self, inside: bytes, why: str) -> None:
        with pytest.raises(PkocCvcError, match=why):
            pkoc_cvc.parse(changed(T7F49=inside))

    @pytest.mark.parametrize(
        "inside",
        [
            bytes.fromhex("06052B81040022") + tlv("86", b"\x04" + bytes(96)),  # P-384
            bytes.fromhex("06052B8104000A") + tlv("86", b"\x04" + bytes(64)),  # secp256k1
            bytes.fromhex("06092A864886F70D010101") + tlv("81", bytes(256)) + tlv("82", b"\x01\x00\x01"),  # RSA
            bytes.fromhex("060960864801650304031186") + b"\x01\x00",  # ML-DSA-44
        ],
        ids=["P-384", "secp256k1", "RSA", "ML-DSA"],
    )
    def test_a_key_of_another_kind(self, inside: bytes) -> None:
        with pytest.raises(KeyUnsupportedError):
            pkoc_cvc.parse(changed(T7F49=inside))

    @pytest.mark.parametrize(
        ("inside", "why"),
        [
            (tlv("74", b""), "74"),
            (tlv("73", b""), "lacks"),
            (tlv("73", bytes.fromhex("06012A")), "lacks"),
            (tlv("73", bytes.fromhex("5300")), "lacks"),
            (tlv("73", bytes.fromhex("06012A53005300")), "twice"),
            (tlv("73", bytes.fromhex("06012A53005400")), "belong"),
            (tlv("73", bytes.fromhex("06005300")), "empty"),
            (tlv("73", bytes.fromhex("0601805300")), "cut short"),
            (tlv("73", bytes.fromhex("06022A805300")), "cut short"),
            (tlv("73", bytes.fromhex("06032A80015300")), "shortest"),
            (tlv("73", b"\x06\x41" + b"\x2a" * 65 + b"\x53\x00"), "too long"),
            (tlv("73", bytes.fromhex("06012A5300")) * 2, "two extensions 1.2"),
            (tlv("73", bytes.fromhex("0681012A5300")), "shortest"),
        ],
        ids=only_text,
    )
    def test_a_bad_extension(self, inside: bytes, why: str) -> None:
        with pytest.raises(PkocCvcError, match=why):
            pkoc_cvc.parse(extended(inside))


class TestNotIssued:
    @pytest.mark.parametrize(
        ("facts", "why"),
        [
            ({"issuer": b"short"}, "issuer"),
            ({"issuer": b"pilettartu000001"}, "issuer"),
            ({"subject": b"short"}, "subject"),
            ({"first_day": dt.date(1999, 12, 31)}, "1999"),
            ({"last_day": dt.date(2100, 1, 1)}, "2100"),
            ({"first_day": LAST, "last_day": FIRST}, "before the first"),
            *(
                ({"extensions": {dotted: b""}}, "object identifier")
                for dotted in ("", "1", "1.40", "3.1", "1.-2", "1.02", "1.2 ", "1.2\n", "1..2", "1.2." + "9" * 5000)
            ),
        ],
    )
    def test_a_fact_that_does_not_fit(self, facts: dict[str, bytes], why: str) -> None:
        good = {"issuer": IIR, "subject": SUBJECT, "first_day": FIRST, "last_day": LAST}
        with pytest.raises(PkocCvcError, match=why):
            pkoc_cvc.issue(key(-1), key=key().public_key(), **good | facts)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("signer", "card"),
        [(ec.SECP384R1(), ec.SECP256R1()), (ec.SECP256R1(), ec.SECP384R1()), (ec.SECP256R1(), ec.SECP256K1())],
    )
    def test_other_curves(self, signer: ec.EllipticCurve, card: ec.EllipticCurve) -> None:
        with pytest.raises(KeyUnsupportedError):
            pkoc_cvc.issue(
                ec.generate_private_key(signer),
                issuer=IIR,
                subject=SUBJECT,
                key=ec.generate_private_key(card).public_key(),
                first_day=FIRST,
                last_day=LAST,
            )


class TestPlainForms:
    @given(r=st.integers(1, ORDER - 1), s=st.integers(1, ORDER - 1))
    @example(1, 1)
    @example(ORDER - 1, ORDER - 1)
    def test_every_signature_has_one_other_form(self, r: int, s: int) -> None:
        der = pkoc_cvc.der_signature(r.to_bytes(32) + s.to_bytes(32))
        assert der == encode_dss_signature(r, s)
        assert raw(der) == r.to_bytes(32) + s.to_bytes(32)

    @given(octets=st.binary(max_size=80).filter(lambda octets: len(octets) != 64))
    def test_another_length_is_none(self, octets: bytes) -> None:
        with pytest.raises(PkocCvcError):
            pkoc_cvc.der_signature(octets)

    def test_a_point_is_the_key(self) -> None:
        assert spki_of(pkoc_cvc.load_point(point_of(key()))) == spki_of(key().public_key())

    def test_an_rsa_key_has_no_point(self) -> None:
        modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n.to_bytes(256)
        with pytest.raises(PkocCvcError):
            pkoc_cvc.load_point(modulus)

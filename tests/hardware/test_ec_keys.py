"""Keys on curves as travel documents write them: named, written out, by number; and every way to get that wrong."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware.domain_parameters import STANDARDIZED
from hardware.ec_keys import EcKey, EcKeyError, EcKeyUnsupported, canonical, parse_ec_key
from tests.hostile import hostile
from tests.validator.scripted_card import tlv
from tests.validator.travel_authority import explicit_parameters, explicit_spki, octets, sequence

CURVES: list[ec.EllipticCurve] = [
    ec.SECP256R1(),
    ec.SECP384R1(),
    ec.SECP521R1(),
    ec.BrainpoolP256R1(),
    ec.BrainpoolP384R1(),
    ec.BrainpoolP512R1(),
]
KEYS = {curve.name: ec.generate_private_key(curve).public_key() for curve in CURVES}
EACH = pytest.mark.parametrize("name", KEYS)
ID_EC = octets("06 07 2A8648CE3D0201")


def named(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@EACH
def test_all_ways_to_write_a_key_are_one_key(name: str) -> None:
    key = KEYS[name]
    number = next(each.identifier for each in STANDARDIZED.values() if each.native and each.native.name == name)
    by_number = sequence(
        sequence(octets("06 07 04007F00070102"), tlv("02", bytes([number]))), tlv("03", b"\0" + point(key))
    )
    for spki in (named(key), explicit_spki(key), by_number):
        found = parse_ec_key(spki)
        assert (found.spki, found.point, canonical(spki)) == (named(key), point(key), named(key))
        assert point(found.native) == point(key)


@pytest.mark.parametrize("number", STANDARDIZED)
def test_every_standardized_curve_is_written_and_read(number: int) -> None:
    parameters = STANDARDIZED[number]
    key = EcKey(parameters, parameters.public_point(7))
    assert parse_ec_key(key.spki) == key


def test_a_curve_without_verification_is_said() -> None:
    parameters = STANDARDIZED[14]
    with pytest.raises(EcKeyUnsupported, match="brainpoolP320r1"):
        _ = EcKey(parameters, parameters.public_point(7)).native


@EACH
def test_written_out_parameters_of_another_curve_are_refused(name: str) -> None:
    """Each number in them counts: one octet changed anywhere, and it is no curve that we know."""
    key = KEYS[name]
    good = explicit_parameters(key.curve)
    size = (key.curve.key_size + 7) // 8
    base = good.index(point_of_base(key.curve))
    a = base - 2 * size - 5
    for position in (a + size - 1, base - 4, base + 1, base + 2 * size):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(EcKeyError):
            parse_ec_key(explicit_spki(key, bytes(bad)))


def point_of_base(curve: ec.EllipticCurve) -> bytes:
    return point(ec.derive_private_key(1, curve).public_key())


@pytest.mark.parametrize(
    ("spki", "error"),
    [
        (b"", EcKeyError),
        (sequence(), EcKeyError),
        (sequence(sequence(), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC, octets("0500")), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC, sequence()), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC, sequence(*[sequence()] * 5)), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC, octets("020110")), tlv("03", b"\0")), EcKeyError),
        (sequence(sequence(ID_EC, octets("06052B8104000A")), tlv("03", b"\0")), EcKeyUnsupported),
        (sequence(sequence(octets("06 07 04007F00070102"), octets("020102")), tlv("03", b"\0")), EcKeyUnsupported),
        (
            rsa.generate_private_key(65537, 1024)
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            EcKeyUnsupported,
        ),
        (named(KEYS["secp256r1"])[:-1], EcKeyError),
        (named(KEYS["secp256r1"]) + b"\0", EcKeyError),
    ],
    ids=range(13),
)
def test_what_is_no_key_is_refused(spki: bytes, error: type[EcKeyError]) -> None:
    with pytest.raises(EcKeyError) as caught:
        parse_ec_key(spki)
    assert type(caught.value) is error


@EACH
def test_a_point_off_the_curve_is_refused(name: str) -> None:
    spki = bytearray(named(KEYS[name]))
    spki[-1] ^= 1
    with pytest.raises(EcKeyError, match="not on"):
        parse_ec_key(bytes(spki))


def test_a_compressed_point_is_refused() -> None:
    spki = KEYS["secp256r1"].public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    with pytest.raises(EcKeyError):
        parse_ec_key(sequence(sequence(ID_EC, octets("06 08 2A8648CE3D030107")), tlv("03", b"\0" + spki)))


@hostile
@given(st.binary(max_size=200))
def test_any_octets_are_a_key_or_refused(spki: bytes) -> None:
    try:
        parse_ec_key(spki)
    except EcKeyError:
        return


@given(name=st.sampled_from(sorted(KEYS)), position=st.integers(0, 400), flip=st.integers(1, 255))
def test_one_spoilt_octet_is_another_key_or_refused(name: str, position: int, flip: int) -> None:
    spki = bytearray(explicit_spki(KEYS[name]))
    spki[position % len(spki)] ^= flip
    try:
        found = parse_ec_key(bytes(spki))
    except EcKeyError:
        return
    assert found.parameters.native is not None
    assert (
        found.parameters.native.name == name
    )  # the cofactor or the algorithm's name: nothing that makes another curve

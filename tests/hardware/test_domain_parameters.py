"""Standardized domain parameters: against OpenSSL, against the group laws, and what is no point."""

import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import tlv
from hardware.domain_parameters import STANDARDIZED, DomainParameters, PointError
from tests.hostile import hostile
from tests.missing import program

#: TR-03110-3, table 4, by OpenSSL's names.
OPENSSL = {
    8: "prime192v1",
    9: "brainpoolP192r1",
    10: "secp224r1",
    11: "brainpoolP224r1",
    12: "prime256v1",
    13: "brainpoolP256r1",
    14: "brainpoolP320r1",
    15: "secp384r1",
    16: "brainpoolP384r1",
    17: "brainpoolP512r1",
    18: "secp521r1",
}
EACH = pytest.mark.parametrize("parameters", STANDARDIZED.values(), ids=lambda parameters: parameters.name)
#: Points are multiplied in plain Python.
slow_examples = settings(max_examples=400 if os.environ.get("PILET_SOAK") == "1" else 15)
any_parameters = st.sampled_from(list(STANDARDIZED.values()))


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run([program("openssl"), *map(str, arguments)], capture_output=True, check=True).stdout


def key_pair(path: Path, parameters: DomainParameters) -> tuple[int, bytes]:
    """Make a key with OpenSSL; its private number and its point (RFC 5915)."""
    openssl("ecparam", "-name", OPENSSL[parameters.identifier], "-genkey", "-noout", "-out", path)
    fields = tlv.parse(tlv.parse_one(openssl("ec", "-in", path, "-outform", "DER"), 0x30))
    point = next(tlv.parse_one(field.value, 0x03) for field in fields if field.tag == 0xA1)
    return int.from_bytes(fields[1].value), point[1:]


def negative(parameters: DomainParameters, point: bytes) -> bytes:
    y = int(parameters.curve.curve.p()) - int.from_bytes(point[1 + parameters.field_bytes :])
    return point[: 1 + parameters.field_bytes] + y.to_bytes(parameters.field_bytes)


def accepted(use: Callable[[bytes], object], point: bytes) -> bool:
    try:
        use(point)
    except PointError:
        return False
    return True


class TestAgainstOpenssl:
    def test_each_number_of_the_table_is_there(self) -> None:
        assert sorted(STANDARDIZED) == sorted(OPENSSL)
        assert all(parameters.identifier == number for number, parameters in STANDARDIZED.items())

    @EACH
    def test_public_points_and_shared_secrets(self, parameters: DomainParameters, tmp_path: Path) -> None:
        ours, ours_point = key_pair(tmp_path / "ours.pem", parameters)
        theirs, theirs_point = key_pair(tmp_path / "theirs.pem", parameters)
        public = tmp_path / "theirs.pub"
        openssl("ec", "-in", tmp_path / "theirs.pem", "-pubout", "-out", public)
        secret = openssl("pkeyutl", "-derive", "-inkey", tmp_path / "ours.pem", "-peerkey", public)
        assert parameters.public_point(ours) == ours_point
        assert parameters.agree(ours, theirs_point) == parameters.agree(theirs, ours_point) == secret
        assert parameters.multiply(theirs_point, ours)[1 : 1 + parameters.field_bytes] == secret


class TestGroup:
    @EACH
    def test_lengths(self, parameters: DomainParameters) -> None:
        point = parameters.public_point(parameters.order - 1)
        assert len(point) == parameters.point_bytes == 1 + 2 * parameters.field_bytes
        assert point == negative(parameters, parameters.public_point(1))

    @slow_examples
    @given(parameters=any_parameters, one=st.integers(1, 2**600), other=st.integers(1, 2**600))
    def test_products_distribute_over_sums(self, parameters: DomainParameters, one: int, other: int) -> None:
        one, other = one % (parameters.order - 1) + 1, other % (parameters.order - 1) + 1
        first, second = parameters.public_point(one), parameters.public_point(other)
        total = (one + other) % parameters.order
        if total:
            assert parameters.add(first, second) == parameters.public_point(total)
        assert parameters.multiply(first, other) == parameters.multiply(second, one)

    @slow_examples
    @given(parameters=any_parameters, random=st.binary(min_size=1, max_size=80))
    def test_private_numbers_are_in_range(self, parameters: DomainParameters, random: bytes) -> None:
        assert 1 <= parameters.private_number(random) < parameters.order

    def test_coordinates_keep_their_leading_zeros(self) -> None:
        """Once in 256 keys; a secret that lost its zeros derives other session keys."""
        parameters = STANDARDIZED[13]
        points = ((number, parameters.public_point(number)) for number in itertools.count(1))
        short_x = next(point for _, point in points if point[1] == 0)
        assert parameters.agree(1, short_x) == short_x[1:33]
        assert parameters.multiply(short_x, 1) == short_x
        assert STANDARDIZED[14].agree(1, STANDARDIZED[14].public_point(5)) == STANDARDIZED[14].public_point(5)[1:41]


class TestNoPoint:
    @EACH
    def test_what_is_no_point_is_refused_wherever_it_comes_in(self, parameters: DomainParameters) -> None:
        good, size = parameters.public_point(7), parameters.field_bytes
        p = int(parameters.curve.curve.p())
        x, y = int.from_bytes(good[1 : 1 + size]), int.from_bytes(good[1 + size :])
        bad = {
            "nothing": b"",
            "infinity": b"\x00",
            "compressed": bytes([2 + (y & 1)]) + good[1 : 1 + size],
            "hybrid": bytes([6 + (y & 1)]) + good[1:],
            "short": good[:-1],
            "long": good + b"\x00",
            "raw": good[1:],
            "zeros": b"\x04" + bytes(2 * size),
            "off the curve": good[:-1] + bytes([good[-1] ^ 1]),
        }
        if (x + p).bit_length() <= 8 * size:
            bad["a coordinate that is not reduced"] = b"\x04" + (x + p).to_bytes(size) + good[1 + size :]
        for name, point in bad.items():
            uses = (
                parameters.check,
                lambda octets: parameters.agree(2, octets),
                lambda octets: parameters.multiply(octets, 2),
                lambda octets: parameters.add(good, octets),
                lambda octets: parameters.add(octets, good),
            )
            assert not any(accepted(use, point) for use in uses), name

    def test_a_coordinate_that_is_not_reduced_is_met_somewhere(self) -> None:
        """P-521 has seven bits to spare in each coordinate."""
        parameters = STANDARDIZED[18]
        p, point = int(parameters.curve.curve.p()), parameters.public_point(7)
        beyond = b"\x04" + (int.from_bytes(point[1:67]) + p).to_bytes(66) + point[67:]
        with pytest.raises(PointError, match="not on P-521"):
            parameters.check(beyond)

    @EACH
    def test_infinity_is_never_a_result(self, parameters: DomainParameters) -> None:
        point = parameters.public_point(3)
        with pytest.raises(PointError, match="infinity"):
            parameters.add(point, negative(parameters, point))
        with pytest.raises(PointError, match="infinity"):
            parameters.multiply(point, parameters.order)

    @hostile
    @given(parameters=any_parameters, octets=st.binary(max_size=140))
    def test_any_octets(self, parameters: DomainParameters, octets: bytes) -> None:
        with pytest.raises(PointError):
            parameters.check(octets)

    @given(parameters=any_parameters, bit=st.integers(0, 8 * 133 - 1))
    def test_any_flipped_bit(self, parameters: DomainParameters, bit: int) -> None:
        point = bytearray(parameters.public_point(11))
        point[bit // 8 % len(point)] ^= 1 << bit % 8
        with pytest.raises(PointError):
            parameters.check(bytes(point))

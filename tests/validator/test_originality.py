"""NXP's originality signatures: real chips of each product hold, everything else does not, and no bytes break it."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from ecdsa import NIST192p, SECP128r1, VerifyingKey
from hypothesis import given
from hypothesis import strategies as st

from validator.originality import KEYS, ChipProduct, Curve, verify

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "vectors" / "originality.json").read_text())[
    "vectors"
]
SAMPLES = [
    (
        ChipProduct(vector["inputs"]["product"]),
        bytes.fromhex(vector["inputs"]["uid"]),
        bytes.fromhex(vector["inputs"]["signature"]),
    )
    for vector in VECTORS
]
SAMPLE = st.sampled_from(SAMPLES)
PRODUCT = st.sampled_from(list(ChipProduct))

#: Orders of the groups (SEC 2 v1 §2.3.1; v2 §2.2.2, §2.3.2).
ORDERS = {
    Curve.SECP128R1: 0xFFFFFFFE0000000075A30D1B9038A115,
    Curve.SECP192R1: 0xFFFFFFFFFFFFFFFFFFFFFFFF99DEF836146BC9B1B4D22831,
    Curve.SECP224R1: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFF16A2E0B8F03E13DD29455C5C2A3D,
}


class TestPublished:
    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
    def test_signatures_of_real_chips(self, vector: dict[str, Any]) -> None:
        given_ = vector["inputs"]
        holds = verify(ChipProduct(given_["product"]), bytes.fromhex(given_["uid"]), bytes.fromhex(given_["signature"]))
        assert holds is vector["expected"]["signature_valid"]

    def test_each_product_has_a_real_sample(self) -> None:
        assert {product for product, _, _ in SAMPLES} == set(ChipProduct) == set(KEYS)


class TestKeys:
    @pytest.mark.parametrize("product", ChipProduct)
    def test_each_is_a_point_on_its_curve_and_says_where_it_comes_from(self, product: ChipProduct) -> None:
        key = KEYS[product]
        assert key.origin
        if key.curve is Curve.SECP224R1:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP224R1(), key.point)
        else:
            curve = SECP128r1 if key.curve is Curve.SECP128R1 else NIST192p
            assert curve.order == ORDERS[key.curve]
            assert VerifyingKey.from_string(key.point, curve).to_string("uncompressed") == key.point


class TestLaws:
    @given(sample=SAMPLE, position=st.integers(0), flip=st.integers(1, 255))
    def test_another_uid_is_not_signed(
        self, sample: tuple[ChipProduct, bytes, bytes], position: int, flip: int
    ) -> None:
        product, uid, signature = sample
        other = bytearray(uid)
        other[position % 7] ^= flip
        assert not verify(product, bytes(other), signature)

    @given(sample=SAMPLE, position=st.integers(0), flip=st.integers(1, 255))
    def test_another_signature_does_not_hold(
        self, sample: tuple[ChipProduct, bytes, bytes], position: int, flip: int
    ) -> None:
        product, uid, signature = sample
        other = bytearray(signature)
        other[position % len(other)] ^= flip
        assert not verify(product, uid, bytes(other))

    @given(sample=SAMPLE, product=PRODUCT)
    def test_another_products_key_does_not_hold(
        self, sample: tuple[ChipProduct, bytes, bytes], product: ChipProduct
    ) -> None:
        signed, uid, signature = sample
        assert verify(product, uid, signature) is (product is signed)

    @given(sample=SAMPLE)
    def test_the_other_half_of_the_pair_holds_as_in_all_of_ecdsa(
        self, sample: tuple[ChipProduct, bytes, bytes]
    ) -> None:
        """(r, n - s) verifies where (r, s) does: a signature is no name for a chip."""
        product, uid, signature = sample
        half = len(signature) // 2
        order = ORDERS[KEYS[product].curve]
        mirrored = signature[:half] + (order - int.from_bytes(signature[half:])).to_bytes(half)
        assert verify(product, uid, mirrored)

    @given(product=PRODUCT, uid=st.binary(max_size=12), signature=st.binary(max_size=60))
    def test_noise_holds_for_nobody(self, product: ChipProduct, uid: bytes, signature: bytes) -> None:
        assert not verify(product, uid, signature)

    @given(product=PRODUCT, uid=st.binary(min_size=7, max_size=7), data=st.data())
    def test_numbers_at_the_edges_hold_for_nobody(self, product: ChipProduct, uid: bytes, data: st.DataObject) -> None:
        order, half = ORDERS[KEYS[product].curve], KEYS[product].signature_bytes // 2
        edge = st.sampled_from([0, 1, 2, order - 1, order, order + 1, 256**half - 1])
        r, s = data.draw(edge), data.draw(edge)
        assert not verify(product, uid, r.to_bytes(half) + s.to_bytes(half))


class TestLengths:
    @pytest.mark.parametrize(("product", "uid", "signature"), SAMPLES)
    def test_only_the_right_lengths_are_looked_at(self, product: ChipProduct, uid: bytes, signature: bytes) -> None:
        for other in (uid[:4], uid[1:], b"\0" + uid):
            assert not verify(product, other, signature)
        for cut in (b"", signature[:-1], signature + b"\0", b"\0" + signature):
            assert not verify(product, uid, cut)

"""Trust under attack: whatever the bytes, the verdict is an identity that was earned, or a refusal."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import (
    Authority,
)
from tests.validator.judging import instant, judge, nobody, prove, reason_of
from validator.model import (
    Identity,
    KeyAlgorithm,
    Reason,
    Refusal,
)
from validator.trust_store import TrustStore


@pytest.fixture(scope="module")
def store(authority: Authority) -> TrustStore:
    return TrustStore(7, [authority.certificate])


class TestHostileCertificate:
    @given(certificate=st.binary(max_size=400))
    def test_arbitrary_bytes(self, store: TrustStore, certificate: bytes) -> None:
        assert reason_of(prove(certificate), store) is Reason.MALFORMED_ANSWER

    @given(
        algorithm=st.sampled_from([KeyAlgorithm.P256, KeyAlgorithm.RSA2048]),
        edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4),
    )
    def test_a_certificate_that_was_changed_anywhere_is_refused(
        self,
        store: TrustStore,
        issued: dict[KeyAlgorithm, bytes],
        algorithm: KeyAlgorithm,
        edits: list[tuple[int, int]],
    ) -> None:
        good = issued[algorithm]
        bad = bytearray(good)
        for position, value in edits:
            bad[position % len(bad)] = value
        reason = reason_of(prove(bytes(bad), algorithm), store)
        assert (reason is None) == (bytes(bad) == good)

    @given(data=st.data())
    def test_a_piece_cut_out_or_put_in(
        self, store: TrustStore, issued: dict[KeyAlgorithm, bytes], data: st.DataObject
    ) -> None:
        good = issued[KeyAlgorithm.P256]
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 40)))
        bad = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
        assert (reason_of(prove(bad), store) is None) == (bad == good)

    @given(edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
    def test_a_hostile_issuer_signs_what_it_likes(
        self, issued: dict[KeyAlgorithm, bytes], authority: Authority, edits: list[tuple[int, int]]
    ) -> None:
        """Properly signed nonsense reaches every check behind the signature; nothing may escape from there."""
        good = x509.load_der_x509_certificate(issued[KeyAlgorithm.P256])
        body = bytearray(good.tbs_certificate_bytes)
        for position, value in edits:
            body[4 + position % (len(body) - 4)] = value
        assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
        signature = authority.key.sign(bytes(body), ec.ECDSA(hashes.SHA256()))
        algorithm = bytes.fromhex("300A06082A8648CE3D040302")
        bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
        inner = bytes(body) + algorithm + bits
        der = b"\x30\x82" + len(inner).to_bytes(2) + inner
        verdict = judge(prove(der), TrustStore(1, [authority.certificate]), nobody, instant())
        assert isinstance(verdict, Identity | Refusal)

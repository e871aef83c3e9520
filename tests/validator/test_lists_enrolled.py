"""The list of enrolled keys: it says what a dictionary would, in any order the same bytes, and proves each entry."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.validator.authority import Authority
from tests.validator.list_making import KEYS, SOMEBODY, candidate, enrolled_one, enrolled_spkis, good
from validator.certificates import credential_id
from validator.lists.directory import install
from validator.lists.enrolled_list import EnrolledKeys, refuse_key, spki_of_point, write_enrolled_file
from validator.lists.errors import ListError
from validator.lists.installed import load
from validator.lists.manifest import ListKind

CHOSEN = st.lists(st.integers(0, 14), max_size=20)
IN_A_FOLDER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, spkis: list[bytes]) -> bytes:
    path.unlink(missing_ok=True)
    assert write_enrolled_file(path, spkis) == len(set(spkis))
    return path.read_bytes()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list with three keys on it."""
    path = tmp_path / "listed"
    written(path, list(enrolled_spkis()[:3]))
    return path


class TestLookup:
    @IN_A_FOLDER
    @given(
        chosen=CHOSEN, strangers=st.lists(st.binary(max_size=20), max_size=5), order=st.randoms(use_true_random=False)
    )
    def test_it_says_what_a_dictionary_says_and_any_order_gives_the_same_bytes(
        self, tmp_path: Path, chosen: list[int], strangers: list[bytes], order: random.Random
    ) -> None:
        spkis = [enrolled_spkis()[index] for index in chosen]
        path = tmp_path / "enrolled"
        content = written(path, spkis)
        expected = {credential_id(spki): spki for spki in spkis}
        with closing(EnrolledKeys(path)) as keys:
            keys.check()
            for credential in (*map(credential_id, enrolled_spkis()), *strangers):
                assert keys.find(credential) == expected.get(credential)
        order.shuffle(spkis)
        assert written(path, spkis) == content

    def test_progress_is_told(self, tmp_path: Path) -> None:
        told: list[int] = []
        spkis = (enrolled_spkis()[number % 12] for number in range(25_001))
        assert write_enrolled_file(tmp_path / "enrolled", spkis, told.append) == 12
        assert told == [10_000, 20_000, 25_001]

    def test_reading_leaves_no_trace(self, tmp_path: Path) -> None:
        folder = tmp_path / "read only, #1 ?"
        folder.mkdir()
        before = written(folder / "enrolled", [*enrolled_spkis()])
        with closing(EnrolledKeys(folder / "enrolled")) as keys:
            credential, spki = enrolled_one()
            assert keys.find(credential) == spki
        assert [path.name for path in folder.iterdir()] == ["enrolled"]
        assert (folder / "enrolled").read_bytes() == before


def _ed25519() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _on(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _rsa_1024() -> bytes:
    key = rsa.generate_private_key(65537, 1024).public_key()  # nothing is protected by it: it is to be refused
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _compressed() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return bytes.fromhex("3039301306072A8648CE3D020106082A8648CE3D030107032200") + point


def _off_its_curve() -> bytes:
    _, spki = enrolled_one()
    return spki[:-1] + bytes([spki[-1] ^ 1])


REFUSED = pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "not a public key"),
        (lambda: enrolled_one()[1][:-1], "not a public key"),
        (lambda: enrolled_one()[1] + b"\0", "not a public key"),
        (_off_its_curve, "not a public key"),
        (_ed25519, "a key of kind Ed25519PublicKey; P-256, P-384, RSA-2048 and RSA-3072 can be enrolled"),
        (lambda: _on(ec.SECP256K1()), "a key on curve secp256k1"),
        (_rsa_1024, "an RSA key of 1024 bits"),
        (_compressed, "a key in another encoding"),
    ],
    ids=["nothing", "cut", "longer", "off its curve", "Ed25519", "secp256k1", "RSA-1024", "compressed"],
)


class TestKeys:
    @REFUSED
    def test_what_cannot_be_enrolled_leaves_no_file(self, tmp_path: Path, make: Callable[[], bytes], why: str) -> None:
        bad = make()
        assert why in (refuse_key(bad) or "")
        with pytest.raises(ListError, match=f"key 2: .*{why}"):
            write_enrolled_file(tmp_path / "enrolled", [enrolled_one()[1], bad])
        assert not list(tmp_path.iterdir())

    def test_each_kind_that_can(self) -> None:
        assert [refuse_key(spki) for spki in enrolled_spkis()] == [None] * len(enrolled_spkis())

    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
    def test_a_point_becomes_the_key_that_others_make_of_it(self, curve: ec.EllipticCurve) -> None:
        key = ec.generate_private_key(curve).public_key()
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert spki_of_point(point) == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert [spki_of_point(octets) for octets in (point[:-1], point + b"\0", b"\5" + point[1:], b"")] == [None] * 4

    def test_an_existing_file_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "enrolled").write_bytes(b"precious")
        with pytest.raises(ListError, match="exists"):
            write_enrolled_file(tmp_path / "enrolled", [])
        assert (tmp_path / "enrolled").read_bytes() == b"precious"

    def test_what_the_keys_come_from_may_fail(self, tmp_path: Path) -> None:
        def interrupted() -> Iterator[bytes]:
            yield enrolled_one()[1]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_enrolled_file(tmp_path / "enrolled", interrupted())
        assert not list(tmp_path.iterdir())


def spoilt(path: Path, statement: str, *values: object) -> EnrolledKeys:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(statement, values)
    return EnrolledKeys(path)


class TestDamage:
    @pytest.mark.parametrize(
        ("statement", "make", "why"),
        [
            (
                "UPDATE enrolled SET spki = ? WHERE id = ?",
                lambda: (enrolled_spkis()[9], enrolled_one()[0]),
                "hash",
            ),
            ("INSERT INTO enrolled VALUES (?, ?, 0)", lambda: (SOMEBODY, enrolled_spkis()[9]), "hash"),
            ("INSERT INTO enrolled VALUES (?, ?, 0)", lambda: (credential_id(b"key"), b"key"), "not a public key"),
            ("INSERT INTO enrolled VALUES (?, ?, 0)", lambda: (b"", b""), "no id"),
            ("INSERT INTO enrolled VALUES (?, ?, 1)", lambda: (SOMEBODY, b"key"), "not a public key"),
            ("INSERT INTO enrolled VALUES (?, ?, 2)", lambda: (SOMEBODY, enrolled_spkis()[9]), "neither"),
            ("CREATE INDEX more ON enrolled (spki)", tuple, "schema"),
            ("CREATE TRIGGER t AFTER INSERT ON enrolled BEGIN SELECT 1; END", tuple, "schema"),
            ("DROP TABLE enrolled", tuple, "schema"),
        ],
        ids=[
            "another's key",
            "an id of nothing",
            "no key",
            "no id",
            "no named key",
            "no kind",
            "an index",
            "a trigger",
            "no table",
        ],
    )
    def test_what_nobody_enrolled_does_not_pass_the_check(
        self, listed: Path, statement: str, make: Callable[[], tuple[object, ...]], why: str
    ) -> None:
        with closing(spoilt(listed, statement, *make())) as keys, pytest.raises(ListError, match=why):
            keys.check()

    def test_a_key_under_anothers_id_is_never_given_out(self, listed: Path) -> None:
        with closing(spoilt(listed, "UPDATE enrolled SET spki = ?", enrolled_spkis()[9])) as keys:
            for spki in enrolled_spkis()[:3]:
                with pytest.raises(ListError, match="is not the hash of its key"):
                    keys.find(credential_id(spki))

    @pytest.mark.parametrize("content", [b"", b"no database", bytes(4096)])
    def test_no_list(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "enrolled").write_bytes(content)
        for name in ("enrolled", "absent"):
            with pytest.raises(ListError, match="not a list of enrolled keys"):
                EnrolledKeys(tmp_path / name)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0, 12_287), flip=st.integers(1, 255), cut=st.integers(0, 12_288))
    def test_a_damaged_file_gives_no_key_that_was_not_enrolled(
        self, listed: Path, position: int, flip: int, cut: int
    ) -> None:
        whole = listed.read_bytes()
        enrolled = {credential_id(spki): spki for spki in enrolled_spkis()[:3]}
        content = bytearray(whole)
        content[position % len(content)] ^= flip
        bad = listed.with_name("bad")
        for damaged in (bytes(content), whole[: cut % len(whole)]):
            bad.write_bytes(damaged)
            checked = False
            try:
                with closing(EnrolledKeys(bad)) as keys:
                    for credential, spki in enrolled.items():
                        assert keys.find(credential) in (None, spki)
                    assert keys.find(SOMEBODY) is None
                    keys.check()
                    checked = True
                    assert {credential: keys.find(credential) for credential in enrolled} == enrolled
            except ListError:
                assert not checked

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        position=st.integers(0, 2**20),
        flip=st.integers(1, 255),
        kind=st.sampled_from([ListKind.TRUST, ListKind.ENROLLED]),
    )
    def test_no_byte_of_what_was_signed_can_be_changed(
        self, tmp_path: Path, authority: Authority, position: int, flip: int, kind: ListKind
    ) -> None:
        offered = good(tmp_path / "offered", kind, 1, authority)
        content = bytearray(offered.payload.read_bytes())
        content[position % len(content)] ^= flip
        offered.payload.write_bytes(bytes(content))
        with pytest.raises(ListError, match="has not the SHA-256"):
            install(tmp_path / "lists", offered.sealed, offered.payload, KEYS, region="north")
        assert load(tmp_path / "lists", KEYS, "north").manifests == {}

    def test_a_list_that_its_publisher_made_up_is_not_installed(self, tmp_path: Path, listed: Path) -> None:
        spoilt(listed, "INSERT INTO enrolled VALUES (?, ?, 0)", SOMEBODY, enrolled_spkis()[9]).close()
        offered = candidate(listed, ListKind.ENROLLED, 1)
        with pytest.raises(ListError, match="is not the hash of its key"):
            install(tmp_path / "lists", offered.sealed, offered.payload, KEYS, region="north")


@pytest.mark.slow
def test_a_list_of_keys_costs_no_memory(tmp_path: Path) -> None:
    """Made, installed, loaded and asked in a fresh process, whose greatest resident size is bounded at any count."""
    count = 1_000_000 if os.environ.get("PILET_SOAK") == "1" else 100_000
    done = subprocess.run(
        [sys.executable, "-m", "tests.validator.many_keys", str(tmp_path), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 90 * 1024

"""Keys in files: whatever the form, the same key; whatever is wrong, the file and the line."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.key_files import enrolled_keys, one_key
from backend_sync.publish_errors import InputMissing, PublishError
from tests.validator.authority import card_key
from validator.certificates import CardKey, spki_of
from validator.model import KeyAlgorithm

SPKI = PublicFormat.SubjectPublicKeyInfo
KINDS = (KeyAlgorithm.P256, KeyAlgorithm.P384, KeyAlgorithm.RSA2048)


def key(kind: KeyAlgorithm = KeyAlgorithm.P256, number: int = 0) -> CardKey:
    return card_key(kind, number).public_key()


def pem(*keys: CardKey) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM, SPKI) for one in keys)


def point(one: CardKey, form: PublicFormat = PublicFormat.UncompressedPoint) -> str:
    return one.public_bytes(Encoding.X962, form).hex()


def lines_of(one: CardKey) -> list[str]:
    """Every way to say a key in one line."""
    said = [spki_of(one).hex()]
    if isinstance(one, ec.EllipticCurvePublicKey):
        said += [point(one), point(one, PublicFormat.CompressedPoint), point(one).upper()]
    return said


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
    heading=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.sampled_from(["", "\ufeff"]),
)
def test_every_way_to_say_a_key_gives_that_key(
    tmp_path: Path, chosen: list[tuple[KeyAlgorithm, int, int]], *, heading: bool, newline: str, bom: str
) -> None:
    keys = [key(kind, 0 if kind is KeyAlgorithm.RSA2048 else number) for kind, number, _ in chosen]
    said = [lines_of(one)[how % len(lines_of(one))] for one, (_, _, how) in zip(keys, chosen, strict=True)]
    if heading:
        said = ["serial, Public_Key ,note", *[f'{number},{line},"a, b"' for number, line in enumerate(said)]]
    path = tmp_path / "keys.csv"
    path.write_text(bom + newline.join(["# a comment", "", *said, ""]), encoding="utf-8", newline="")
    assert list(enrolled_keys(path)) == [spki_of(one) for one in keys]


def test_a_folder_with_files_of_every_form(tmp_path: Path) -> None:
    one, two, three, four = (key(KeyAlgorithm.P256, number) for number in range(4))
    (tmp_path / "1.pem").write_bytes(b"made on Monday\n" + pem(one, two))
    (tmp_path / "2.der").write_bytes(spki_of(three))
    (tmp_path / "3.csv").write_text(point(four))
    assert list(enrolled_keys(tmp_path)) == [spki_of(each) for each in (one, two, three, four)]
    assert one_key(tmp_path / "2.der") == three


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (".hidden.pem", b"junk", "is hidden, or no file"),
        ("2024", None, "is hidden, or no file"),
        ("0.csv", b"", "there is no key in it"),
        ("9.csv", b"# none this week\n", "there is no key in it"),
        ("9.der", b"", "there is no key in it"),
    ],
)
def test_a_folder_is_read_whole_or_not_at_all(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    (tmp_path / "1.csv").write_text(point(key()))
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PublishError) as caught:
        list(enrolled_keys(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / name}: {says}")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{point(key())}\n".encode())
    os.close(writing)
    assert list(enrolled_keys(Path(f"/dev/fd/{reading}"))) == [spki_of(key())]
    os.close(reading)


def private_pem() -> bytes:
    return card_key(KeyAlgorithm.P256).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def ed25519_pem() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, SPKI)


GOOD = point(key())  # another one in each process: the cases below have numbers for names


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{GOOD}\nxyz\n".encode(), ", line 2: not a key in hexadecimal"),
        (f"{GOOD}\n\n# comment\n{GOOD[:-2]}\n".encode(), ", line 4: 64 bytes are neither a point"),
        (f"{GOOD[:-1]}{'1' if GOOD[-1] == '0' else '0'}\n".encode(), ", line 1: not a public key"),
        (b"02" + b"ff" * 32, ", line 1: not a point on secp256r1"),
        (b"3000\n", ", line 1: not a public key"),
        (f"public_key,serial\n{GOOD},1\n,2\n".encode(), ", line 3: 0 bytes are neither"),
        (f"serial,public_key\n1,{GOOD}\n2\n".encode(), ", line 3: has no column 2, public_key"),
        (f"1,{GOOD}\n".encode(), ", line 1: 2 columns, and no header names one of them public_key"),
        (f"serial\n{GOOD}\n".encode(), ", line 1: not a key in hexadecimal"),
        (GOOD.encode() + b"\n\xff\n", ": is not text in UTF-8"),
        (pem(key()) + private_pem(), ", line 5: -----BEGIN PRIVATE KEY----- is not the beginning of a public"),
        (b"\n" + pem(key())[:-30], ", line 2: a public key without an end"),
        (pem(key())[:-30] + b"\n" + pem(key()), ", line 1: a public key without an end"),
        (b"-----BEGIN PUBLIC KEY-----\njunk\n-----END PUBLIC KEY-----\n", ", line 1: not a public key"),
        (ed25519_pem(), ", line 1: a key of kind Ed25519PublicKey"),
        (bytes(5000), ": not a public key"),
        (spki_of(key()) + b"\n", ": not a public key"),
        (pem(ec.generate_private_key(ec.SECP256K1()).public_key()), ", line 1: a key on curve secp256k1"),
    ],
    ids=range(18),
)
def test_what_is_wrong_is_told_by_file_and_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    for asked in (path, tmp_path):
        with pytest.raises(PublishError) as caught:
            list(enrolled_keys(asked))
        assert str(caught.value).startswith(f"{path}{told}")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    junk=st.binary(max_size=200), begin=st.sampled_from([b"", b"-----BEGIN PUBLIC KEY-----\n", b"public_key,\n", b"04"])
)
def test_any_bytes_are_keys_or_an_error_that_names_the_file(tmp_path: Path, junk: bytes, begin: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(begin + junk)
    told = str(path)
    try:
        list(enrolled_keys(path))
    except PublishError as error:
        told = str(error)
    assert told.startswith(str(path))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=f"^{tmp_path}/absent: No such file"):
        list(enrolled_keys(tmp_path / "absent"))


@pytest.mark.parametrize("count", [0, 2])
def test_one_key_is_one(tmp_path: Path, count: int) -> None:
    path = tmp_path / "keys.csv"
    path.write_text(f"{GOOD}\n" * count)
    with pytest.raises(PublishError, match=f"keys.csv: holds {count} public keys, one is wanted"):
        one_key(path)

"""Keys and certificates of a card bureau: what is refused, what is never said, what ``openssl`` makes of the rest."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.bureau import Bureau, OperatorKey, Signer, load_bureau, load_keys, load_signer
from backend_sync.card_family import SHARED_KEY_SUFFIX, CardFamily
from backend_sync.enrolment_errors import EnrolmentError, EnrolmentInputMissing
from tests.backend_sync.card_bureau import (
    NOW,
    UNTIL,
    bureau_key,
    certificate,
    decrypted,
    openssl,
    operator,
    packing,
    pem,
    private,
    signer_key,
    uid_of,
)
from validator import operator_keys
from validator.operator_keys import FileKey, OperatorKeys
from validator.profiles import ntag424, ultralight_aes

SECRET = bytes.fromhex("c0ffee00c0ffee11c0ffee22c0ffee33")


def pem_of(*words: object, **named: object) -> bytes:
    return certificate(*words, **named).public_bytes(Encoding.PEM)  # type: ignore[arg-type]  # the cases say what they are


@settings(max_examples=10)
@given(st.binary(min_size=1, max_size=5000))
def test_only_the_bureau_reads_what_is_wrapped_and_openssl_is_enough(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bureau")
    sealed = packing().bureau.wrap(content)
    assert content not in sealed or len(content) < 4
    (folder / "content.p7m").write_bytes(sealed)
    assert decrypted(folder / "content.p7m", folder) == content


def test_a_signature_holds_for_what_was_signed_and_for_nothing_else(tmp_path: Path) -> None:
    content, anchor = tmp_path / "content", tmp_path / "operator.pem"
    anchor.write_bytes(operator().public_bytes(Encoding.PEM))
    (tmp_path / "signature").write_bytes(packing().signer.sign(b'{"cards": 1}\r\n\n'))
    verify = ("cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "signature", "-content", content)
    content.write_bytes(b'{"cards": 1}\r\n\n')
    assert openssl(*verify, "-CAfile", anchor, "-purpose", "any") == content.read_bytes()
    content.write_bytes(b'{"cards": 2}\r\n\n')
    with pytest.raises(AssertionError, match=r"(?i)verification failure"):
        openssl(*verify, "-CAfile", anchor, "-purpose", "any")


def test_an_rsa_key_signs_as_well_and_its_chain_goes_along(tmp_path: Path) -> None:
    other = certificate(signer_key(), "intermediate")
    content = pem(bureau_key()) + pem_of(bureau_key(), "operator") + other.public_bytes(Encoding.PEM)
    signer = load_signer(private(tmp_path / "signer.pem", content), NOW)
    assert signer.chain == (other,)
    (tmp_path / "signature").write_bytes(signer.sign(b"{}"))
    shown = openssl("pkcs7", "-inform", "DER", "-in", tmp_path / "signature", "-print_certs").decode()
    assert shown.count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "holds no certificate"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
        (lambda: pem_of(signer_key(), "bureau"), "RSA of 2048 bits or more"),
        (lambda: pem_of(rsa.generate_private_key(65537, 1024), "bureau"), "RSA of 2048 bits or more"),
        (lambda: pem_of(ed25519.Ed25519PrivateKey.generate(), "bureau"), "RSA of 2048 bits or more"),
        (lambda: pem_of(bureau_key(), "bureau", until=NOW - dt.timedelta(days=1)), "to 2026-05-31, and not now"),
        (lambda: pem_of(bureau_key(), "bureau", usage="digital_signature"), "is not for the encryption of keys"),
    ],
)
def test_a_bureau_that_nothing_can_be_wrapped_for_is_refused(
    tmp_path: Path, content: Callable[[], bytes], says: str
) -> None:
    path = tmp_path / "bureau.pem"
    path.write_bytes(content())
    with pytest.raises(EnrolmentError, match=says) as caught:
        load_bureau(path, NOW)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("usage", [None, "key_encipherment"])
def test_a_bureau_is_loaded_from_either_form(tmp_path: Path, encoding: Encoding, usage: str | None) -> None:
    made = certificate(bureau_key(), "bureau", usage=usage)
    (tmp_path / "bureau").write_bytes(made.public_bytes(encoding))
    assert load_bureau(tmp_path / "bureau", NOW) == Bureau(made)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: pem_of(signer_key(), "operator"), "no unencrypted private key"),
        (lambda: pem(signer_key()), "holds no certificate"),
        (lambda: pem(signer_key()) + pem_of(bureau_key(), "other"), "none of its certificates is the key's"),
        (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "elliptic curve or an RSA key"),
        (
            lambda: pem(signer_key()) + pem_of(signer_key(), "operator", until=NOW - dt.timedelta(days=1)),
            "and not now; bring a certificate in force",
        ),
        (lambda: pem(signer_key()) + pem_of(signer_key(), "operator", usage="crl_sign"), "is not for signatures"),
        (lambda: _weak(ec.generate_private_key(ec.SECP192R1())), "a curve below 256"),
        (lambda: _weak(rsa.generate_private_key(65537, 1024)), "an RSA key below 2048 bits"),
        (
            lambda: (
                signer_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
                + pem_of(signer_key(), "operator")
            ),
            "no unencrypted private key",
        ),
    ],
)
def test_a_signer_that_cannot_answer_for_a_batch_is_refused(
    tmp_path: Path, content: Callable[[], bytes], says: str
) -> None:
    path = private(tmp_path / "signer.pem", content())
    with pytest.raises(EnrolmentError, match=says) as caught:
        load_signer(path, NOW)
    assert str(caught.value).startswith(f"{path}: ")


def _weak(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return pem(key) + pem_of(key, "operator")


@pytest.mark.parametrize("content", [SECRET, SECRET.hex().encode(), SECRET.hex().upper().encode() + b"\r\n"])
def test_an_operator_key_is_octets_or_digits(tmp_path: Path, content: bytes) -> None:
    path = private(tmp_path / "key=1", content)
    (key,) = load_keys([f"ntag424-application.255={path}"], CardFamily.NTAG424)
    assert (key.name, key.version, key.octets) == ("ntag424-application", 255, SECRET)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("ntag424-application=PATH", "write NAME.VERSION=PATH"),
        ("ntag424-application.256=PATH", "write NAME.VERSION=PATH"),
        ("ntag424-application.-1=PATH", "write NAME.VERSION=PATH"),
        ("../ntag424-application.1=PATH", "write NAME.VERSION=PATH"),
        ("ntag424.1=PATH", "write NAME.VERSION=PATH"),
        ("ntag424-a-name-of-more-than-24.1=PATH", "write NAME.VERSION=PATH"),
        ("ultralight-data.1=PATH", "ultralight-data is no key of ntag424 cards; theirs begin ntag424-"),
        ("ntag4245-application.1=PATH", "is no key of ntag424 cards"),
        ("ntag424-master.1=PATH", "no gate takes a ntag424 card without its key of ntag424-application"),
    ],
)
def test_a_key_that_is_told_wrongly_is_refused(tmp_path: Path, told: str, says: str) -> None:
    path = private(tmp_path / "key", SECRET)
    with pytest.raises(EnrolmentError, match=says):
        load_keys([told.replace("PATH", str(path))], CardFamily.NTAG424)


@pytest.mark.parametrize(
    "content",
    [
        SECRET[:15],
        SECRET + b"\n",
        SECRET.hex().encode() + b" ",
        b"",
        SECRET.hex().encode()[:-1],
        SECRET.hex().encode() * 2,
    ],
)
def test_a_file_that_is_no_key_is_refused_without_a_word_of_what_is_in_it(tmp_path: Path, content: bytes) -> None:
    path = private(tmp_path / "key", content)
    with pytest.raises(EnrolmentError, match="an AES-128 key is 16 octets") as caught:
        load_keys([f"ntag424-application.1={path}"], CardFamily.NTAG424)
    assert not says_any_of(str(caught.value), SECRET)
    assert caught.value.__cause__ is None


def test_a_key_that_is_blank_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", b"00" * 16)
    with pytest.raises(EnrolmentError, match="the key is blank"):
        load_keys([f"ntag424-application.1={path}"], CardFamily.NTAG424)


def test_the_key_that_gates_ask_for_comes_first_and_none_twice(tmp_path: Path) -> None:
    path = private(tmp_path / "key", SECRET)
    told = [f"ultralight-uid.1={path}", f"ultralight-data.7={path}"]
    keys = load_keys(told, CardFamily.ULTRALIGHT_AES)
    assert [(key.name, key.version, key.context) for key in keys] == [
        ("ultralight-data", 7, b"ultralight-data"),
        ("ultralight-uid", 1, None),
    ]
    with pytest.raises(EnrolmentError, match="give each key once"):
        load_keys([*told, f"ultralight-uid.2={path}"], CardFamily.ULTRALIGHT_AES)


def test_families_and_keys_have_the_names_that_gates_know() -> None:
    assert CardFamily.NTAG424.value == ntag424.NAME
    assert CardFamily.NTAG424.card_key == ntag424.OPERATOR_KEY
    assert CardFamily.ULTRALIGHT_AES.value == ultralight_aes.NAME
    assert CardFamily.ULTRALIGHT_AES.card_key == ultralight_aes.DATA_KEY_NAME
    assert ultralight_aes.UID_KEY_NAME.endswith(SHARED_KEY_SUFFIX)
    assert SHARED_KEY_SUFFIX == operator_keys.RETRIEVAL_SUFFIX


def test_a_bureau_with_openssl_derives_the_key_that_a_gate_asks_the_card_for(tmp_path: Path) -> None:
    (key,) = load_keys([f"ntag424-application.2={private(tmp_path / 'key', SECRET)}"], CardFamily.NTAG424)
    gate = OperatorKeys({key.name: {key.version: FileKey(bytearray(SECRET))}})
    assert key.check_value == gate.check_value(key.name, key.version)
    assert key.context is not None
    with gate.card_key(key.name, key.version, uid_of(1)) as derived:
        assert bytes(derived) == openssl_cmac(SECRET, b"\x01" + uid_of(1) + key.context)


def openssl_cmac(key: bytes, message: bytes) -> bytes:
    said = openssl("mac", "-cipher", "AES-128-CBC", "-macopt", f"hexkey:{key.hex()}", "CMAC", stdin=message)
    return bytes.fromhex(said.decode())


def test_private_files_that_everybody_may_read_are_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", SECRET)
    path.chmod(0o644)
    with pytest.raises(EnrolmentError, match="lets others read it"):
        load_keys([f"ntag424-application.1={path}"], CardFamily.NTAG424)
    with pytest.raises(EnrolmentError, match="lets others read it"):
        load_signer(path, NOW)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for load in (load_bureau, load_signer):
        with pytest.raises(EnrolmentInputMissing, match="No such file"):
            load(absent, NOW)
    with pytest.raises(EnrolmentInputMissing, match="No such file"):
        load_keys([f"ntag424-application.1={absent}"], CardFamily.NTAG424)


def test_what_is_secret_is_in_no_repr() -> None:
    key = OperatorKey("ntag424-application", 1, SECRET)
    signer = Signer(certificate(signer_key(), "operator", until=UNTIL), (), signer_key())
    assert not says_any_of(repr(key), SECRET)
    assert "PrivateKey" not in repr(signer)


def test_the_check_value_is_the_one_of_the_standard_algorithm() -> None:
    """NIST SP 800-38B has no zero block; this is ``openssl mac -cipher AES-128-CBC`` of one."""
    key = OperatorKey("ntag424-application", 1, SECRET)
    assert openssl_cmac(SECRET, bytes(16))[:3].hex().upper() == key.check_value


def says_any_of(text: str, secret: bytes) -> bool:
    """Whether four octets of it, in digits or as Python prints them, are in a text."""
    runs = [secret[start : start + 4] for start in range(len(secret) - 3)]
    return any(run.hex() in text.lower() or repr(run)[2:-1] in text for run in runs)

"""Card keys out of operator keys: the published numbers, and the mode that is written out against a library's."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from validator.diversification import BLOCK, CONTEXT_MAX, EncryptBlock, cmac, context_of, diversify

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "an10922.json").read_text())
DIVERSIFIED = [vector for vector in VECTORS if "diversified_key" in vector]
MACS = [vector for vector in VECTORS if "mac" in vector]
KEYS = st.binary(min_size=16, max_size=16)
UIDS = st.binary(min_size=7, max_size=7)
CONTEXTS = st.binary(max_size=CONTEXT_MAX)


def aes(key: bytes) -> EncryptBlock:
    def encrypt_block(block: bytes) -> bytes:
        assert len(block) == BLOCK
        return Cipher(algorithms.AES128(key), modes.ECB()).encryptor().update(block)

    return encrypt_block


def library_cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(algorithms.AES128(key))
    mac.update(message)
    return mac.finalize()


def test_the_vectors_are_all_there() -> None:
    assert len(DIVERSIFIED) == 2
    assert len(MACS) == 4
    assert all(vector["source"] for vector in VECTORS)


@pytest.mark.parametrize("vector", DIVERSIFIED, ids=lambda vector: vector["name"])
def test_the_published_card_keys(vector: dict[str, str]) -> None:
    context = bytes.fromhex(vector["application_id"] + vector["system_identifier"])
    key = diversify(aes(bytes.fromhex(vector["master_key"])), bytes.fromhex(vector["uid"]), context)
    assert key.hex().upper() == vector["diversified_key"]


def test_the_published_steps_are_the_blocks_that_are_asked_for() -> None:
    """Zero block, first block of the padded input, last block less the subkey: so AN10922 prints it, and no more."""
    (vector,) = [vector for vector in DIVERSIFIED if "input" in vector]
    encrypt = aes(bytes.fromhex(vector["master_key"]))
    asked: list[bytes] = []

    def overheard(block: bytes) -> bytes:
        asked.append(block)
        return encrypt(block)

    diversify(overheard, bytes.fromhex(vector["uid"]), bytes.fromhex(vector["application_id"]) + b"NXP Abu")
    steps = bytes.fromhex(vector["input_less_subkey"])
    assert asked[:2] == [bytes(BLOCK), steps[:BLOCK]]
    chained = bytes(a ^ b for a, b in zip(encrypt(steps[:BLOCK]), steps[BLOCK:], strict=True))
    assert asked[2:] == [chained]
    assert encrypt(asked[0]).hex().upper() == vector["encrypted_zero_block"]
    padded, subkey_2 = bytes.fromhex(vector["input"]), bytes.fromhex(vector["subkey_2"])
    assert bytes(a ^ b for a, b in zip(padded[BLOCK:], subkey_2, strict=True)) == steps[BLOCK:]


@pytest.mark.parametrize("vector", MACS, ids=lambda vector: vector["name"])
def test_the_published_macs(vector: dict[str, str]) -> None:
    mac = cmac(aes(bytes.fromhex(vector["key"])), bytes.fromhex(vector["message"]))
    assert mac.hex().upper() == vector["mac"]


@given(key=KEYS, message=st.binary(max_size=5 * BLOCK))
def test_the_mode_is_that_of_the_library(key: bytes, message: bytes) -> None:
    assert cmac(aes(key), message) == library_cmac(key, message)


@given(key=KEYS, uid=UIDS, context=st.binary(min_size=9, max_size=CONTEXT_MAX))
def test_past_one_block_a_card_key_is_the_library_s_cmac(key: bytes, uid: bytes, context: bytes) -> None:
    assert bytes(diversify(aes(key), uid, context)) == library_cmac(key, b"\x01" + uid + context)


@given(key=KEYS, uid=UIDS, context=st.binary(max_size=8))
def test_within_one_block_it_is_not(key: bytes, uid: bytes, context: bytes) -> None:
    """AN10922 pads to two blocks where CMAC would do with one: an implementation that forgets so is another one."""
    assert bytes(diversify(aes(key), uid, context)) != library_cmac(key, b"\x01" + uid + context)


@given(key=KEYS, one=st.tuples(UIDS, CONTEXTS), other=st.tuples(UIDS, CONTEXTS))
def test_card_keys_are_equal_only_for_the_same_card_and_use(
    key: bytes, one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    assert (diversify(aes(key), *one) == diversify(aes(key), *other)) == (one == other)


@pytest.mark.parametrize("uid", [b"", bytes(4), bytes(6), bytes(8), bytes(10)])
def test_a_uid_of_another_length(uid: bytes) -> None:
    with pytest.raises(ValueError, match=f"a UID of {len(uid)} bytes"):
        diversify(aes(bytes(16)), uid, b"")


def test_the_longest_context() -> None:
    assert len(diversify(aes(bytes(16)), bytes(7), bytes(CONTEXT_MAX))) == 16
    with pytest.raises(ValueError, match="25 bytes of application and system identifier: 24 fit"):
        diversify(aes(bytes(16)), bytes(7), bytes(CONTEXT_MAX + 1))


def test_a_name_is_its_own_context() -> None:
    assert context_of("ntag424-application") == b"ntag424-application"


@pytest.mark.parametrize("name", ["", "x" * 25, "schlüssel"])
def test_a_name_that_is_no_context(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 24 ASCII characters"):
        context_of(name)

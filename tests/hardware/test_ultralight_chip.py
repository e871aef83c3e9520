"""The virtual MIFARE Ultralight AES: published numbers in both roles; how memory, counters and sessions behave."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import ultralight_aes as aes
from hardware.virtual.ultralight_aes import NAK_ARGUMENT, NAK_COUNTER, OPEN, VERSION, Settings, UltralightAes

VECTORS: dict[str, list[dict[str, str]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ultralight_aes.json").read_text()
)
UID = bytes.fromhex("04A1B2C3D4E5F6")
DATA, SHARED = bytes(range(16)), bytes(range(16, 32))
USER = bytes(range(144))
ACK, NAK, NAK_4 = b"\x0a", bytes([NAK_ARGUMENT]), bytes([NAK_COUNTER])
PLAIN = Settings(cmac=False, auth0=OPEN)


def octets(vector: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def made(**changes: Any) -> UltralightAes:
    return UltralightAes(**{"uid": UID, "data_key": DATA, "uid_key": SHARED, "pages": {4: USER}} | changes)


def said(tag: UltralightAes, frame: str | bytes) -> bytes | None:
    return tag.process(bytes.fromhex(frame) if isinstance(frame, str) else frame).response


def opened(tag: UltralightAes, number: int = 0, key: bytes = DATA) -> aes.Session:
    """Authenticate by hand."""
    rnd_a = bytes(range(50, 66))
    first = said(tag, bytes([0x1A, number]))
    assert first is not None
    assert first[0] == 0xAF
    rnd_b = aes.decrypt(key, first[1:])
    second = said(tag, b"\xaf" + aes.encrypt(key, rnd_a + rnd_b[1:] + rnd_b[:1]))
    assert second == b"\x00" + aes.encrypt(key, rnd_a[1:] + rnd_a[:1])
    return aes.Session.of_challenges(key, rnd_a, rnd_b)


def asked(tag: UltralightAes, session: aes.Session, frame: str) -> bytes:
    """One command of a session; the code on its answer is right, and stripped."""
    answer = said(tag, session.sealed(bytes.fromhex(frame)))
    assert answer is not None
    assert len(answer) >= aes.MAC_BYTES
    body, code = answer[: -aes.MAC_BYTES], answer[-aes.MAC_BYTES :]
    assert code == session.next_mac(body)
    return body


@pytest.mark.parametrize("vector", VECTORS["cmac"], ids=lambda vector: vector["source"])
def test_cmac_by_rfc_4493(vector: dict[str, str]) -> None:
    # The code is every second byte of a CMAC over counter and message: a message that begins with a counter shows it.
    message = octets(vector, "message")
    if message:
        counter, rest = int.from_bytes(message[:2], "little"), message[2:]
        assert aes.mac(octets(vector, "key"), counter, rest) == octets(vector, "cmac")[1::2]
    assert aes._cmac(octets(vector, "key"), message) == octets(vector, "cmac")


@pytest.mark.parametrize("vector", VECTORS["cbc"], ids=lambda vector: vector["source"])
def test_one_block_by_nist(vector: dict[str, str]) -> None:
    key, plain, cipher = (octets(vector, name) for name in ("key", "plain", "cipher"))
    assert aes.encrypt(key, plain) == cipher
    assert aes.decrypt(bytearray(key), cipher) == plain


@pytest.mark.parametrize("vector", VECTORS["authentication"], ids=lambda vector: vector["source"])
def test_published_exchanges_from_the_gate(vector: dict[str, str]) -> None:
    key, rnd_a = octets(vector, "key"), octets(vector, "rnd_a")
    rnd_b = aes.decrypt(key, octets(vector, "first_answer")[1:])
    assert b"\xaf" + aes.encrypt(key, rnd_a + aes.rotated(rnd_b)) == octets(vector, "second_command")
    assert aes.decrypt(key, octets(vector, "second_answer")[1:]) == aes.rotated(rnd_a)
    if "session_key" in vector:
        assert rnd_b == octets(vector, "rnd_b")
        assert aes.session_key(key, rnd_a, rnd_b) == octets(vector, "session_key")
        sealed = octets(vector, "sealed")
        assert aes.Session(bytearray(octets(vector, "session_key"))).sealed(sealed[:-8]) == sealed


@pytest.mark.parametrize("vector", VECTORS["authentication"], ids=lambda vector: vector["source"])
def test_published_exchanges_from_the_tag(vector: dict[str, str]) -> None:
    key = octets(vector, "key")
    rnd_b = aes.decrypt(key, octets(vector, "first_answer")[1:])
    tag = made(data_key=key, random=lambda count: rnd_b[:count])
    assert said(tag, "1a00") == octets(vector, "first_answer")
    assert said(tag, octets(vector, "second_command")) == octets(vector, "second_answer")
    if "sealed" in vector:
        answer = said(tag, octets(vector, "sealed"))
        assert answer is not None
        assert answer[-8:] == aes.mac(octets(vector, "session_key"), 1, answer[:-8])


def test_a_session_covers_every_frame_and_counts_each() -> None:
    tag = made()
    session = opened(tag)
    assert asked(tag, session, "60") == VERSION
    assert asked(tag, session, "3004") == USER[:16]
    assert asked(tag, session, "3A0427") == USER
    assert asked(tag, session, "A204CAFED00D") == b""
    assert asked(tag, session, "3004") == bytes.fromhex("CAFED00D") + USER[4:16]
    assert asked(tag, session, "A502010000FF") == b""
    assert asked(tag, session, "3902") == b"\x01\x00\x00"
    assert asked(tag, session, "3C00") == bytes(48)
    assert session.counter == 16


def test_the_counter_of_frames_turns_over() -> None:
    session = aes.Session(bytearray(16), 0xFFFF)
    assert session.next_mac(b"") == aes.mac(bytes(16), 0xFFFF, b"")
    assert session.next_mac(b"") == aes.mac(bytes(16), 0, b"")


@pytest.mark.parametrize("bit", range(0, 80, 7))
def test_a_command_with_a_wrong_code_is_refused_and_ends_the_session(bit: int) -> None:
    tag = made()
    session = opened(tag)
    flipped = bytearray(session.sealed(b"\x30\x04"))
    flipped[bit // 8] ^= 1 << bit % 8
    assert said(tag, bytes(flipped)) == NAK
    assert said(tag, "3004") == NAK
    assert asked(tag, opened(tag), "3004") == USER[:16]


@pytest.mark.parametrize("frame", ["3004", "60", "", "A20400000000"])
def test_a_plain_command_gets_silence_in_a_session(frame: str) -> None:
    tag = made()
    opened(tag)
    assert said(tag, frame) is None
    assert tag.memory[16:20] == USER[:4]


def test_a_replayed_command_is_refused() -> None:
    tag = made()
    session = opened(tag)
    write = session.sealed(bytes.fromhex("A50201000000"))
    assert said(tag, write) is not None
    assert said(tag, write) == NAK
    assert tag.counters[2] == 1


@pytest.mark.parametrize("key", [bytes(16), DATA[::-1], SHARED])
def test_the_tag_believes_no_other_key(key: bytes) -> None:
    tag = made()
    first = said(tag, "1A00")
    assert first is not None
    rnd_b = aes.decrypt(key, first[1:])
    assert said(tag, b"\xaf" + aes.encrypt(key, bytes(16) + aes.rotated(rnd_b))) == NAK
    assert said(tag, "3004") == NAK


@pytest.mark.parametrize("frame", ["1A", "1A02", "1A0000", "AF", "AF" + "00" * 32, "AF" + "00" * 31])
def test_authentication_out_of_order_is_refused(frame: str) -> None:
    tag = made()
    assert said(tag, frame) == NAK
    said(tag, "1A00")
    assert said(tag, "AF" + "00" * 31) == NAK
    said(tag, "1A00")
    said(tag, "60")
    assert said(tag, "AF" + "00" * 32) == NAK


def test_keys_are_stored_backwards_and_never_read() -> None:
    tag = made(settings=PLAIN)
    assert tag.memory[0x30 * 4 : 0x34 * 4] == DATA[::-1]
    assert tag.memory[0x34 * 4 : 0x38 * 4] == SHARED[::-1]
    assert said(tag, "3A0037")[-32:] == bytes(32)  # type: ignore[index]  # it answered
    new = bytes(range(100, 116))
    for page in range(4):
        assert said(tag, bytes([0xA2, 0x30 + page]) + new[::-1][page * 4 : page * 4 + 4]) == ACK
    assert opened(tag, 0, new)


def test_a_true_uid_stands_in_the_first_pages() -> None:
    tag = made(settings=PLAIN)
    pages = said(tag, "3000")
    assert pages is not None
    assert pages[:9] == UID[:3] + bytes([0x88 ^ 0x04 ^ 0xA1 ^ 0xB2]) + UID[3:] + bytes([0xC3 ^ 0xD4 ^ 0xE5 ^ 0xF6])
    assert aes.uid_of(pages) == UID
    assert tag.shown_uid == UID


@pytest.mark.parametrize("at", range(9))
def test_a_uid_with_a_wrong_check_byte_is_none(at: int) -> None:
    pages = bytearray(made().memory[:16])
    pages[at] ^= 1
    assert aes.uid_of(bytes(pages)) is None


def test_a_random_uid_hides_the_true_one_until_a_key_is_shown() -> None:
    tag = made(settings=Settings(random_uid=True))
    assert tag.shown_uid is None
    assert said(tag, "3000")[:8] == bytes(8)  # type: ignore[index]  # it answered
    assert aes.uid_of(asked(tag, opened(tag, 1, SHARED), "3000")) == UID
    tag.reset()
    assert said(tag, "3000")[:8] == bytes(8)  # type: ignore[index]  # it answered
    assert aes.uid_of(asked(tag, opened(tag), "3000")) == UID


def test_the_shared_key_opens_no_page_and_counts_nothing() -> None:
    for frame in ("3004", "3A0404", "A20400000000", "A50201000000", "3902"):
        tag = made()
        assert said(tag, opened(tag, 1, SHARED).sealed(bytes.fromhex(frame))) == NAK
        assert tag.memory[16:160] == USER
        assert tag.counters == [0, 0, 0]


def test_auth0_guards_what_follows_it() -> None:
    tag = made(settings=Settings(cmac=False, auth0=6))
    assert said(tag, "3004") == bytes(tag.memory[16:24]) + bytes(tag.memory[:8])  # reading on begins at page 0
    assert said(tag, "3006") == said(tag, "3A0406") == said(tag, "A20600000000") == NAK
    assert said(tag, "A20511223344") == ACK
    opened(tag)
    assert said(tag, "3006") == USER[8:24]
    assert said(tag, "A20655667788") == ACK
    for frame in ("303C", "3A043C", "3A0504", "A23C00000000", "A20000000000"):
        opened(tag)
        assert said(tag, frame) == NAK


def test_reading_may_be_left_open() -> None:
    tag = made(settings=Settings(reads_too=False))
    assert said(tag, "3004") == USER[:16]
    assert said(tag, "A20400000000") == NAK


def test_locked_pages_are_never_written_again() -> None:
    tag = made(settings=Settings(cmac=False, auth0=OPEN, locked_pages=frozenset({4, 12, 15})))
    for page in range(4, 18):
        wanted = NAK if page in (4, 12, 15) else ACK
        assert said(tag, bytes([0xA2, page]) + bytes(4)) == wanted


def test_locks_and_one_time_bits_are_set_and_never_cleared() -> None:
    tag = made(settings=PLAIN)
    for frame in ("A203F0000001", "A2030F000000", "A202FFFF1000", "A202FFFF0020", "A22D03000000"):
        assert said(tag, frame) == ACK
    assert tag.memory[12:16] == bytes.fromhex("FF000001")
    assert tag.memory[8:12] == bytes([0xC3 ^ 0xD4 ^ 0xE5 ^ 0xF6, 0x48, 0x10, 0x20])
    for frame in ("A20400000000", "A20D00000000", "A23000000000", "A23400000000"):
        assert said(tag, frame) == NAK
    assert said(tag, "A22AC0050000") == ACK
    assert said(tag, "A22900000004") == said(tag, "A22A00000000") == NAK


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 0xFFFFFF))))
def test_counters_only_ever_count_up(steps: list[tuple[int, int]]) -> None:
    tag = made(settings=Settings(cmac=False, auth0=OPEN, open_counter=True))
    want = [0, 0, 0]
    for number, step in steps:
        fits = want[number] + step <= 0xFFFFFF
        assert said(tag, bytes([0xA5, number]) + step.to_bytes(3, "little") + b"\x77") == (ACK if fits else NAK_4)
        want[number] += step if fits else 0
        assert said(tag, bytes([0x39, number])) == want[number].to_bytes(3, "little")
    assert tag.counters == want
    assert said(tag, "3903") == said(tag, "A50301000000") == NAK


def test_counter_2_can_be_kept_behind_the_key() -> None:
    tag = made()
    assert said(tag, "A50201000000") == said(tag, "3902") == NAK
    assert said(tag, "A50001000000") == ACK
    assert tag.counters == [1, 0, 0]


@given(frame=st.binary(max_size=64), authenticated=st.booleans())
def test_any_frame_gets_an_answer_or_silence_and_leaks_no_key(frame: bytes, *, authenticated: bool) -> None:
    tag = made(settings=Settings(cmac=False, auth0=OPEN))
    if authenticated:
        opened(tag)
    answer = said(tag, frame)
    assert answer is None or (DATA not in answer and DATA[::-1] not in answer)


def test_power_lost_while_writing_leaves_a_page_half_written_and_a_counter_whole() -> None:
    tag = made(settings=Settings(cmac=False, auth0=OPEN, open_counter=True))
    tag.tear(bytes.fromhex("A20411223344"), b"\x11\x22\xff\xff")
    assert tag.memory[16:20] == b"\x11\x22\xff\xff"
    tag.tear(bytes.fromhex("A20455667788"), b"")
    assert tag.memory[16:20] == b"\x11\x22\xff\xff"
    tag.tear(bytes.fromhex("A50203000000"), b"")
    assert tag.counters[2] == 0
    tag.tear(bytes.fromhex("A50203000000"), b"?")
    assert tag.counters[2] == 3
    assert said(tag, "A20400000000") == ACK
    assert tag.memory[16:20] == bytes(4)


@pytest.mark.parametrize(
    "changes",
    [
        {"uid": UID[:4]},
        {"data_key": bytes(15)},
        {"uid_key": bytes(17)},
        {"counters": (0, 0)},
        {"counters": (0, 0, 1 << 24)},
        {"pages": {4: bytes(3)}},
        {"pages": {0x30: bytes(16)}},
        {"settings": Settings(locked_pages=frozenset({3}))},
    ],
)
def test_a_tag_that_could_not_be_is_not_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"UID|counters|pages|bytes"):
        made(**changes)


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0004030104000F03", True),
        ("0004030204000F03", True),
        ("0004030104010F03", True),
        ("0004030101000B03", False),  # MIFARE Ultralight EV1
        ("0004040201000F03", False),  # NTAG213
        ("0004030104000F", False),
        ("", False),
    ],
)
def test_the_family_is_told_by_its_version(version: str, *, known: bool) -> None:
    assert aes.is_ultralight_aes(bytes.fromhex(version)) is known

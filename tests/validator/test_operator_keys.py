"""Operator keys on a gate: where they come from, what is refused, and that their bytes go nowhere else."""

import logging
import os
import stat
import struct
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from hardware.sam import SamGone
from tests.missing import missing
from validator import operator_keys, secret_files
from validator.diversification import context_of, diversify
from validator.operator_keys import BlockCipher, FileKey, OperatorKeys, load, load_pin
from validator.profiles.attempt import CardKeyMissing, CardKeys, CardKeysFailed
from validator.secret_files import SecretError, read_secret, wipe

NAME, SHARED = "ntag424-application", "ntag424-uid"
UID = bytes.fromhex("04782E21801D80")
KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
KEYS = st.binary(min_size=16, max_size=16).filter(lambda key: len(set(key)) > 4)


class FarKey:
    """A key that somebody else holds."""

    def __init__(self, key: bytes, error: SamGone | None = None) -> None:
        self._key = FileKey(bytearray(key))
        self._error = error

    def encrypt_block(self, block: bytes) -> bytes:
        if self._error is not None:
            raise self._error
        return self._key.encrypt_block(block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def put(folder: Path, name: str, content: bytes, mode: int = 0o400) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def expected(key: bytes, name: str = NAME, uid: bytes = UID) -> bytes:
    return bytes(diversify(FileKey(bytearray(key)).encrypt_block, uid, context_of(name)))


def card_key(keys: CardKeys, name: str = NAME, version: int = 1, uid: bytes = UID) -> bytes:
    with keys.card_key(name, version, uid) as key:
        return bytes(key)


def tellings(key: bytes) -> set[bytes]:
    """The ways in which a text could say a key, or half of one."""
    told = set()
    for part in (key, key[:8], key[8:]):
        told |= {part, part.hex().encode(), part.hex().upper().encode(), repr(part).encode()[2:-1]}
        told |= {str(list(part)).encode()[1:-1], part.hex(" ").encode(), part.hex(":").encode()}
        told.add(str(int.from_bytes(part)).encode())
    return told


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def said_by(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    for link in chain(error):
        text += f"{link}{link!r}{link.args!r}{vars(link)!r}"
    return text.encode(errors="surrogateescape")


# The law: a file's key and a module's key give the same card keys, and no key leaves but for the length of a block.


@given(key=KEYS, uid=st.binary(min_size=7, max_size=7), as_hex=st.booleans(), upper=st.booleans())
def test_a_key_is_the_same_wherever_it_lies(key: bytes, uid: bytes, as_hex: bool, upper: bool) -> None:  # noqa: FBT001 - Hypothesis fills them
    digits = key.hex().upper() if upper else key.hex()
    with TemporaryDirectory() as folder:
        put(Path(folder), f"{NAME}.1", digits.encode() + b"\n" if as_hex else key)
        from_file = load(Path(folder))
    far = OperatorKeys({NAME: {1: FarKey(key)}})
    assert card_key(from_file, uid=uid) == card_key(far, uid=uid) == expected(key, uid=uid)


@given(key=KEYS)
def test_a_card_key_is_zero_after_the_block_also_when_it_raises(key: bytes) -> None:
    keys = OperatorKeys({NAME: {1: FileKey(bytearray(key))}, SHARED: {1: FileKey(bytearray(key))}})
    for name, uid in ((NAME, UID), (SHARED, b"")):
        with keys.card_key(name, 1, uid) as held:
            assert held != bytes(16)
        assert held == bytes(16)
        with pytest.raises(ZeroDivisionError), keys.card_key(name, 1, uid) as held:
            raise ZeroDivisionError
        assert held == bytes(16)
    assert card_key(keys) == expected(key), "the operator key itself was wiped"
    assert card_key(keys, SHARED, uid=b"") == key


def test_a_card_key_is_zero_when_its_profile_is_given_up() -> None:
    keys = OperatorKeys({NAME: {1: FileKey(bytearray(KEY))}})
    held: list[bytearray] = []

    def profile() -> Iterator[None]:
        with keys.card_key(NAME, 1, UID) as key:
            held.append(key)
            yield

    steps = profile()
    next(steps)
    assert held[0] == expected(KEY)
    steps.close()  # type: ignore[attr-defined] # a generator by its yield, an iterator by its annotation
    assert held[0] == bytes(16)


@given(key=KEYS)
def test_no_error_repr_or_log_line_says_a_key(key: bytes) -> None:
    said: list[bytes] = []
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment, method-assign] # the shortest way to listen
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        with structlog.testing.capture_logs() as entries, TemporaryDirectory() as name:
            folder = Path(name)
            wrong = [
                key[:-1],
                key + b"\n",
                key.hex().encode()[:-1],
                key.hex().encode() + b"0",
                b"0x" + key.hex().encode()[:-2],
                b"z" + key.hex().encode()[1:],
                key + key,
                key * 9,
            ]
            for content in wrong:
                path = put(folder, f"{NAME}.1", content)
                with pytest.raises(SecretError) as caught:
                    load(folder)
                said.append(said_by(caught.value))
                path.unlink()
            put(folder, f"{NAME}.1", key, mode=0o444)
            with pytest.raises(SecretError) as caught:
                load(folder)
            said.append(said_by(caught.value))
            (folder / f"{NAME}.1").unlink()
            put(folder, f"{NAME}.1", key)
            keys = load(folder, {"far.1": FarKey(key, SamGone("pcsc:x", "is gone"))})
            for asked in ((NAME, 2, UID), (NAME, 1, b""), (NAME, 1, key), ("far", 1, UID)):
                with pytest.raises((CardKeyMissing, CardKeysFailed)) as missed, keys.card_key(*asked):
                    pass
                said.append(said_by(missed.value))
            cipher = keys._keys[NAME][1]
            with pytest.raises(ValueError, match="a block of 15 bytes") as odd:
                cipher.encrypt_block(key[1:])
            said.append(said_by(odd.value))
            for thing in (keys, cipher, keys.card_key(NAME, 1, UID)):
                said += [repr(thing).encode(), str(thing).encode()]
                structlog.get_logger().info("thing", thing=thing)
            said += [repr(keys.names).encode(), repr(entries).encode()]
            said += [record.getMessage().encode() for record in records]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    secrets = tellings(key) | tellings(expected(key)) - {b""}
    assert [text for text in said for secret in secrets if secret in text] == []


def test_the_search_for_a_key_can_find_one() -> None:
    assert any(telling in said_by(ValueError(KEY)) for telling in tellings(KEY))
    assert any(telling in said_by(ValueError(f"not hexadecimal: {KEY.hex()}x")) for telling in tellings(KEY))


# Names and versions.


def test_the_port_is_kept() -> None:
    keys: CardKeys = OperatorKeys({NAME: {1: FileKey(bytearray(KEY))}})
    assert keys.versions(NAME) == (1,)


@given(versions=st.sets(st.integers(0, 255), max_size=8))
def test_the_highest_version_comes_first(versions: set[int]) -> None:
    keys = OperatorKeys({NAME: {version: FileKey(bytearray(KEY)) for version in versions}})
    assert keys.versions(NAME) == tuple(sorted(versions, reverse=True))
    assert keys.versions("ultralight-aes-data") == ()


def test_each_version_and_each_name_has_card_keys_of_its_own(folder: Path) -> None:
    other = KEY[::-1]
    put(folder, f"{NAME}.1", KEY)
    put(folder, f"{NAME}.2", other.hex().encode())
    put(folder, "operator_ultralight-aes.2", KEY)
    put(folder, "device.key", b"another secret", mode=0o440)
    put(folder, "sam.pin", b"123456")
    keys = load(folder)
    assert keys.names == (f"{NAME}.2", f"{NAME}.1", "ultralight-aes.2")
    assert card_key(keys, version=1) == expected(KEY)
    assert card_key(keys, version=2) == expected(other)
    assert card_key(keys, "ultralight-aes", 2) == expected(KEY, "ultralight-aes") != expected(KEY)


def test_no_key_at_all(folder: Path) -> None:
    keys = load(folder)
    assert (keys.names, keys.versions(NAME)) == ((), ())
    with pytest.raises(CardKeyMissing, match=r"operator key ntag424-application\.1 is not on this gate"):
        card_key(keys)


@pytest.mark.parametrize(
    "name",
    [
        "NTAG424.1",
        "ntag424.01",
        "ntag424.256",
        "ntag424-.1",
        ".1",
        "operator_ntag424",
        "operator_ntag424.1.bak",
        f"{'x' * 25}.1",
        "ntag424_application.1",
    ],
)
def test_what_looks_like_a_key_and_is_none_is_told(folder: Path, name: str) -> None:
    path = put(folder, name, KEY)
    with pytest.raises(SecretError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{path}: the file's name names no operator key: rename it")


def test_a_misnamed_key_of_a_module_is_told(folder: Path) -> None:
    with pytest.raises(SecretError, match="security module: 'ntag424' names no operator key"):
        load(folder, {"ntag424": FarKey(KEY)})
    with pytest.raises(ValueError, match=r"NTAG\.1 names no operator key"):
        OperatorKeys({"NTAG": {1: FarKey(KEY)}})


@pytest.mark.parametrize("second", [f"operator_{NAME}.1", None])
def test_a_key_in_two_places_is_told(folder: Path, second: str | None) -> None:
    put(folder, f"{NAME}.1", KEY)
    sam: dict[str, BlockCipher] = {}
    if second is None:
        sam[f"{NAME}.1"] = FarKey(KEY)
    else:
        put(folder, second, KEY)
    with pytest.raises(SecretError, match="is there twice: keep it in one place"):
        load(folder, sam)


@given(key=KEYS)
def test_the_check_value_is_that_of_the_library_and_none_of_the_key(key: bytes) -> None:
    mac = CMAC(AES128(key))
    mac.update(bytes(16))
    value = mac.finalize()[:3].hex().upper()
    for cipher in (FileKey(bytearray(key)), FarKey(key)):
        assert OperatorKeys({NAME: {7: cipher}}).check_value(NAME, 7) == value


def test_a_key_that_cannot_be_asked_has_no_check_value() -> None:
    keys = OperatorKeys({NAME: {1: FarKey(KEY, SamGone("pcsc:x", "no module is in it"))}})
    with pytest.raises(CardKeysFailed, match=r"ntag424-application\.1: security module in pcsc:x: no module is in it"):
        keys.check_value(NAME, 1)
    with pytest.raises(CardKeyMissing, match="is not on this gate"):
        keys.check_value(NAME, 2)


# Keys that all cards share.


def test_only_a_retrieval_key_is_given_out_itself() -> None:
    keys = OperatorKeys({SHARED: {3: FileKey(bytearray(KEY))}, NAME: {1: FileKey(bytearray(KEY))}})
    assert card_key(keys, SHARED, 3, b"") == KEY
    with pytest.raises(CardKeyMissing, match="from its UID of 7 bytes, not of 0"):
        card_key(keys, uid=b"")
    with pytest.raises(CardKeyMissing, match=r"ntag424-uid\.3 is shared by all cards: no card's key is derived"):
        card_key(keys, SHARED, 3, UID)


def test_a_module_gives_no_shared_key_out() -> None:
    keys = OperatorKeys({SHARED: {1: FarKey(KEY)}})
    with pytest.raises(CardKeyMissing, match="is in a security module, which gives no key out"):
        card_key(keys, SHARED, uid=b"")


@given(uid=st.binary(max_size=12).filter(lambda uid: len(uid) != 7))
def test_a_uid_of_another_length_has_no_key(uid: bytes) -> None:
    keys = OperatorKeys({NAME: {1: FileKey(bytearray(KEY))}})
    with pytest.raises(CardKeyMissing):
        card_key(keys, uid=uid)


def test_a_shared_key_in_a_module_is_refused_at_the_start(folder: Path) -> None:
    with pytest.raises(
        SecretError, match=r"'ultralight-uid\.1' is shared by all cards, and a security module gives no"
    ):
        load(folder, {"ultralight-uid.1": FarKey(KEY)})


def test_a_module_that_is_gone_is_the_gates_fault_and_not_the_cards() -> None:
    keys = OperatorKeys({NAME: {1: FarKey(KEY, SamGone("pcsc:x", "no module is in it"))}})
    with pytest.raises(CardKeysFailed, match="security module in pcsc:x: no module is in it"):
        card_key(keys)


# Files.


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o402, 0o644, 0o600 | stat.S_IXOTH])
def test_a_file_that_others_may_read_is_refused(folder: Path, mode: int) -> None:
    path = put(folder, f"{NAME}.1", KEY, mode)
    with pytest.raises(SecretError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{path}: mode -r")
    assert "run chmod go= on it" in str(caught.value)


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY, ME = 0xFFFF_FFFF, os.geteuid()
OWNER = (0x01, 4, NOBODY)
GROUP_NONE, MASK, OTHER_NONE = (0x04, 0, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)


@pytest.mark.parametrize(
    ("entries", "open_to_others"),
    [
        ((OWNER, (0x02, 4, ME), GROUP_NONE, MASK, OTHER_NONE), False),
        ((OWNER, (0x02, 4, 0), (0x02, 4, ME), GROUP_NONE, MASK, OTHER_NONE), False),
        ((OWNER, (0x02, 4, ME + 1), GROUP_NONE, MASK, OTHER_NONE), True),
        ((OWNER, (0x02, 4, ME), (0x04, 4, NOBODY), MASK, OTHER_NONE), True),
        ((OWNER, (0x02, 4, ME), GROUP_NONE, (0x08, 4, 5), MASK, OTHER_NONE), True),
        ((OWNER, (0x02, 4, ME), GROUP_NONE, MASK, (0x20, 4, NOBODY)), True),
    ],
)
def test_a_list_of_rights_is_read_as_systemd_writes_it(
    folder: Path,
    entries: tuple[tuple[int, int, int], ...],
    open_to_others: bool,  # noqa: FBT001 - a table's column
) -> None:
    path = put(folder, f"{NAME}.1", KEY)
    try:
        os.setxattr(path, "system.posix_acl_access", acl(*entries))
    except OSError as error:
        missing(f"this file system has no access control lists ({error.strerror})")
    assert path.stat().st_mode & 0o077, "the mask does not show: this test shows nothing"
    if open_to_others:
        with pytest.raises(SecretError, match="lets others read it"):
            load(folder)
    else:
        assert card_key(load(folder)) == expected(KEY)


def test_a_link_inside_the_folder_is_followed_and_one_that_leads_out_is_not(tmp_path: Path) -> None:
    folder, outside = tmp_path / "credentials", tmp_path / "outside"
    (folder / "data").mkdir(parents=True)
    outside.mkdir()
    put(folder / "data", "key", KEY)
    link = folder / f"{NAME}.1"
    link.symlink_to("data/key")
    assert card_key(load(folder)) == expected(KEY)
    link.unlink()
    link.symlink_to(put(outside, "key", KEY))
    with pytest.raises(SecretError, match=r"leads out of .*: put the file itself there"):
        load(folder)


def test_what_is_no_file_is_told_at_once(folder: Path) -> None:
    path = folder / f"{NAME}.1"
    with pytest.raises(SecretError, match="No such file"):
        read_secret(folder, path, 8)
    path.mkdir()
    with pytest.raises(SecretError, match="is no file: put the secret's file there"):
        load(folder)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(SecretError, match="is no file: put the secret's file there"):
        load(folder)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(SecretError, match="No such file") as caught:
        load(folder)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        KEY[:15],
        KEY + b"\0",
        KEY.hex().encode()[:31],
        KEY.hex().encode() + b"\n\r\n",
        KEY.hex().encode() + b"\n\n\nand more",
        KEY + KEY,
        b" " * 32,
        b"\n" * 34,
    ],
)
def test_a_wrong_length_or_letter(folder: Path, content: bytes) -> None:
    path = put(folder, f"{NAME}.1", content)
    with pytest.raises(SecretError, match="neither 16 bytes nor 32 hexadecimal digits: write the key again") as caught:
        load(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [bytes(16), b"\xff" * 16, b"00" * 16, b"AA" * 16 + b"\r\n"])
def test_a_blank_key_is_no_key(folder: Path, content: bytes) -> None:
    put(folder, f"{NAME}.1", content)
    with pytest.raises(SecretError, match="the key is blank"):
        load(folder)


def test_a_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(SecretError, match="gone: No such file or directory: give the folder"):
        load(folder / "gone")


def test_what_was_read_is_wiped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiped: list[bytearray] = []

    def watched(secret: bytearray) -> None:
        assert any(secret)
        wiped.append(secret)
        wipe(secret)

    monkeypatch.setattr(secret_files, "wipe", watched)
    monkeypatch.setattr(operator_keys, "wipe", watched)
    put(folder, f"{NAME}.1", KEY.hex().encode())
    keys = load(folder)
    assert wiped == [bytes(35), bytes(32)]
    assert card_key(keys) == expected(KEY)


# The PIN of a module.


@pytest.mark.parametrize("name", ["sam.pin", "operator_sam.pin"])
@pytest.mark.parametrize("content", [b"123456", b"12345678\n", b"654321\r\n"])
def test_a_pin(folder: Path, name: str, content: bytes) -> None:
    put(folder, name, content)
    assert load_pin(folder) == content.strip()
    assert load(folder).names == ()


def test_no_pin(folder: Path) -> None:
    assert load_pin(folder) is None


@given(content=st.binary(max_size=40))
def test_no_other_bytes_are_a_pin_and_none_is_repeated(content: bytes) -> None:
    with TemporaryDirectory() as name:
        put(Path(name), "sam.pin", content)
        try:
            pin = load_pin(Path(name))
        except SecretError as error:
            shown = str(error).removeprefix(f"{name}/")
            assert shown == "sam.pin: a PIN has 6 to 8 decimal digits and nothing else"
        else:
            assert pin is not None
            assert pin.isdigit()
            assert 6 <= len(pin) <= 8


def test_a_pin_that_others_may_read_is_refused(folder: Path) -> None:
    put(folder, "sam.pin", b"123456", mode=0o440)
    with pytest.raises(SecretError, match="lets others read it"):
        load_pin(folder)


# Threads.


def test_many_threads_get_the_right_keys() -> None:
    keys = OperatorKeys({NAME: {1: FileKey(bytearray(KEY))}})
    uids = [number.to_bytes(7) for number in range(200)]
    wanted = {uid: expected(KEY, uid=uid) for uid in uids}
    wrong: list[bytes] = []

    def derive() -> None:
        wrong.extend(uid for uid in uids if card_key(keys, uid=uid) != wanted[uid])

    threads = [threading.Thread(target=derive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_several_card_keys_at_once_are_each_their_own() -> None:
    keys = OperatorKeys({NAME: {1: FileKey(bytearray(KEY)), 2: FileKey(bytearray(KEY[::-1]))}})
    with ExitStack() as both:
        first = both.enter_context(keys.card_key(NAME, 1, UID))
        with keys.card_key(NAME, 2, UID) as second:
            assert first == expected(KEY)
            assert second == expected(KEY[::-1])
        assert second == bytes(16)
        assert first == expected(KEY)
    assert first == bytes(16)


def test_a_key_of_another_length_is_no_key() -> None:
    with pytest.raises(ValueError, match="an AES-128 key of 24 bytes: 16 are meant"):
        FileKey(bytearray(24))

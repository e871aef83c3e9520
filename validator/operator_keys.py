"""An operator's secret keys on a gate, by name and version: in files that the service manager gives, or in a module.

This is the port `validator.profiles.attempt.CardKeys`. A profile names an operator key and a card, and gets that card's
own key for the length of a ``with`` block; the operator key itself never leaves this room, and one in a security module
never comes in.

Python wipes what it can: a card's key and the buffer that a file was read into are overwritten in place. What a cipher
returns is immutable and lies in freed memory until that is used again, and a file's key lies in memory while the
service runs. So the unit forbids core files, and `docs/threat-model.md` counts the keys of a stolen gate as lost.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hardware.sam import SamError
from validator.diversification import BLOCK, CONTEXT_MAX, UID_BYTES, cmac, context_of, diversify
from validator.profiles.attempt import CardKeyMissing, CardKeysFailed
from validator.secret_files import SecretError, read_secret, wipe

FOLDER_PREFIX: Final = "operator_"
"""What systemd puts before the names of credentials that it loads from the folder ``operator``."""
PIN_NAME: Final = "sam.pin"
RETRIEVAL_SUFFIX: Final = "-uid"
"""Ends the names of the keys that all cards share, with which a random-UID card's true UID is asked for."""

_KEY_NAME = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)\.(0|[1-9][0-9]{0,2})")
_VERSIONED = re.compile(r"\.[0-9]+$")
_CHECK_VALUE_BYTES = 3
_VERSION_MAX = 255  # NXP's chips count key versions in one byte
_FILE_MAX = 2 * BLOCK + 2  # hexadecimal digits and a line's end
_NIBBLES = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}
_PIN = re.compile(rb"([0-9]{6,8})[\r\n]{0,2}")


class BlockCipher(Protocol):
    """An operator key, or whoever holds it: it encrypts single blocks."""

    def encrypt_block(self, block: bytes) -> bytes:
        """Encrypt one block of 16 bytes with AES-128.

        Raises:
            SamError: Who holds the key does not answer, or refuses.
        """
        ...


class FileKey:
    """An operator key in this process' memory.

    Args:
        key: 16 bytes, taken over: the caller keeps no reference.

    Raises:
        ValueError: It has another length.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytearray) -> None:
        if len(key) != BLOCK:
            raise ValueError(f"an AES-128 key of {len(key)} bytes: {BLOCK} are meant")
        self._key = key

    def encrypt_block(self, block: bytes) -> bytes:
        """Encrypt one block of 16 bytes with AES-128.

        Raises:
            ValueError: The block has another length.
        """
        if len(block) != BLOCK:
            raise ValueError(f"a block of {len(block)} bytes: AES takes {BLOCK}")
        cipher = Cipher(algorithms.AES128(self._key), modes.ECB())  # noqa: S305 - the block itself; CMAC is built on it
        return cipher.encryptor().update(block)

    def copy(self) -> bytearray:
        """Return the key in memory of its own, which the caller wipes."""
        return bytearray(self._key)


class OperatorKeys:
    """The operator keys of a gate, a `validator.profiles.attempt.CardKeys`. Safe to use from any thread.

    Args:
        keys: By name and version, 0 to 255.

    Raises:
        ValueError: A name or version is no such thing.
    """

    def __init__(self, keys: Mapping[str, Mapping[int, BlockCipher]]) -> None:
        for name, versions in keys.items():
            for version in versions:
                if _parsed(f"{name}.{version}") is None:
                    raise ValueError(f"{name}.{version} names no operator key")
        self._keys = {name: dict(sorted(versions.items(), reverse=True)) for name, versions in keys.items() if versions}

    def __repr__(self) -> str:
        return f"OperatorKeys({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Name and version of every key, as in ``ntag424-application.2``; for the log, which may show them."""
        return tuple(f"{name}.{version}" for name in sorted(self._keys) for version in self._keys[name])

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of an operator key that this gate accepts, the highest first; empty for none."""
        return tuple(self._keys.get(name, ()))

    @contextmanager
    def card_key(self, name: str, version: int, uid: bytes) -> Iterator[bytearray]:
        """Derive one card's key, 16 bytes, for the length of a ``with`` block; its memory is overwritten at the end.

        Args:
            name: Names the operator key.
            version: One of `versions`.
            uid: The card's true UID, 7 bytes. Empty gives the operator key itself, which is allowed for names that end
                in ``-uid`` and must be: all cards share such a key, so that nothing may be derived from it.

        Raises:
            CardKeyMissing: This gate has no such key, the module that holds it does not answer or gives no key out, or
                no key is derived for a UID like this.
        """
        key = self._derive(name, version, uid)
        try:
            yield key
        finally:
            wipe(key)

    def check_value(self, name: str, version: int) -> str:
        """Return what tells an operator key from others and gives nothing of it away, for lists and people to compare.

        Returns:
            Six hexadecimal digits: the first three bytes of the CMAC of a block of zeros (ANSI X9.24-1).

        Raises:
            CardKeyMissing: This gate has no such key.
            CardKeysFailed: The module that holds it does not answer.
        """
        try:
            return cmac(self._cipher(name, version).encrypt_block, bytes(BLOCK))[:_CHECK_VALUE_BYTES].hex().upper()
        except SamError as error:
            raise CardKeysFailed(f"operator key {name}.{version}: {error}") from error

    def _cipher(self, name: str, version: int) -> BlockCipher:
        cipher = self._keys.get(name, {}).get(version)
        if cipher is None:
            raise CardKeyMissing(f"operator key {name}.{version} is not on this gate")
        return cipher

    def _derive(self, name: str, version: int, uid: bytes) -> bytearray:
        cipher = self._cipher(name, version)
        if name.endswith(RETRIEVAL_SUFFIX):
            return self._shared(f"{name}.{version}", cipher, uid)
        if len(uid) != UID_BYTES:
            what = f"a card's key is derived from its UID of {UID_BYTES} bytes, not of {len(uid)}"
            raise CardKeyMissing(f"operator key {name}.{version}: {what}")
        try:
            return diversify(cipher.encrypt_block, uid, context_of(name))
        except SamError as error:
            raise CardKeysFailed(f"operator key {name}.{version}: {error}") from error

    def _shared(self, key: str, cipher: BlockCipher, uid: bytes) -> bytearray:
        if uid:
            raise CardKeyMissing(f"operator key {key} is shared by all cards: no card's key is derived from it")
        if not isinstance(cipher, FileKey):
            what = "is in a security module, which gives no key out: a key that all cards share must be in a file"
            raise CardKeyMissing(f"operator key {key} {what}")
        return cipher.copy()


def load(directory: Path | None, sam: Mapping[str, BlockCipher] | None = None) -> OperatorKeys:
    """Take the operator keys of a gate into use.

    Args:
        directory: Where the service manager put the credentials (``$CREDENTIALS_DIRECTORY``). A key's file is named
            ``<name>.<version>``, for example ``ntag424-application.1``, and may have ``operator_`` before that, which
            systemd adds. It holds 16 bytes, or 32 hexadecimal digits and an optional line's end. Other files are other
            secrets and left alone. None where there are no files.
        sam: Keys in a security module, by the same names.

    Raises:
        SecretError: The directory cannot be read, a file is wrong, open to others or misnamed, or a key is there
            twice.
    """
    keys: dict[str, dict[int, BlockCipher]] = {}
    for label, cipher in (sam or {}).items():
        named = _parsed(label)
        if named is None:
            raise SecretError(f"security module: {label!r} names no operator key; {_naming()}")
        if named[0].endswith(RETRIEVAL_SUFFIX):
            what = "is shared by all cards, and a security module gives no key out: keep it in a file"
            raise SecretError(f"security module: {label!r} {what}")
        keys.setdefault(named[0], {})[named[1]] = cipher
    if directory is not None:
        _take_files(directory, keys)
    return OperatorKeys(keys)


def _take_files(directory: Path, keys: dict[str, dict[int, BlockCipher]]) -> None:
    for path in _listed(directory):
        named = _named(path)
        if named is None:
            continue
        name, version = named
        if version in keys.setdefault(name, {}):
            raise SecretError(f"{path}: {name}.{version} is there twice: keep it in one place, and remove the other")
        keys[name][version] = FileKey(_key_of(directory, path))


def load_pin(directory: Path) -> bytes | None:
    """Read the PIN of the security module, 6 to 8 digits, from the credential ``sam.pin``; None without one.

    Raises:
        SecretError: The file is open to others, or holds something else.
    """
    for name in (PIN_NAME, FOLDER_PREFIX + PIN_NAME):
        path = directory / name
        if os.path.lexists(path):
            content = read_secret(directory, path, _FILE_MAX)
            found = _PIN.fullmatch(content)
            pin = bytes(found[1]) if found else None
            wipe(content)
            if pin is None:
                raise SecretError(f"{path}: a PIN has 6 to 8 decimal digits and nothing else")
            return pin
    return None


def _naming() -> str:
    return f"a key is named <name>.<version>: a-z, 0-9 and '-', at most {CONTEXT_MAX} characters; 0 to {_VERSION_MAX}"


def _parsed(label: str) -> tuple[str, int] | None:
    found = _KEY_NAME.fullmatch(label)
    if found is None or len(found[1]) > CONTEXT_MAX or int(found[2]) > _VERSION_MAX:
        return None
    return found[1], int(found[2])


def _named(path: Path) -> tuple[str, int] | None:
    """Name and version that a file's name says; None for another secret. What looks like a key and is none is told."""
    bare = path.name.removeprefix(FOLDER_PREFIX)
    named = _parsed(bare)
    if named is None and bare != PIN_NAME and (bare != path.name or _VERSIONED.search(bare)):
        raise SecretError(f"{path}: the file's name names no operator key: rename it; {_naming()}")
    return named


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        what = "give the folder with the credentials of the service, or none"
        raise SecretError(f"{directory}: {error.strerror}: {what}") from None


def _key_of(directory: Path, path: Path) -> bytearray:
    content = read_secret(directory, path, _FILE_MAX)
    key = _decoded(content)
    if key is not content:
        wipe(content)
    if key is None:
        what = f"{len(content)} bytes that are neither {BLOCK} bytes nor {2 * BLOCK} hexadecimal digits"
        raise SecretError(f"{path}: {what}: write the key again")
    if len(set(key)) == 1:
        raise SecretError(f"{path}: the key is blank, one byte {BLOCK} times: write the operator's key into it")
    return key


def _decoded(content: bytearray) -> bytearray | None:
    """The key in what a file holds; decoded digit by digit, since `bytes.fromhex` would leave copies behind."""
    if len(content) == BLOCK:
        return content
    digits = len(content)
    while digits and content[digits - 1] in b"\r\n":
        digits -= 1
    if len(content) > _FILE_MAX or digits != 2 * BLOCK or not all(content[at] in _NIBBLES for at in range(digits)):
        return None
    return bytearray(_NIBBLES[content[at]] << 4 | _NIBBLES[content[at + 1]] for at in range(0, digits, 2))

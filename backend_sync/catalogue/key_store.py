"""Keys of the catalogue in files: ``NAME.key``, private, and ``NAME.pub`` beside it. All are Ed25519 (RFC 8032).

A key that is to stay offline is encrypted with a passphrase (PKCS #8). A key for an online role is not: its machine has
to start without anybody there, so what guards it is who may read the file.
"""

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from backend_sync.catalogue.durable import sync_folder
from backend_sync.catalogue.tuf_api import SSlibKey
from backend_sync.publish_errors import InputMissing, PublishError
from validator.secret_files import SecretError, read_secret

PRIVATE: Final = ".key"
PUBLIC: Final = ".pub"
NAME_FIELD: Final = "x-pilet-name"
"""Field of a key in the metadata that says what people call it; not part of its id."""
LEAST_PASSPHRASE_BYTES: Final = 12
_MAX_FILE_BYTES = 4096
_MODE = 0o600


def create_offline_key(path: Path, passphrase: bytes) -> Path:
    """Make a key that stays offline: the private file is encrypted.

    Args:
        path: ``NAME.key``, which does not exist; neither does ``NAME.pub``.
        passphrase: At least 12 bytes; only as good as it is hard to guess.

    Returns:
        The public file.

    Raises:
        PublishError: The passphrase is too short, a file exists, or one cannot be written.
    """
    if len(passphrase) < LEAST_PASSPHRASE_BYTES:
        raise PublishError(f"{path}: a passphrase of {len(passphrase)} bytes; take {LEAST_PASSPHRASE_BYTES} or more")
    return _create(path, BestAvailableEncryption(passphrase))


def create_online_key(path: Path) -> Path:
    """Make a key for a role that signs with nobody there: the private file is not encrypted.

    Returns:
        The public file.

    Raises:
        PublishError: A file exists, or cannot be written.
    """
    return _create(path, NoEncryption())


def load_private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key; one without a passphrase must be readable by its owner alone.

    Raises:
        InputMissing: The file cannot be read.
        PublishError: It is no such key, the passphrase is wrong, missing or not wanted, or others may read it.
    """
    try:
        pem = bytes(_read(path)) if passphrase else bytes(read_secret(path.parent, path, _MAX_FILE_BYTES))
        key = load_pem_private_key(pem, passphrase)
    except SecretError as error:
        raise PublishError(str(error)) from None
    except TypeError:
        what = "it is not encrypted, and a passphrase was given" if passphrase else "it takes a passphrase"
        raise PublishError(f"{path}: {what}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PublishError(f"{path}: not a private key, or another passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PublishError(f"{path}: a key of another kind; keys of the catalogue are Ed25519")
    return key


def is_encrypted(path: Path) -> bool:
    """Whether a private file takes a passphrase.

    Raises:
        InputMissing: It cannot be read.
    """
    return b"BEGIN ENCRYPTED PRIVATE KEY" in _read(path)


def read_public_key(path: Path) -> SSlibKey:
    """Read ``NAME.pub`` as metadata holds it, under the name of its file.

    Raises:
        InputMissing: The file cannot be read.
        PublishError: It is no Ed25519 public key.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise PublishError(f"{path}: not a public key, PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise PublishError(f"{path}: a key of another kind; keys of the catalogue are Ed25519")
    return named_key(key, path.stem)


def named_key(key: Ed25519PublicKey, name: str) -> SSlibKey:
    """Return a public key as metadata holds it; its id is that of the key alone, whatever it is called."""
    held = SSlibKey.from_crypto(key)
    held.unrecognized_fields[NAME_FIELD] = name
    return held


def _create(path: Path, encryption: KeySerializationEncryption) -> Path:
    if path.suffix != PRIVATE:
        raise PublishError(f"{path}: call it {path.stem or 'NAME'}{PRIVATE}")
    key, public = Ed25519PrivateKey.generate(), path.with_suffix(PUBLIC)
    if public.exists():
        raise PublishError(f"{public}: exists already; nothing was written")
    try:
        _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        sync_folder(path.parent)
    except FileExistsError as error:
        raise PublishError(f"{error.filename}: exists already, and a key is never written over") from None
    except OSError as error:
        raise PublishError(f"{error.filename or path}: {error.strerror or error}") from error
    return public


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror or error}") from None

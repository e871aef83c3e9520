"""Keys and certificates that a configuration file names, loaded at the start, so that a wrong one is named."""

import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from validator.toml_file import ConfigError


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[uplink.tls]``: certificate authority of the broker, and this device's certificate and key (PEM paths)."""

    ca: str
    certificate: str
    key: str


def load_private_key(path: Path, where: str) -> Ed25519PrivateKey:
    """Load an unencrypted Ed25519 private key.

    Its owner may read the file, and a group, as with a service manager's credentials; nobody else.

    Raises:
        ConfigError: Missing, unreadable, open to everybody or another kind of key; `where` says which setting named it.
    """
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"{where}: {path}: mode {stat.filemode(mode)} lets everybody at the key; run chmod o= on it, "
            "and make another key if somebody else was on this machine"
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{where}: {path} is not an unencrypted private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{where}: {path} is not an Ed25519 key")
    return key


def load_public_key(path: Path, where: str) -> Ed25519PublicKey:
    """Load an Ed25519 public key.

    Raises:
        ConfigError: Missing, unreadable or another kind of key; `where` says which setting named it.
    """
    try:
        key = load_pem_public_key(read_named(path, where))
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{where}: {path} is not a public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{where}: {path} is not an Ed25519 public key")
    return key


def load_tls(section: TlsSection, resolve: Callable[[str], Path], where: str) -> ssl.SSLContext:
    """Load what mutual TLS needs, so that a wrong file is told at the start and not taken for a broken network.

    Args:
        section: Names the files.
        resolve: Makes a path of what the section says.
        where: File and key of the section, for messages.

    Returns:
        A client's context that believes the section's authority and no other.

    Raises:
        ConfigError: A file is missing or unreadable, holds something else, or the key is not the certificate's.
    """
    ca, certificate, key = resolve(section.ca), resolve(section.certificate), resolve(section.key)
    for name, path in (("ca", ca), ("certificate", certificate), ("key", key)):
        read_named(path, f"{where}.{name}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise ConfigError(f"{where}.ca: {ca} holds no certificate in PEM form") from None
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"{where}.certificate and {where}.key: {certificate} and {key} are not a certificate and its unencrypted "
            "key in PEM form"
        ) from None
    return context


def _no_passphrase() -> str:
    return ""  # without this OpenSSL would ask for one on the terminal


def read_named(path: Path, where: str) -> bytes:
    """Read a file that a setting names.

    Raises:
        ConfigError: It cannot be read; `where` says which setting named it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from None

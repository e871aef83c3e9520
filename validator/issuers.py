"""The issuers of a desk, from a directory of files: for `validator read`, where no signed lists are installed.

What a file means follows from what it holds and what it is called:

| file | means |
|---|---|
| X.509 certificates that may sign certificates | issuers; the self-issued ones are anchors, others lead to one |
| an X.509 certificate for content signing | signs certificates of PIV secure messaging |
| `pkoc-issuer-REFERENCE.*`, a public key | signs PKOC certificates under that reference of 16 characters |
| `enrolled-*`, a public key | an enrolled key |
| X.509 certificates in the folder `ee`, `jp` or `es` | issuers of that scheme's identity cards |
| `dnie-component-*`, an RSA public key | vouches for the chips of the DNIe |
| `named-NAME.*`, a public key | enrolled under a name of 32 hexadecimal digits, for cards that never show their key |
| X.509 certificates in the folder `icao` | country signing authorities of travel documents |
"""

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from validator.certificates import (
    HOSTILE,
    CardKey,
    CertificateError,
    credential_id,
    load_certificates,
    load_key,
    spki_of,
)
from validator.lists.enrolled_list import refuse_key
from validator.lists.errors import ListError
from validator.lists.trust_list import (
    encode_trust_list,
    is_content_signer,
    load_component_root,
    parse_trust_list,
)
from validator.model import CREDENTIAL_ID_BYTES, Scheme
from validator.trust_store import NationalIssuers, TrustStore
from validator.vouching import Authorities

PKOC_ISSUER, ENROLLED, NAMED, COMPONENT = "pkoc-issuer-", "enrolled-", "named-", "dnie-component-"
TRAVEL = "icao"
_VERSION_BYTES = 6


class IssuersError(Exception):
    """The directory of issuers cannot be used; the message says why."""


def load_issuers(directory: Path) -> Authorities:
    """Load every file of a directory, PEM or DER.

    Each must be what the signed lists would take, so that nobody is believed here whom no gate would believe. The
    store's version follows from the files, so that a cache is never believed under other issuers.

    Raises:
        IssuersError: The directory cannot be read, or names no issuer and no key.
        ListError: A file in it holds nothing of the kind, or something that no list would take.
    """
    issuers: list[x509.Certificate] = []
    signers: list[x509.Certificate] = []
    pkoc: dict[str, CardKey] = {}
    enrolled: dict[bytes, bytes] = {}
    named: dict[bytes, bytes] = {}
    components: list[rsa.RSAPublicKey] = []
    for path, content in _files(directory):
        if path.name.startswith(COMPONENT):
            components.append(load_component_root(path, content))
            continue
        key = _public_key(path, content)
        if key is None:
            for certificate in _certificates(path, content):
                (signers if is_content_signer(certificate) else issuers).append(certificate)
        elif path.name.startswith(PKOC_ISSUER):
            pkoc[path.stem.removeprefix(PKOC_ISSUER)] = key
            parse_trust_list(encode_trust_list((), (), {path.stem.removeprefix(PKOC_ISSUER): key}), path)
        elif path.name.startswith(ENROLLED):
            enrolled[credential_id(spki_of(key))] = spki_of(key)
        elif path.name.startswith(NAMED):
            named[_name(path)] = spki_of(key)
        else:
            why = f"a public key; call it {PKOC_ISSUER}REFERENCE or {ENROLLED}NAME, so that it is clear what it is"
            raise ListError(path, why)
    anchors = [certificate for certificate in issuers if certificate.issuer == certificate.subject]
    if issuers and not anchors:
        raise IssuersError(f"{directory}: no root among {len(issuers)} certificates; add the self-issued one")
    national, travel = _national(directory), _travel_anchors(directory / TRAVEL)
    on_list = bool(anchors or signers or pkoc or national or travel or components)
    if not (on_list or enrolled or named):
        raise IssuersError(f"{directory}: names no issuer; give the directory of issuer certificates")
    others = [each for each in issuers if each not in anchors]
    payload = encode_trust_list(
        anchors, others, pkoc, signers, national=national, travel_anchors=travel, component_roots=components
    )
    version = int.from_bytes(hashlib.sha256(payload).digest()[:_VERSION_BYTES])
    store = parse_trust_list(payload, directory).store(version, directory) if on_list else TrustStore(version, ())
    return Authorities(store, enrolled.get, named.get)


def _files(directory: Path) -> list[tuple[Path, bytes]]:
    try:
        return [(path, path.read_bytes()) for path in sorted(directory.iterdir()) if path.is_file()]
    except OSError as error:
        what = f"{error.filename or directory}: {error.strerror}"
        raise IssuersError(f"{what}; give the directory of issuer certificates") from None


def _name(path: Path) -> bytes:
    try:
        name = bytes.fromhex(path.stem.removeprefix(NAMED))
    except ValueError:
        name = b""
    if len(name) != CREDENTIAL_ID_BYTES:
        raise ListError(path, f"call it {NAMED} and {2 * CREDENTIAL_ID_BYTES} hexadecimal digits")
    return name


def _national(directory: Path) -> dict[Scheme, NationalIssuers]:
    found: dict[Scheme, NationalIssuers] = {}
    for scheme in Scheme:
        folder = directory / scheme.value
        if not folder.is_dir():
            continue
        issuers = [each for path, content in _files(folder) for each in _loaded(path, content)]
        anchors = tuple(each for each in issuers if each.issuer == each.subject)
        if not anchors:
            raise IssuersError(f"{folder}: no root among {len(issuers)} certificates; add the self-issued one")
        found[scheme] = NationalIssuers(anchors, tuple(each for each in issuers if each not in anchors))
    return found


def _travel_anchors(folder: Path) -> list[x509.Certificate]:
    if not folder.is_dir():
        return []
    return [each for path, content in _files(folder) for each in _loaded(path, content)]


def _loaded(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return load_certificates(content)
    except CertificateError as error:
        raise ListError(path, f"{error}; remove it from the directory") from None


def _public_key(path: Path, content: bytes) -> CardKey | None:
    """Return the public key that a file holds; None where it holds something else."""
    key = _loaded_key(content)
    if key is None:
        return None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    why = refuse_key(spki)
    if why is not None:
        raise ListError(path, f"{why}; remove it from the directory")
    return load_key(spki)


def _loaded_key(content: bytes) -> PublicKeyTypes | None:
    try:
        return load_pem_public_key(content) if b"-----BEGIN" in content else load_der_public_key(content)
    except HOSTILE:
        return None


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    """Load certificates that a trust list would take."""
    found = _loaded(path, content)
    for certificate in found:
        if is_content_signer(certificate):
            parse_trust_list(encode_trust_list((), (), {}, [certificate]), path)
        else:
            parse_trust_list(encode_trust_list([certificate], ()), path)
    return found

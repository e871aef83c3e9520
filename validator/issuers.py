"""The issuers of a desk, from a directory of files: for `validator read`, where no signed lists are installed.

What a file means follows from what it holds and what it is called:

| file | means |
|---|---|
| X.509 certificates that may sign certificates | issuers; the self-issued ones are anchors, others lead to one |
| an X.509 certificate for content signing | signs certificates of PIV secure messaging |
| `pkoc-issuer-REFERENCE.*`, a public key | signs PKOC certificates under that reference of 16 characters |
| `enrolled-*`, a public key | an enrolled key |
"""

import hashlib
from pathlib import Path

from cryptography import x509
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
from validator.lists.trust_list import encode_trust_list, is_content_signer, parse_trust_list
from validator.trust_store import TrustStore
from validator.vouching import Authorities

PKOC_ISSUER, ENROLLED = "pkoc-issuer-", "enrolled-"
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
    try:
        files = [(path, path.read_bytes()) for path in sorted(directory.iterdir()) if path.is_file()]
    except OSError as error:
        what = f"{error.filename or directory}: {error.strerror}"
        raise IssuersError(f"{what}; give the directory of issuer certificates") from None
    for path, content in files:
        key = _public_key(path, content)
        if key is None:
            for certificate in _certificates(path, content):
                (signers if is_content_signer(certificate) else issuers).append(certificate)
        elif path.name.startswith(PKOC_ISSUER):
            pkoc[path.stem.removeprefix(PKOC_ISSUER)] = key
            parse_trust_list(encode_trust_list((), (), {path.stem.removeprefix(PKOC_ISSUER): key}), path)
        elif path.name.startswith(ENROLLED):
            enrolled[credential_id(spki_of(key))] = spki_of(key)
        else:
            why = f"a public key; call it {PKOC_ISSUER}REFERENCE or {ENROLLED}NAME, so that it is clear what it is"
            raise ListError(path, why)
    anchors = [certificate for certificate in issuers if certificate.issuer == certificate.subject]
    if issuers and not anchors:
        raise IssuersError(f"{directory}: no root among {len(issuers)} certificates; add the self-issued one")
    if not (anchors or signers or pkoc or enrolled):
        raise IssuersError(f"{directory}: names no issuer; give the directory of issuer certificates")
    payload = encode_trust_list(anchors, [each for each in issuers if each not in anchors], pkoc, signers)
    version = int.from_bytes(hashlib.sha256(payload).digest()[:_VERSION_BYTES])
    if not (anchors or signers or pkoc):
        return Authorities(TrustStore(version, ()), enrolled.get)
    return Authorities(parse_trust_list(payload, directory).store(version, directory), enrolled.get)


def _public_key(path: Path, content: bytes) -> CardKey | None:
    """Return the public key that a file holds; None where it holds something else."""
    try:
        key = load_pem_public_key(content) if b"-----BEGIN" in content else load_der_public_key(content)
    except HOSTILE:
        return None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    why = refuse_key(spki)
    if why is not None:
        raise ListError(path, f"{why}; remove it from the directory")
    return load_key(spki)


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    """Load certificates that a trust list would take."""
    try:
        found = load_certificates(content)
    except CertificateError as error:
        raise ListError(path, f"{error}; remove it from the directory") from None
    for certificate in found:
        if is_content_signer(certificate):
            parse_trust_list(encode_trust_list((), (), {}, [certificate]), path)
        else:
            parse_trust_list(encode_trust_list([certificate], ()), path)
    return found

"""Who issues Estonian identity cards: the certificates come with a package, the trust in them stands here.

The package `esteid-certificates` carries the certificates of SK ID Solutions and Zetes, test issuers among them.
Whatever a release of it holds, nothing is taken from it but certificates with these fingerprints. It does not carry
EE-GovCA2018, the root of 2018, so that ESTEID2018 is trusted by itself.

Whoever makes a trust list needs the package, and nobody else: gates get the certificates in the signed list.
"""

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from validator.certificates import CertificateError, load_certificates
from validator.trust_store import NationalIssuers

PACKAGE = "esteid_certificates"

ANCHORS: Mapping[str, str] = MappingProxyType(
    {
        "ESTEID2018": "c45ae81ac8b5ed5d8065213fd3dc250c7b3277368a3e97bd8299effaf8b65e31",
        "EEGovCA2025": "d482be019730144fe90527a987f4f24e165c9aa75c93f35245549a7c4748198e",
    }
)
"""SHA-256 of the certificates that are trusted by themselves, by their common names."""

INTERMEDIATES: Mapping[str, str] = MappingProxyType(
    {"ESTEID2025": "30eba818e427a442bad8f5b218b6b73cc5445d2170e94b8d36b230c006498ac7"}
)
"""SHA-256 of the certificates that are trusted below an anchor."""

TEST_ANCHORS: Mapping[str, str] = MappingProxyType(
    {
        "TEST of EE-GovCA2018": "e4c92e1146e0123cab3c8f69d0831ecac89869b40d6a59d4107f5bbc916f09e2",
        "Test EEGovCA2025": "833113376d4069da6c64941e0c597f2c2ccc8dddc53ee6404e976d9f0e8d421f",
    }
)
TEST_INTERMEDIATES: Mapping[str, str] = MappingProxyType(
    {
        "TEST of ESTEID2018": "2291c167b5275152b53f1efa2c1805c9a15ec8def7120e56a3726a2959b31049",
        "Test ESTEID2025": "a5cac6ea1c366eac01f72ce5ad322ade710d42639c4a1152b6793facc2821dea",
    }
)
"""Anybody may order a card from these, in any name: on a real gate they would let everybody in."""


class EstonianIssuersError(Exception):
    """The certificates are not to be had; the message says which, and what to do."""


class _Package(Protocol):
    """What is used of the package."""

    ISSUER_CERTS: Mapping[str, Path]

    def get_root_ca_files(self, *, test: bool = False) -> Iterable[Path]: ...


def production_issuers() -> NationalIssuers:
    """Return the issuers of real cards, of 2018 and of 2025.

    Raises:
        EstonianIssuersError: The package is not installed, or no longer carries one of them.
    """
    return _issuers(ANCHORS, INTERMEDIATES)


def issuers_of_test_cards() -> NationalIssuers:
    """Return the issuers of test cards; for a laboratory, never for a gate.

    Raises:
        EstonianIssuersError: The package is not installed, or no longer carries one of them.
    """
    return _issuers(TEST_ANCHORS, TEST_INTERMEDIATES)


def _issuers(anchors: Mapping[str, str], intermediates: Mapping[str, str]) -> NationalIssuers:
    carried = _carried()
    return NationalIssuers(_pinned(carried, anchors), _pinned(carried, intermediates))


def _pinned(carried: Mapping[str, x509.Certificate], wanted: Mapping[str, str]) -> tuple[x509.Certificate, ...]:
    missing = [name for name, fingerprint in wanted.items() if fingerprint not in carried]
    if missing:
        raise EstonianIssuersError(
            f"{PACKAGE} carries no certificate with the pinned fingerprint of {', '.join(missing)}: install 1.0.5"
        )
    return tuple(carried[fingerprint] for fingerprint in wanted.values())


def _carried() -> dict[str, x509.Certificate]:
    """Return what the package carries, by fingerprint; what cannot be read is as good as absent."""
    try:
        package = cast(_Package, importlib.import_module(PACKAGE))
    except ImportError as error:
        raise EstonianIssuersError(
            f"the certificates of Estonian issuers are not here ({error}): install pilet with its extra `estonia`"
        ) from error
    files = {*package.ISSUER_CERTS.values(), *package.get_root_ca_files(), *package.get_root_ca_files(test=True)}
    carried: dict[str, x509.Certificate] = {}
    for file in files:
        try:
            certificates = load_certificates(file.read_bytes())
        except (CertificateError, OSError):
            continue
        carried |= {each.fingerprint(hashes.SHA256()).hex(): each for each in certificates}
    return carried

"""Reads those who are to be on a trust list from their files, and says of which file what no gate would take."""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from backend_sync.key_files import one_key
from backend_sync.publish_errors import InputMissing, PublishError
from validator.certificates import CardKey, CertificateError, load_certificates
from validator.lists.errors import ListError
from validator.lists.trust_list import encode_trust_list, load_component_root, parse_trust_list
from validator.trust_store import NationalIssuers

Rehearsal = Callable[[x509.Certificate, str], None]


def certificates_in(paths: Iterable[Path], rehearse: Rehearsal) -> list[x509.Certificate]:
    """Read certificates, and refuse each that no gate would take while it can still be said which file it came from.

    Args:
        paths: Files of one certificate in DER, or any number in PEM.
        rehearse: Refuses one, told where it is.

    Raises:
        InputMissing: A file cannot be read.
        PublishError: A file holds something else, or one is refused.
    """
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            certificates = load_certificates(path.read_bytes())
            for number, certificate in enumerate(certificates, 1):
                rehearse(certificate, f"{path}, certificate {number}")
        except OSError as error:
            raise InputMissing(f"{path}: {error.strerror or error}") from error
        except CertificateError as error:
            raise PublishError(f"{path}: {error}") from None
        except ListError as error:
            raise PublishError(str(error)) from None
        found += certificates
    return found


def rehearse_issuer(certificate: x509.Certificate, where: str) -> None:
    """Refuse who is no issuer of cards.

    Raises:
        ListError: No gate would take it.
    """
    parse_trust_list(encode_trust_list([certificate], []), where)


def rehearse_travel_anchor(certificate: x509.Certificate, where: str) -> None:
    """Refuse who is no country signing authority.

    Raises:
        ListError: No gate would take it.
    """
    parse_trust_list(encode_trust_list([], [], travel_anchors=[certificate]), where)


def component_root_in(path: Path) -> rsa.RSAPublicKey:
    """Read a key that vouches for the chips of the Spanish DNIe.

    Raises:
        InputMissing: It cannot be read.
        PublishError: It is none.
    """
    try:
        return load_component_root(path, path.read_bytes())
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror or error}") from error
    except ListError as error:
        raise PublishError(str(error)) from None


def national_issuers_in(paths: Sequence[Path], others: NationalIssuers | None) -> NationalIssuers:
    """Read the issuers of a scheme's identity cards, and put them before others of it.

    Raises:
        InputMissing: A file cannot be read.
        PublishError: A file holds something else, or somebody who is no issuer.
    """
    issuers = certificates_in(paths, rehearse_issuer)
    anchors = tuple(each for each in issuers if each.issuer == each.subject)
    intermediates = tuple(each for each in issuers if each not in anchors)
    if others is None:
        return NationalIssuers(anchors, intermediates)
    return NationalIssuers(anchors + others.anchors, intermediates + others.intermediates)


def rehearse_signer(certificate: x509.Certificate, where: str, at_s: int) -> None:
    """Refuse who cannot sign for PIV content, or has ended.

    Raises:
        ListError: It vouches for nobody.
    """
    parsed = parse_trust_list(encode_trust_list([], [], sm_signers=[certificate]), where)
    for signer in parsed.sm_signers.values():
        if signer.not_after < at_s:
            ended = dt.datetime.fromtimestamp(signer.not_after, dt.UTC)
            raise ListError(where, f"{signer.name} ended on {ended:%Y-%m-%d}: its cards need new certificates")


def pkoc_issuer_in(reference: str, path: Path) -> CardKey:
    """Read the key of a PKOC issuer.

    Raises:
        InputMissing: It cannot be read.
        PublishError: It is none, or the reference is none.
    """
    key = one_key(path)
    try:
        parse_trust_list(encode_trust_list([], [], {reference: key}), path)
    except ListError as error:
        raise PublishError(str(error)) from None
    return key

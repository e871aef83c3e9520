"""An operator's cards as ``python -m hardware.virtual present`` takes them: options, and the files that they name."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from backend_sync.demo.issuer import DAY
from backend_sync.demo.media import KEY_VERSION, PKOC_REFERENCE, Operator, OperatorCard
from hardware.virtual.pkoc import PkocChip
from validator import piv_cvc, pkoc_cvc
from validator.certificates import card_credential_id, credential_id, spki_of, token_id
from validator.profiles import ntag424, piv, piv_sm, pkoc1, pkoc2, ultralight_aes
from validator.profiles.attempt import TOKEN_BYTES


@dataclass(frozen=True)
class Described:
    """One card.

    Attributes:
        family: Its family.
        options: Values by option; those that name a file are paths.
        credential_id: The key of its tickets.
        secrets: What nobody may print, as text.
    """

    family: str
    options: Mapping[str, str]
    credential_id: bytes
    secrets: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        return [part for option in self.options.items() for part in option]


def describe(operator: Operator, family: str, folder: Path) -> Described:
    """Issue a card of a family and write down what makes it; a bare key is enrolled with the operator's desk."""
    folder.mkdir()
    match family:
        case piv.NAME | piv_sm.NAME:
            return _piv(operator, family, folder)
        case pkoc1.NAME | pkoc2.NAME:
            return _pkoc(operator, family, folder)
        case ntag424.NAME:
            return _nxp(operator, family, ntag424.OPERATOR_KEY, folder)
        case ultralight_aes.NAME:
            return _nxp(operator, family, ultralight_aes.DATA_KEY_NAME, folder)
    raise ValueError(family)


def _piv(operator: Operator, family: str, folder: Path) -> Described:
    key, sm_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    certificate = operator.issuer.issue(key, operator.now - DAY, operator.now + 365 * DAY)
    options = {"--key": _written(folder / "key", _pem(key)), "--cert": _written(folder / "cert", certificate)}
    if family == piv.NAME:
        return Described(family, options, credential_id(spki_of(key.public_key())), (_body(key),))
    identifier = x509.SubjectKeyIdentifier.from_public_key(operator.signer_key.public_key()).digest[:8]
    cvc = piv_cvc.issue(
        issuer=identifier, guid=secrets.token_bytes(16), key=sm_key.public_key(), signer=operator.signer_key
    )
    options |= {"--sm-key": _written(folder / "sm_key", _pem(sm_key)), "--cvc": _written(folder / "cvc", cvc)}
    return Described(family, options, credential_id(spki_of(sm_key.public_key())), (_body(key), _body(sm_key)))


def _pkoc(operator: Operator, family: str, folder: Path) -> Described:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = credential_id(spki_of(key.public_key()))
    options = {"--key": _written(folder / "key", _pem(key))}
    if family == pkoc1.NAME:
        operator.enrol(OperatorCard(family, identifier, PkocChip(key), None))
    else:
        cvc = pkoc_cvc.issue(
            operator.pkoc_key,
            issuer=PKOC_REFERENCE.encode(),
            subject=secrets.token_bytes(16),
            key=key.public_key(),
            first_day=(operator.now - DAY).date(),
            last_day=(operator.now + 365 * DAY).date(),
        )
        options["--cvc"] = _written(folder / "cvc", cvc)
    return Described(family, options, identifier, (_body(key),))


def _nxp(operator: Operator, family: str, key_name: str, folder: Path) -> Described:
    uid, token = b"\x04" + secrets.token_bytes(6), secrets.token_bytes(TOKEN_BYTES)
    with operator.keys.card_key(key_name, KEY_VERSION, uid) as key:
        key_file = _written(folder / "card_key", key.hex().encode() + b"\n")
        hidden = (key.hex(), token.hex())
    options = {"--uid": uid.hex(), "--card-key-file": key_file, "--token": token.hex()}
    return Described(family, options, card_credential_id(token_id(family, token), uid), hidden)


def shared_uid_key(operator: Operator, folder: Path) -> str:
    """Write the key that reads the hidden UID of any of the operator's Ultralight AES."""
    with operator.keys.card_key(ultralight_aes.UID_KEY_NAME, KEY_VERSION, b"") as key:
        return _written(folder / "uid_key", key.hex().encode())


def _written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _body(key: ec.EllipticCurvePrivateKey) -> str:
    """A line of the key's file that is no frame."""
    return _pem(key).decode().splitlines()[1]

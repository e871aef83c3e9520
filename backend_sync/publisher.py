"""Builds and signs lists, and refuses to publish what a gate could not install.

    <out>/<kind>/<version>/manifest
    <out>/<kind>/<version>/payload

Each version is first installed into a scratch directory with the very code that a device runs.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from backend_sync.deny_check import refuse_wrong
from backend_sync.issuer_files import (
    certificates_in,
    component_root_in,
    national_issuers_in,
    pkoc_issuer_in,
    rehearse_issuer,
    rehearse_signer,
    rehearse_travel_anchor,
)
from backend_sync.publish_errors import InputMissing, PublishError
from validator.lists import directory
from validator.lists.dense_deny import DenseDeny
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.enrolled_list import write_enrolled_file
from validator.lists.errors import ListError
from validator.lists.gate_rules import GateRules, encode_gate_rules
from validator.lists.manifest import ListKind, Manifest, seal_manifest
from validator.lists.status_array import write_status_file
from validator.lists.ticket_store import write_ticket_store
from validator.lists.trust_list import encode_trust_list, parse_trust_list
from validator.model import Credential, Scheme
from validator.rights import Product
from validator.trust_store import NationalIssuers

__all__ = ["Dates", "InputMissing", "PublishError", "Published", "Publisher", "create_key", "write_public_key"]

ROW: Final = {ListKind.DENY: "revocations", ListKind.TICKETS: "sales"}
"""Beside a list: the number of the last row of the ledger's revocations, or of its sales, that is in it."""

_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Dates:
    """When a list is made and until when it is fresh, in seconds since 1970 UTC."""

    issued_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True)
class Published:
    """A published version.

    Attributes:
        manifest: What it says about itself.
        entries: How many issuers, credentials, products or keys it holds; None where they were not counted.
        manifest_path: Its signed manifest.
        payload_path: Its payload.
    """

    manifest: Manifest
    entries: int | None
    manifest_path: Path
    payload_path: Path


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes the lists of one region under one name.

    Attributes:
        out: Directory of published lists; made if it is not there.
        signer: The name that devices know the key by.
        key: The signing key.
        region: The network that the lists are for.
    """

    out: Path
    signer: str
    key: Ed25519PrivateKey
    region: str

    def trust(
        self,
        anchors: Iterable[Path],
        intermediates: Iterable[Path],
        dates: Dates,
        *,
        pkoc_issuers: Mapping[str, Path] | None = None,
        sm_signers: Iterable[Path] = (),
        national: Mapping[Scheme, Sequence[Path]] | None = None,
        pinned: Mapping[Scheme, NationalIssuers] | None = None,
        travel_anchors: Iterable[Path] = (),
        component_roots: Iterable[Path] = (),
        empty: bool = False,
    ) -> Published:
        """Publish a trust list from files of certificates, each one in DER or any number in PEM, and of keys.

        Args:
            anchors: Certificates of X.509 issuers that are trusted by themselves.
            intermediates: Certificates of X.509 issuers that lead to an anchor.
            dates: When it is made, and until when it is fresh.
            pkoc_issuers: By issuer reference, the key that signs PKOC certificates (one P-256 public key, PEM or DER).
            sm_signers: Certificates for PIV content signing; one that has ended vouches for nobody and is refused.
            national: By scheme, certificates of the issuers of its identity cards; self-issued ones are anchors.
            pinned: Issuers that this version knows by their fingerprints, beside those of `national`.
            travel_anchors: Certificates of country signing authorities.
            component_roots: RSA public keys that vouch for the chips of the Spanish DNIe, PEM or DER.
            empty: Whether nobody at all may be on it, for a network whose cards need no issuer.

        Raises:
            InputMissing: A file cannot be read.
            PublishError: A file holds something else, or somebody who is no issuer; or there is nobody.
        """
        roots, others = certificates_in(anchors, rehearse_issuer), certificates_in(intermediates, rehearse_issuer)
        keys = {reference: pkoc_issuer_in(reference, path) for reference, path in (pkoc_issuers or {}).items()}
        signers = certificates_in(sm_signers, lambda one, where: rehearse_signer(one, where, dates.issued_s))
        schemes = dict(pinned or {})
        for scheme, paths in (national or {}).items():
            schemes[scheme] = national_issuers_in(paths, schemes.get(scheme))
        travel = certificates_in(travel_anchors, rehearse_travel_anchor)
        components = [component_root_in(path) for path in component_roots]
        if not (roots or others or keys or signers or schemes or travel or components or empty):
            raise PublishError("trust list: nobody is on it, so that no issuer's card would be believed")
        payload = encode_trust_list(
            roots, others, keys, signers, national=schemes, travel_anchors=travel, component_roots=components
        )
        try:
            parse_trust_list(payload)
        except ListError as error:
            raise PublishError(str(error)) from None
        issuers = {each for one in schemes.values() for each in (*one.anchors, *one.intermediates)}
        entries = len({*roots, *others, *signers, *travel} | issuers) + len(keys) + len(components)
        return self._publish(ListKind.TRUST, dates, _writer(payload, entries))

    def deny(
        self,
        credential_ids: Iterable[bytes],
        dates: Dates,
        row: int = 0,
        *,
        numbered: Iterable[DenseDeny] = (),
        register: bytes = b"",
        asked: Iterable[tuple[Credential, bool]] = (),
    ) -> Published:
        """Publish a deny list, after it was asked about every id and number that it was made from.

        Args:
            credential_ids: Ids, 16 bytes each, in any order.
            dates: When it is made, and until when it is fresh.
            row: The last of the ledger's revocations that is in it: what came later has to be announced.
            numbered: Numbers that are refused, one list for an issuer.
            register: A nation's cards without numbers, as `clubcard_builder.build` made it; empty for none.
            asked: Cards that the list is asked about beside these, and whether each has to be refused.

        Raises:
            PublishError: An id has another length, an issuer is there twice, a gate could not install the list, or it
                gives a wrong answer.
        """
        ids, sections = set(credential_ids), list(numbered)
        try:
            payload = encode_deny_list(ids, sections, register)
            listed = DenyList.parse(payload)
        except ListError as error:
            raise PublishError(str(error)) from error
        refuse_wrong(listed, ids, sections, register, asked)
        beside = {ROW[ListKind.DENY]: b"%d\n" % row}
        return self._publish(ListKind.DENY, dates, _writer(payload, len(listed)), beside=beside)

    def tickets(
        self,
        entries: Iterable[tuple[bytes, Product]],
        horizons: Mapping[str, tuple[int, int]],
        dates: Dates,
        progress: Callable[[int], None] = lambda _count: None,
        row: int = 0,
    ) -> Published:
        """Publish a ticket list.

        Args:
            entries: Credential id and product, in any order; read once, never held in memory.
            horizons: By device id, epoch and sequence number of the last tap that the balances include.
            dates: When it is made, and until when it is fresh.
            progress: Told the count of products written so far.
            row: The last of the ledger's sales that is in it: what was recorded later has to be announced.

        Raises:
            PublishError: An entry breaks a rule of the format.
        """

        def write(path: Path) -> int:
            return write_ticket_store(path, entries, progress)

        beside = {ROW[ListKind.TICKETS]: b"%d\n" % row}
        return self._publish(ListKind.TICKETS, dates, write, horizons=horizons, beside=beside)

    def statuses(self, arrays: Iterable[tuple[bytes, int, Iterable[bytes]]], dates: Dates) -> Published:
        """Publish the statuses of a nation's cards.

        Args:
            arrays: For each issuer, in ascending order of their ids: the id of its key, 16 bytes; how many cards; and
                their statuses as `status_array.pack` gives them. Read once, never held in memory.
            dates: When it is made, and until when it is fresh.

        Raises:
            PublishError: Issuers are not in order, or have another number of cards than statuses.
        """
        return self._publish(ListKind.STATUS, dates, lambda path: write_status_file(path, arrays))

    def enrolled(
        self,
        spkis: Iterable[bytes],
        dates: Dates,
        progress: Callable[[int], None] = lambda _count: None,
        named: Iterable[tuple[bytes, bytes]] = (),
    ) -> Published:
        """Publish the keys of cards that no issuer vouches for.

        Args:
            spkis: SubjectPublicKeyInfo of each key, DER, in any order; read once, never held in memory.
            dates: When it is made, and until when it is fresh.
            progress: Told the count of keys read so far.
            named: Keys of cards that never show them: the name that each is found under, and the key.

        Raises:
            PublishError: A key cannot be enrolled.
        """
        return self._publish(ListKind.ENROLLED, dates, lambda path: write_enrolled_file(path, spkis, progress, named))

    def config(self, rules: GateRules, dates: Dates) -> Published:
        """Publish the configuration of the region's gates; its entries are the kinds of lists that it speaks of.

        Raises:
            PublishError: No gate would take it.
        """
        return self._publish(ListKind.CONFIG, dates, _writer(encode_gate_rules(rules), len(rules.stale)))

    def tariff(self, payload: bytes, editions: int, dates: Dates) -> Published:
        """Publish so many editions of the tariff, as `validator.fares.editions.encode_editions` wrote them.

        Raises:
            PublishError: No gate would take them.
        """
        return self._publish(ListKind.TARIFF, dates, _writer(payload, editions))

    def again(self, kind: ListKind, version: int, dates: Dates) -> Published:
        """Publish a new version whose payload is an earlier one's: the order to go back.

        Args:
            kind: Which list.
            version: Whose payload.
            dates: When it is made, and until when it is fresh.

        Raises:
            InputMissing: That version is not here.
            PublishError: It is not what its manifest says, or a gate could not install it.
        """
        home = self.out / kind.value / str(version)
        if not home.is_dir():
            there = ", ".join(map(str, sorted(directory.installed_versions(self.out, kind)))) or "none"
            raise InputMissing(f"{home}: is not there; versions that are: {there}")
        try:
            keys = {self.signer: self.key.public_key()}
            manifest, payload = directory.read_verified(self.out, kind, version, keys, self.region)
            row = ROW.get(kind)
            beside = {row: (home / row).read_bytes()} if row is not None and (home / row).exists() else {}
        except (OSError, ListError) as error:
            raise PublishError(f"{kind} list: {error}") from error

        def write(path: Path) -> None:
            shutil.copyfile(payload, path)

        return self._publish(kind, dates, write, horizons=manifest.horizons, beside=beside)

    def _publish(
        self,
        kind: ListKind,
        dates: Dates,
        write: Callable[[Path], int | None],
        *,
        horizons: Mapping[str, tuple[int, int]] | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> Published:
        shelf = self.out / kind.value
        try:
            shelf.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".building-", dir=shelf) as building:
                draft = Path(building) / "draft"
                draft.mkdir()
                entries = write(draft / directory.PAYLOAD)
                manifest = self._manifest(kind, dates, draft / directory.PAYLOAD, horizons or {})
                sealed = seal_manifest(manifest, self.key, self.signer)
                _write(draft / directory.MANIFEST, sealed)
                for name, content in (beside or {}).items():
                    _write(draft / name, content)
                self._rehearse(sealed, draft / directory.PAYLOAD, Path(building) / "rehearsal")
                home = shelf / str(manifest.version)
                _sync_tree(draft)
                draft.rename(home)
                _sync(shelf)
        except ListError as error:
            # Where it happened was a draft that is gone by now.
            raise PublishError(f"{kind} list: {error.why}") from error
        except OSError as error:
            raise PublishError(f"{error.filename or shelf}: {error.strerror or error}") from error
        return Published(manifest, entries, home / directory.MANIFEST, home / directory.PAYLOAD)

    def _manifest(
        self, kind: ListKind, dates: Dates, payload: Path, horizons: Mapping[str, tuple[int, int]]
    ) -> Manifest:
        with payload.open("rb") as file:
            digest = file_digest(file, "sha256").digest()
        return Manifest(
            kind=kind,
            region=self.region,
            version=max(directory.installed_versions(self.out, kind), default=0) + 1,
            issued_s=dates.issued_s,
            not_after_s=dates.not_after_s,
            payload_sha256=digest,
            payload_bytes=payload.stat().st_size,
            horizons=horizons,
            root=directory.payload_root(kind, payload),
        )

    def _rehearse(self, sealed: bytes, payload: Path, scratch: Path) -> None:
        keys = {self.signer: self.key.public_key()}
        directory.install(scratch, sealed, payload, keys, region=self.region)
        shutil.rmtree(scratch)


def create_key(path: Path) -> Ed25519PrivateKey:
    """Make a signing key and write it to a new file that nobody else can read, as PEM (PKCS #8, not encrypted).

    Raises:
        PublishError: The file exists already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror or error}") from error
    return key


def write_public_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Write the public half as PEM, for the devices' configuration.

    Raises:
        PublishError: The file cannot be written.
    """
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        _write(path, pem)
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror or error}") from error


def _writer(content: bytes, entries: int) -> Callable[[Path], int]:
    def write(path: Path) -> int:
        _write(path, content)
        return entries

    return write


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The documents of a ceremony as files in a folder: ``N.root.json`` and ``N.targets.json``, drafts among them.

The folder goes from holder to holder. A version that is there is never written over; only signatures are added.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.ceremony import Outstanding
from backend_sync.catalogue.durable import make_folder, sync_folder, write_durably
from backend_sync.catalogue.roles import ROOT, RULES, TARGETS
from backend_sync.catalogue.tuf_api import SSlibKey
from backend_sync.publish_errors import InputMissing, PublishError

_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CeremonyFolder:
    """A folder of documents.

    Attributes:
        path: The folder.
    """

    path: Path

    def begin(self, documents: dict[str, bytes]) -> list[Path]:
        """Write the first version of root and targets; the folder is made if it is not there.

        Raises:
            PublishError: One exists already, or cannot be written.
        """
        try:
            make_folder(self.path)
        except OSError as error:
            raise PublishError(f"{error.filename or self.path}: {error.strerror or error}") from error
        for role in documents:
            if self.versions(role):
                raise PublishError(f"{self.file(1, role)}: the ceremony took place already; see rotate and renew")
        return [self._write_new(1, role, document) for role, document in documents.items()]

    def rotate(self, role: str, old: str | None, new: SSlibKey, now_s: int) -> Path:
        """Write the next root, or targets for an online role of a region, in which a key of `role` is replaced.

        Args:
            role: Whose key.
            old: What the key is called that goes; None where the role has but one.
            new: The key that comes.
            now_s: The time, seconds since 1970 UTC.

        Raises:
            PublishError: The newest version still lacks signatures, or there is no such key.
        """
        if role not in RULES:
            version, current = self._complete(TARGETS)
            return self._write_new(version + 1, TARGETS, ceremony.next_targets(current, role, new, now_s))
        version, current = self._complete(ROOT)
        root = ceremony.read_root(current)
        names = [ceremony.key_name(root.keys[keyid]) for keyid in root.roles[role].keyids]
        if old is None and len(names) > 1:
            raise PublishError(f"{role}: say which key goes: {', '.join(names)}")
        following = ceremony.next_root(current, role, old or names[0], new, now_s)
        return self._write_new(version + 1, ROOT, following)

    def renew(self, role: str, now_s: int) -> Path:
        """Write the next version of root or targets, which says the same and lasts from now on.

        Raises:
            PublishError: The newest version still lacks signatures.
        """
        version, current = self._complete(role)
        return self._write_new(version + 1, role, ceremony.renewed(current, now_s))

    def sign(self, document: Path, key: Ed25519PrivateKey) -> Outstanding:
        """Add a signature to a document of this folder, and return what it still lacks.

        Raises:
            PublishError: The key has no say in it, or the version before it is not here.
        """
        content = read_document(document)
        role, version = ceremony.identify(content)
        authority = self._authority(role, version)
        signed = ceremony.sign(content, key, authority)
        try:
            write_durably(document, signed)
        except OSError as error:
            raise PublishError(f"{document}: {error.strerror or error}") from error
        return ceremony.outstanding(signed, authority)

    def newest(self, role: str) -> tuple[Path, Outstanding] | None:
        """Return the newest version of root or targets and what it lacks; None where there is none."""
        versions = self.versions(role)
        if not versions:
            return None
        path = self.file(versions[-1], role)
        return path, self.outstanding(path)

    def outstanding(self, document: Path) -> Outstanding:
        """Return what a document of this folder lacks.

        Raises:
            PublishError: It is none, or the version before it is not here.
        """
        content = read_document(document)
        return ceremony.outstanding(content, self._authority(*ceremony.identify(content)))

    def versions(self, role: str) -> list[int]:
        """Return the versions of root or targets that are here, oldest first."""
        numbers = (path.name.partition(".")[0] for path in self.path.glob(f"*.{role}.json"))
        return sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())

    def file(self, version: int, role: str) -> Path:
        """Return where a version is."""
        return self.path / f"{version}.{role}.json"

    def _authority(self, role: str, version: int) -> bytes | None:
        """Return the root that says who may sign: before a root the last one, for targets the newest complete."""
        if role == ROOT:
            before = self.file(version - 1, ROOT)
            return read_document(before) if version > 1 and before.exists() else None
        roots = self.versions(ROOT)
        for number in reversed(roots):
            if self.outstanding(self.file(number, ROOT)).complete:
                return read_document(self.file(number, ROOT))
        return read_document(self.file(roots[0], ROOT)) if roots else None

    def _complete(self, role: str) -> tuple[int, bytes]:
        newest = self.newest(role)
        if newest is None:
            raise InputMissing(f"{self.path}: there is no {role} here; begin with init, or bring {role} here")
        path, asked = newest
        if not asked.complete:
            said = "; ".join(quorum.words() for quorum in asked.quorums)
            raise PublishError(f"{path}: is not signed yet, and nothing follows it before: {said}")
        return asked.version, read_document(path)

    def _write_new(self, version: int, role: str, document: bytes) -> Path:
        path = self.file(version, role)
        try:
            with path.open("xb") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.path)
        except OSError as error:
            raise PublishError(f"{path}: {error.strerror or error}") from error
        return path


def read_document(path: Path) -> bytes:
    """Read a document of a ceremony.

    Raises:
        InputMissing: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror or error}") from None

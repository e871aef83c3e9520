"""Whose lists a gate believes: the publishers of its file, and those whom the catalogue says speak for its region."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.config import GateConfig
from validator.lists.directory import AUTHORITY
from validator.lists.errors import ListError

log = structlog.get_logger()

_Stat = tuple[int, int, int] | None


@dataclass(slots=True)
class Publishers:
    """Keys that sign lists.

    Attributes:
        named: Those of the gate's file, by name.
        root: The root of the catalogue that the device was made with; None without a catalogue.
        lists: The list directory.
        region: The network that the device belongs to.
        fault: Why the catalogue's keys are not those of the file beside the lists; None in good health.
    """

    named: Mapping[str, Ed25519PublicKey]
    root: bytes | None
    lists: Path
    region: str
    fault: ListError | None = None
    _authorised: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    _read: tuple[_Stat] | None = None

    @classmethod
    def of(cls, config: GateConfig) -> Self:
        """Take what a gate's file says.

        Raises:
            ConfigError: A key or the root cannot be read.
        """
        return cls(config.publisher_keys(), config.catalogue_root(), config.lists, config.file.region)

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """Return the keys by the name they sign with; where the catalogue's file fails, those from before."""
        if self.root is not None and self.changed():
            self._read = (self._stat(),)
            self._load(self.root)
        return {**self.named, **self._authorised}

    def changed(self) -> bool:
        """Whether others may sign by now; cheap enough to ask between taps."""
        return self.root is not None and self._read != (self._stat(),)

    def _load(self, root: bytes) -> None:
        from validator.lists import authority  # noqa: PLC0415 - python-tuf is loaded where there is a catalogue

        self.fault = None
        try:
            content = authority.read_authority(self.lists)
            if content is not None:
                where = self.lists / AUTHORITY
                self._authorised = authority.authorised_keys(content, root, self.region, where)
        except ListError as error:
            self.fault = error
            log.warning("publishers.fault", where=error.where, why=error.why)

    def _stat(self) -> _Stat:
        try:
            found = (self.lists / AUTHORITY).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

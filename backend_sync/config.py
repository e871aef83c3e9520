"""One TOML file describes a back office: its name and keys, its ledger, its broker, its devices.

Relative paths in the file are relative to the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.key_loading import TlsSection, load_private_key, load_public_key
from validator.toml_file import ConfigError, read_toml

DEFAULT: Final = Path("/etc/pilet/office.toml")

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_SQLITE = "sqlite:///"
_Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
_Days = Annotated[float, msgspec.Meta(gt=0)]


class BrokerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[broker]``: where the devices' taps arrive.

    Attributes:
        host: Its host.
        port: Its port.
        tls: Mutual TLS; leave it out only on a loopback or otherwise private link.
    """

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    tls: TlsSection | None = None


class PublisherSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[publisher]``: who signs lists, and how long each kind may be used.

    Attributes:
        name: The publisher's name, as the gates know it.
        key: Path of its Ed25519 private key (PEM).
        out: Directory of the published lists.
        trust_days: Days until a trust list expires, a list of enrolled keys, or the configuration of the gates.
        deny_days: The same for the deny list.
        tickets_days: The same for the ticket list and the status list.
    """

    name: _Name
    key: str
    out: str
    trust_days: _Days = 90
    deny_days: _Days = 1
    tickets_days: _Days = 2


class CatalogueSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[catalogue]``: the signed catalogue that lists travel by, and how fast they do.

    Attributes:
        folder: Folder of the catalogue; made if it is not there.
        keys: Folder of the online keys: ``timestamp.key``, ``snapshot.key``, and for each kind ``REGION/KIND.key`` or
            ``REGION.KIND.key``.
        canary_percent: Percent of the devices that take a new list first; 0 holds it back until it is told otherwise.
        steps: Percents that follow, ascending; everybody is the last.
        pause_s: Seconds without a new refusal after which the next step is taken.
        failures: A wave is stopped when more devices than so many have refused the list,
        failure_percent: and they are more than so many percent of those that tried.
        change_every_s: Seconds between two changes of a list, where there is nothing to say.
        sales_every_s: Seconds for which sales are gathered before the gates are told of them.
    """

    folder: str
    keys: str
    canary_percent: _Percent = 5
    steps: tuple[_Percent, ...] = (25, 50)
    pause_s: Annotated[float, msgspec.Meta(ge=0)] = 600
    failures: Annotated[int, msgspec.Meta(ge=0)] = 2
    failure_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 2
    change_every_s: Annotated[float, msgspec.Meta(gt=0)] = 300
    sales_every_s: Annotated[float, msgspec.Meta(gt=0)] = 60


class OfficeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        name: The back office's name: it signs acknowledgements with it.
        key: Path of its Ed25519 private key (PEM).
        region: Region of the lists.
        ledger: The ledger's database, ``sqlite:///PATH``; a relative path is taken from where this file lies.
        currency: Of the ledger's money, and of the fares that gates take.
        broker: The broker.
        publisher: The publisher; a back office that only reconciles needs none.
        catalogue: The signed catalogue; without it, lists are carried to the gates by hand.
        devices: Path of each device's Ed25519 public key (PEM) by device id.
    """

    name: _Name
    key: str
    region: _Name
    ledger: str
    broker: BrokerSection
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "EUR"
    publisher: PublisherSection | None = None
    catalogue: CatalogueSection | None = None
    devices: dict[_Name, str] = {}


@dataclass(frozen=True, slots=True)
class OfficeConfig:
    """An office file that was read from `path`."""

    path: Path
    file: OfficeFile

    @property
    def ledger_url(self) -> str:
        """URL of the ledger, a relative path taken from where the file lies."""
        return _SQLITE + str((self.path.parent / self.file.ledger.removeprefix(_SQLITE)).absolute())

    def resolve(self, path: str) -> Path:
        """Return a path of the file, relative ones taken from where the file lies."""
        return self.path.parent / Path(path).expanduser()

    def office_key(self) -> Ed25519PrivateKey:
        """Load the key that signs acknowledgements.

        Raises:
            ConfigError: Missing, unreadable, readable by everybody, or not an Ed25519 key.
        """
        return load_private_key(self.resolve(self.file.key), f"{self.path}: key")

    def publisher_section(self) -> PublisherSection:
        """Return ``[publisher]``.

        Raises:
            ConfigError: There is none.
        """
        if self.file.publisher is None:
            raise ConfigError(f"{self.path}: no [publisher] table; add name, key and out to publish from here")
        return self.file.publisher

    def catalogue_section(self) -> CatalogueSection:
        """Return ``[catalogue]``.

        Raises:
            ConfigError: There is none.
        """
        if self.file.catalogue is None:
            raise ConfigError(f"{self.path}: no [catalogue] table; add folder and keys to have lists travel by it")
        return self.file.catalogue

    def publisher_key(self) -> Ed25519PrivateKey:
        """Load the key that signs lists.

        Raises:
            ConfigError: No publisher; or its key is missing, unreadable, readable by everybody, or not Ed25519.
        """
        return load_private_key(self.resolve(self.publisher_section().key), f"{self.path}: publisher.key")

    def device_keys(self) -> dict[str, Ed25519PublicKey]:
        """Load the devices' public keys.

        Raises:
            ConfigError: One is missing or not an Ed25519 public key.
        """
        return {
            device: load_public_key(self.resolve(path), f"{self.path}: devices.{device}")
            for device, path in self.file.devices.items()
        }


def load(path: Path) -> OfficeConfig:
    """Read and check an office file.

    Raises:
        ConfigError: Missing, not TOML, or a key is wrong.
    """
    file = read_toml(path, OfficeFile)
    name = file.ledger.removeprefix(_SQLITE)
    # A ledger in memory is empty, and empty books are closed; what follows a question mark could ask for one.
    if not file.ledger.startswith(_SQLITE) or name in {"", ":memory:"} or "?" in name:
        raise ConfigError(f"{path}: key `ledger`: {file.ledger!r}: ledgers are kept in a SQLite file, {_SQLITE}PATH")
    steps = file.catalogue.steps if file.catalogue else ()
    if list(steps) != sorted(set(steps)):
        raise ConfigError(f"{path}: key `catalogue.steps`: {list(steps)}: give percents that ascend")
    return OfficeConfig(path, file)

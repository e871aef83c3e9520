"""One TOML file describes a gate: read, checked and frozen before anything is opened.

Relative paths in the file are relative to the file. The table ``[uplink]`` is read by ``backend-sync uplink``; it lives
here because depot staff keep one file per box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.key_loading import TlsSection, load_private_key, load_public_key, read_named
from validator.toml_file import ConfigError, read_toml

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Hours = Annotated[float, msgspec.Meta(ge=0, le=24 * 366 * 10)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]
_Pin = Annotated[int, msgspec.Meta(ge=0, le=63)]

FamilyName = Literal[
    "piv-sm",
    "piv",
    "pkoc2",
    "pkoc1",
    "ntag424",
    "ultralight-aes",
    "mynumber-surface",
    "jpki",
    "esteid2018",
    "esteid2025",
    "dnie",
    "emrtd",
    "esteid3",
]

_FIRST: tuple[tuple[FamilyName, FamilyName], ...] = (
    ("pkoc2", "pkoc1"),
    ("piv-sm", "piv"),
    ("mynumber-surface", "jpki"),
    ("dnie", "emrtd"),
)
"""Families of one card: the first of a pair, which proves more, is asked before the second."""


class ReaderSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[reader]``: which reader this gate polls.

    Attributes:
        name: ``nfcpy:usb``, ``nfcpy:tty:AMA0:pn532``, ``nfcpy:udp:127.0.0.1:54321``, ``pcsc:READER NAME`` and the like.
    """

    name: str


class GateSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[gate]``: what the passenger sees and hears.

    Attributes:
        driver: ``console`` (a terminal), ``gpio`` (lamp, buzzer and barrier on pins) or ``none``.
        red: BCM number of the red lamp's pin.
        green: BCM number of the green lamp's pin.
        blue: BCM number of the blue lamp's pin.
        buzzer: BCM number of the buzzer's pin; leave it out where the lane has none.
        barrier: BCM number of the barrier relay's pin; leave it out where the lane has none, as on a bus.
        barrier_active_high: False where the relay board closes on a low level.
        language: Of what a passenger reads, where there is a display.
        display: ``bus`` has room for 100 characters, ``gate`` for 150.
    """

    driver: Literal["console", "gpio", "none"] = "console"
    red: _Pin = 17
    green: _Pin = 27
    blue: _Pin = 22
    buzzer: _Pin | None = None
    barrier: _Pin | None = None
    barrier_active_high: bool = True
    language: Literal["en", "et", "ja"] = "en"
    display: Literal["bus", "gate"] = "gate"


class ListsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[lists]``: whose lists this gate believes, and for how long past their date.

    A signed configuration of the region's gates goes before the graces; these are for a gate that has none.

    Attributes:
        publishers: Path of an Ed25519 public key (PEM) by publisher name; none where a catalogue says who they are.
        trust_grace_h: Hours that an expired trust list still serves, marked as graced.
        deny_grace_h: The same for the deny list.
        tickets_grace_h: The same for the ticket list.
    """

    publishers: dict[_Name, str] = {}
    trust_grace_h: _Hours = 720
    deny_grace_h: _Hours = 72
    tickets_grace_h: _Hours = 96


class CatalogueSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[catalogue]``: the signed catalogue that the uplink brings lists from.

    Attributes:
        root: Path of the root that this device was made with, ``N.root.json``: whoever it names is believed.
    """

    root: str


class PolicySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[policy]``: what this place asks of a card.

    Attributes:
        least_assurance: Least rung of the ladder that opens the gate; what anybody can copy never does.
        tap_limit_s: Longest time from presence to decision; past it the passenger is asked to present again.
        retention_days: Days that acknowledged taps stay in the journal.
        guests: Whether a card of another region, which holds nothing here, rides where the status list calls it good.
        guest_pass_back_s: Seconds within which a second ride of a guest at this place is refused.
        velocity_rides: So many rides one card may take here within `velocity_s`; 0 for any number.
        velocity_s: Seconds.
        first_ride_floor: How far below zero pay as you go may run on a card that this gate has never seen, in minor
            units; left out, as far as the product says.
    """

    least_assurance: Literal["chip", "holder"] = "chip"
    tap_limit_s: _Seconds = 3.0
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=3660)] = 7
    guests: Literal["refuse", "admit"] = "refuse"
    guest_pass_back_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 600
    velocity_rides: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    velocity_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 600
    first_ride_floor: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None


class PositionSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[position]``: where the gate is, as far as products ask, and which way its lane leads.

    Attributes:
        lane: ``entry``, ``exit``, or ``none`` where one tap is one ride or a lane leads both ways.
        zones: Zones that the place is in.
        network: The network that it is in.
        time_zone: Of the clocks on the walls, as in ``Europe/Tallinn``; hours of products go by it.
        feed: Path of the file that says where the vehicle is (`validator.vehicle_feed`); then zones and network are
            its, and none are said here.
        feed_age_s: Seconds for which that file is good.
    """

    lane: Literal["none", "entry", "exit"] = "none"
    zones: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    network: Annotated[str, msgspec.Meta(max_length=64)] = ""
    time_zone: str = "UTC"
    feed: str | None = None
    feed_age_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 120


class SamSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[cards.sam]``: a security module in a PC/SC slot that holds operator keys instead of files.

    Attributes:
        reader: ``pcsc:READER NAME``.
        keys: PIV key reference in the module by key name and version, for example ``"ntag424-application.1" = 0x82``.
    """

    reader: Annotated[str, msgspec.Meta(pattern=r"^pcsc:.+")]
    keys: Annotated[dict[str, Annotated[int, msgspec.Meta(ge=0, le=255)]], msgspec.Meta(min_length=1)]


class CardsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[cards]``: which media this gate takes.

    Attributes:
        families: Card families in the order of their expected share; each application that is asked for in
            vain costs a passenger some 20 ms.
        keys: Directory of operator keys, one file ``NAME.VERSION`` each. Left out, the service manager's credentials.
        sam: A security module with operator keys.
    """

    families: Annotated[tuple[FamilyName, ...], msgspec.Meta(min_length=1)] = ("piv",)
    keys: str | None = None
    sam: SamSection | None = None


class UplinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[uplink]``: the broker, and the back office whose acknowledgements move the cursor.

    Attributes:
        host: Broker's host.
        port: Broker's port.
        offices: Path of an Ed25519 public key (PEM) by back-office name, at least one.
        tls: Mutual TLS; leave it out only on a loopback or otherwise private link.
    """

    host: str
    port: _Port
    offices: Annotated[dict[_Name, str], msgspec.Meta(min_length=1)]
    tls: TlsSection | None = None


class GateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        device: Id of this box; also its MQTT client id and the signer of its taps.
        place: Stop or gate line; pass-back and validity are judged per place.
        lane: The lane at this place; part of what a card signs.
        region: The network whose lists this gate takes.
        clock: ``auto`` looks for a battery clock and for systemd-timesyncd; ``synchronized`` says that something else
            keeps the system's clock (chrony, a hypervisor), so that a certificate that is not yet valid is refused.
        state: Directory of journal, cursor, known cards and lists.
        device_key: Path of the device's Ed25519 private key (PEM, no passphrase).
        reader: The reader.
        cards: The media.
        lists: The lists.
        gate: The gate.
        policy: The policy.
        position: The position.
        uplink: The uplink; a gate without one works and keeps its taps.
        catalogue: The catalogue; without one, lists are brought by hand (``backend-sync publish install``).
    """

    device: _Name
    place: _Name
    lane: _Name
    region: _Name
    state: str
    device_key: str
    reader: ReaderSection
    lists: ListsSection = ListsSection()
    clock: Literal["auto", "synchronized"] = "auto"
    cards: CardsSection = CardsSection()
    gate: GateSection = GateSection()
    policy: PolicySection = PolicySection()
    position: PositionSection = PositionSection()
    uplink: UplinkSection | None = None
    catalogue: CatalogueSection | None = None


@dataclass(frozen=True, slots=True)
class GateConfig:
    """A gate file that was read from `path`, with paths resolved and keys loaded on demand."""

    path: Path
    file: GateFile

    @property
    def state(self) -> Path:
        """Directory of everything this gate keeps."""
        return self.resolve(self.file.state)

    @property
    def journal(self) -> Path:
        """The journal; written by the validator alone."""
        return self.state / "journal.db"

    @property
    def known_cards(self) -> Path:
        """The certificate cache; written by the validator alone."""
        return self.state / "known_cards.db"

    @property
    def cursor(self) -> Path:
        """How far the journal is acknowledged; written by the uplink alone."""
        return self.state / "uplink" / "cursor"

    @property
    def lists(self) -> Path:
        """The list directory; written by the installer of lists alone."""
        return self.state / "lists"

    @property
    def catalogue(self) -> Path:
        """The catalogue's metadata, its floors, and pieces of lists on their way; written by the uplink alone."""
        return self.state / "uplink" / "catalogue"

    def resolve(self, path: str) -> Path:
        """Return a path of the file, relative ones taken from where the file lies."""
        return self.path.parent / Path(path).expanduser()

    def device_private_key(self) -> Ed25519PrivateKey:
        """Load the key that signs taps.

        Raises:
            ConfigError: Missing, unreadable, readable by everybody, or not an unencrypted Ed25519 key.
        """
        return load_private_key(self.resolve(self.file.device_key), f"{self.path}: device_key")

    def publisher_keys(self) -> dict[str, Ed25519PublicKey]:
        """Load the keys of the publishers whose lists are believed.

        Raises:
            ConfigError: One is missing or not an Ed25519 public key.
        """
        return self.public_keys(self.file.lists.publishers, "lists.publishers")

    def time_zone(self) -> ZoneInfo:
        """Return the zone of the clocks on the walls.

        Raises:
            ConfigError: This machine knows no such zone.
        """
        name = self.file.position.time_zone
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            what = f"no time zone {name!r} on this machine; name one as in Europe/Tallinn, or install tzdata"
            raise ConfigError(f"{self.path}: position.time_zone: {what}") from None

    def catalogue_root(self) -> bytes | None:
        """Read the root that this device was made with; None where it has no catalogue.

        Raises:
            ConfigError: It cannot be read.
        """
        section = self.file.catalogue
        return None if section is None else read_named(self.resolve(section.root), f"{self.path}: catalogue.root")

    def public_keys(self, paths: Mapping[str, str], key: str) -> dict[str, Ed25519PublicKey]:
        """Load public keys by name; `key` says where in the file their paths stand."""
        return {name: load_public_key(self.resolve(path), f"{self.path}: {key}.{name}") for name, path in paths.items()}


def load(path: Path) -> GateConfig:
    """Read and check a gate file.

    Raises:
        ConfigError: Missing, not TOML, or a key is wrong.
    """
    config = GateConfig(path, read_toml(path, GateFile))
    why = order_breach(config.file.cards.families)
    if why is not None:
        raise ConfigError(f"{path}: cards.families: {why}")
    position = config.file.position
    if position.feed is not None and (position.zones or position.network):
        what = "the feed says where the vehicle is; leave out zones and network, or the feed"
        raise ConfigError(f"{path}: position: {what}")
    config.time_zone()
    if not config.file.lists.publishers and config.file.catalogue is None:
        what = "nobody's lists would be believed; name a publisher's key, or the root in [catalogue]"
        raise ConfigError(f"{path}: lists.publishers: {what}")
    return config


def order_breach(names: Sequence[str]) -> str | None:
    """Say what is wrong with an order of families, and what to do; None where it is good."""
    if len(set(names)) != len(names):
        return "a family is there twice; name each once"
    for stronger, weaker in _FIRST:
        if stronger in names and weaker in names and names.index(weaker) < names.index(stronger):
            return f"{weaker} before {stronger} takes a card that has both by the weaker one; put {stronger} first"
    return None

"""What must be in order before a gate can serve: all of it looked at, nothing changed, every fault told."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.config import GateConfig
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader
from validator.key_loading import load_tls
from validator.lists import installed
from validator.lists.errors import ListError
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.publishers import Publishers
from validator.toml_file import ConfigError

CREDENTIALS = Path("/run/credentials")
"""Where systemd puts a unit's credentials while the unit runs."""
LATER = "given by systemd at start"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was found.

    Attributes:
        device_key: ``in order``, ``given by systemd at start``, or ``faulty``.
        lists: The lists that load.
        problems: Why the gate could not serve or not sync, in the order of the configuration; empty in good health.
    """

    device_key: str
    lists: InstalledLists
    problems: tuple[Exception, ...]


def inspect(config: GateConfig) -> Readiness:
    """Look at keys, lists, state, journal and uplink of a gate, as this process may read them."""
    problems: list[Exception] = []
    device_key, public_key = "faulty", None
    with _noted(problems):
        if _comes_later(config.resolve(config.file.device_key)):
            device_key = LATER
        else:
            device_key, public_key = "in order", config.device_private_key().public_key()
    keys: dict[str, Ed25519PublicKey] = {}
    with _noted(problems):
        publishers = Publishers.of(config)
        keys = publishers.keys()
        if publishers.fault is not None:
            raise publishers.fault
    lists = installed.load(config.lists, keys, config.file.region)
    problems += lists.faults
    missing = [kind.value for kind in ListKind if kind.needed and kind not in lists.manifests]
    if missing:
        what = f"no {' or '.join(missing)} list is installed; every card will be refused"
        problems.append(ListError(config.lists, what))
    if "pkoc1" in config.file.cards.families and ListKind.ENROLLED not in lists.manifests:
        what = "no enrolled list is installed; every card of the family pkoc1 will be refused"
        problems.append(ListError(config.lists, what))
    with _noted(problems):
        _check_state(config)
        _check_journal(config, public_key)
    with _noted(problems):
        _check_uplink(config)
    return Readiness(device_key, lists, tuple(problems))


def _check_state(config: GateConfig) -> None:
    if not config.state.is_dir():
        raise ConfigError(f"{config.path}: state: {config.state} is no directory; make it, or mend the key")
    if not os.access(config.state, os.W_OK | os.X_OK):
        what = f"this user (uid {os.geteuid()}) may not write to {config.state}"
        raise ConfigError(f"{config.path}: state: {what}; give it to the validator's user, or ask as root")


def _check_journal(config: GateConfig, public_key: Ed25519PublicKey | None) -> None:
    if not config.journal.exists():
        return  # the first start makes it
    journal = JournalReader(config.journal)
    try:
        device, key = journal.device, journal.public_key
    finally:
        journal.close()
    advice = "keep it for the back office, and move it away: a new one begins a new epoch"
    if device != config.file.device:
        raise JournalError(
            config.journal, f"it belongs to device {device!r}, this one is {config.file.device!r}", advice
        )
    if public_key is not None and key != public_key:
        raise JournalError(config.journal, f"device {device!r} now has another key", advice)


def _check_uplink(config: GateConfig) -> None:
    section = config.file.uplink
    if section is None:
        return
    config.public_keys(section.offices, "uplink.offices")
    tls = section.tls
    if tls is not None and not any(_comes_later(config.resolve(path)) for path in (tls.ca, tls.certificate, tls.key)):
        load_tls(tls, config.resolve, f"{config.path}: uplink.tls")


def _comes_later(path: Path) -> bool:
    """Whether a file is a credential of a unit that does not run, or of another user's."""
    return path.is_relative_to(CREDENTIALS) and not os.access(path, os.R_OK)


@contextmanager
def _noted(problems: list[Exception]) -> Iterator[None]:
    try:
        yield
    except (ConfigError, ListError, JournalError, OSError) as error:
        problems.append(error)

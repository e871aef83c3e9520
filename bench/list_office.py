"""A back office for benchmarks: keys, a catalogue, a ledger and an office file, as a ceremony leaves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from backend_sync import config as office_file
from backend_sync.catalogue import ceremony
from backend_sync.catalogue.key_store import named_key
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Kind, delegated_role
from backend_sync.cataloguing import ListCatalogue, needed_catalogue
from backend_sync.ledger import Ledger

REGION: Final = "bench"
HOLDERS: Final = ("root-a", "root-b", "root-c")


@dataclass(frozen=True, slots=True)
class Office:
    """A back office in a folder.

    Attributes:
        home: The folder.
        root: The root that devices are made with.
    """

    home: Path
    root: bytes

    @classmethod
    def create(cls, home: Path, port: int, devices: Sequence[str], now_s: int) -> "Office":
        """Make everything; its broker listens on a loopback port."""
        keys = {name: Ed25519PrivateKey.generate() for name in (*HOLDERS, TARGETS, SNAPSHOT, TIMESTAMP, "office")}
        keys |= {delegated_role(REGION, kind): Ed25519PrivateKey.generate() for kind in Kind}
        public = {name: named_key(key.public_key(), name) for name, key in keys.items()}
        (home / "keys" / REGION).mkdir(parents=True)
        for name in (SNAPSHOT, TIMESTAMP):
            _write(home / "keys" / f"{name}.key", keys[name])
        for kind in Kind:
            _write(home / "keys" / REGION / f"{kind}.key", keys[delegated_role(REGION, kind)])
        _write(home / "office.key", keys["office"])
        pem = keys["office"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (home / "office.pub").write_bytes(pem)
        known = "".join(f'{device} = "office.pub"\n' for device in devices)
        (home / "office.toml").write_text(
            f'name = "office"\nkey = "office.key"\nregion = "{REGION}"\nledger = "sqlite:///ledger.db"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {port}\n'
            '[publisher]\nname = "publisher"\nkey = "office.key"\nout = "published"\n'
            f'[catalogue]\nfolder = "catalogue"\nkeys = "keys"\ncanary_percent = 100\n[devices]\n{known}'
        )
        Ledger.open(f"sqlite:///{home}/ledger.db", create=True).close()
        held = {ROOT: [public[name] for name in HOLDERS]}
        held |= {role: [public[role]] for role in (TARGETS, SNAPSHOT, TIMESTAMP)}
        root = ceremony.first_root(held, now_s)
        for name in HOLDERS[:2]:
            root = ceremony.sign(root, keys[name])
        regional = {REGION: {kind: public[delegated_role(REGION, kind)] for kind in Kind}}
        targets = ceremony.sign(ceremony.first_targets(regional, now_s), keys[TARGETS], root)
        office = cls(home, root)
        with office.catalogue.opened() as repository:
            repository.adopt(root)
            repository.adopt(targets)
        return office

    @property
    def toml(self) -> Path:
        """Its file."""
        return self.home / "office.toml"

    @property
    def catalogue(self) -> ListCatalogue:
        """Its catalogue."""
        return needed_catalogue(office_file.load(self.toml))


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)

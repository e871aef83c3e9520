"""One TOML file describes a desk that reads identity documents: its name, and the keys that it speaks with.

    name = "front-1"                              # names the desk, and no person
    key = "front-1.key"                           # Ed25519, PEM: signs what the desk says
    person_keys = ["person-2.key", "person-1.key"]  # the one in use first, then those that it replaces

Relative paths in the file are relative to the file.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from validator.key_loading import load_private_key
from validator.person_key import load_person_key
from validator.proof_report import MAX_KEYS, Desk
from validator.toml_file import ConfigError, read_toml

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class DeskFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        name: The desk's name, as the back office knows it.
        key: Path of its Ed25519 private key (PEM).
        person_keys: Paths of the keys under which persons are told apart, the one in use first.
    """

    name: _Name
    key: str
    person_keys: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]


def load_desk(path: Path) -> Desk:
    """Read a desk's file and its keys.

    Raises:
        ConfigError: Missing, not TOML, a key of the file is wrong, or the desk's private key cannot be used.
        SecretError: A person key cannot be used.
    """
    file, folder = read_toml(path, DeskFile), path.parent
    keys = [load_person_key(folder / Path(name).expanduser()) for name in file.person_keys]
    if len({key.check_value for key in keys}) != len(keys):
        raise ConfigError(f"{path}: person_keys: one key is there twice; name each once")
    return Desk(file.name, load_private_key(folder / Path(file.key).expanduser(), f"{path}: key"), tuple(keys))

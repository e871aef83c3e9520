"""TOML files that people write, read into msgspec structs, with errors that name the file and the key."""

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

_File = TypeVar("_File", bound=msgspec.Struct)


class ConfigError(Exception):
    """A configuration file is missing or wrong; the message names file, key and what to do."""


def read_toml(path: Path, kind: type[_File]) -> _File:
    """Read a TOML file into a msgspec struct, with errors that name the file and the key.

    Raises:
        ConfigError: Missing, not TOML, or a key is wrong.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what = str(error).replace(" - at `$.", " - key `").replace(" - at `$`", " - at the top of the file")
        raise ConfigError(f"{path}: {what}") from None

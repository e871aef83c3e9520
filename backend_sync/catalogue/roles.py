"""Who signs what of the catalogue, how many of them it takes, and for how long it counts. Roles are those of TUF.

    root       offline, any 2 of 3        says who everybody else is
    targets    offline                    says which online role speaks for which region and kind
    <region>.<kind>   online              lists the objects below <region>/<kind>/, and no others
    snapshot   online                     says which versions of all these belong together
    timestamp  online, signed each hour   says which snapshot is the newest

A key that is online can be stolen. What it can do then is bounded by its role: one kind in one region, or the order of
things that others signed. Root and targets mend it with a new key, and no gate has to be visited.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@unique
class Kind(StrEnum):
    """What a region's objects are; each has a role, and a key, of its own."""

    TRUST = "trust"
    DENY = "deny"
    TICKETS = "tickets"
    TARIFF = "tariff"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a role.

    Attributes:
        keys: How many keys it has.
        threshold: How many of them have to sign.
        lifetime_s: For how long a signed version counts, in seconds.
        offline: Whether its keys never touch a machine with a network.
    """

    keys: int
    threshold: int
    lifetime_s: int
    offline: bool


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        ROOT: Rule(keys=3, threshold=2, lifetime_s=3652 * DAY_S, offline=True),
        TARGETS: Rule(keys=1, threshold=1, lifetime_s=90 * DAY_S, offline=True),
        SNAPSHOT: Rule(keys=1, threshold=1, lifetime_s=7 * DAY_S, offline=False),
        TIMESTAMP: Rule(keys=1, threshold=1, lifetime_s=DAY_S, offline=False),
    }
)
"""The roles that root names."""

DELEGATED: Final = Rule(keys=1, threshold=1, lifetime_s=30 * DAY_S, offline=False)
"""The roles that targets delegates to: one for each region and kind. What they list has dates of its own."""


def delegated_role(region: str, kind: Kind) -> str:
    """Return the name of the role that speaks for one kind in one region; no region's name has a dot.

    Raises:
        ValueError: The region's name would not do in a path, a topic or a pattern.
    """
    return f"{checked_region(region)}.{kind}"


def path_pattern(region: str, kind: Kind) -> str:
    """Return which paths that role may list; the star of a TUF pattern does not cross a slash.

    Raises:
        ValueError: The region's name would not do in a path, a topic or a pattern.
    """
    return f"{checked_region(region)}/{kind}/*"


def checked_region(region: str) -> str:
    """Return a region's name if it can be part of a path, a topic and a pattern.

    Raises:
        ValueError: It cannot.
    """
    if not _REGION.fullmatch(region):
        raise ValueError(f"region {region!r}: 1 to 64 letters, digits, - and _, the first a letter or a digit")
    return region


def parse_path(path: str) -> tuple[str, Kind, str]:
    """Take the path of a target apart: region, kind and name.

    Raises:
        ValueError: It is not of the form ``<region>/<kind>/<name>``.
    """
    parts = path.split("/")
    if len(parts) != 3 or parts[1] not in set(Kind) or not _NAME.fullmatch(parts[2]):
        raise ValueError(f"path {path!r} is not <region>/<kind>/<name>, the kind one of {', '.join(Kind)}")
    return checked_region(parts[0]), Kind(parts[1]), parts[2]

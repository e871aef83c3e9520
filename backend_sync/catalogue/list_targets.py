"""Where the catalogue has a gate's lists: each is two targets of one version, its payload and its signed manifest.

<region>/<catalogue kind>/<list kind>             the payload
<region>/<catalogue kind>/<list kind>.manifest    signed with the same role's key, under the role's name
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backend_sync.catalogue.roles import Kind, delegated_role
from validator.lists.manifest import ROLE_OF, ListKind

KIND_OF: Final[Mapping[ListKind, Kind]] = MappingProxyType({kind: Kind(role) for kind, role in ROLE_OF.items()})
"""Who answers for a list: kinds of lists that one role signs lie below one kind of the catalogue."""

_MANIFEST: Final = ".manifest"


def payload_path(region: str, kind: ListKind) -> str:
    """Return the path of a list's payload."""
    return f"{region}/{KIND_OF[kind]}/{kind}"


def manifest_path(region: str, kind: ListKind) -> str:
    """Return the path of a list's manifest."""
    return payload_path(region, kind) + _MANIFEST


def list_signer(region: str, kind: ListKind) -> str:
    """Return the role that signs a list's manifest and its changes: the name that gates look its key up by.

    Raises:
        ValueError: The region's name would not do in a path, a topic or a pattern.
    """
    return delegated_role(region, KIND_OF[kind])

"""The TOML file in which people write the configuration of a region's gates: hours, and a table for each kind of list.

    [stale.deny]
    grace_h = 72
    value_limit = 500
    then = "refuse"

A kind that is left out is published with its default (`validator.lists.gate_rules.DEFAULTS`).
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backend_sync.publish_errors import InputMissing, PublishError
from validator.lists.gate_rules import DEFAULTS, HOUR_S, MAX_GRACE_S, GateRules, StalePolicy
from validator.lists.manifest import ListKind
from validator.lists.product_rules import MAX_AMOUNT
from validator.toml_file import ConfigError, read_toml


class StaleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[stale.KIND]``: what lists of a kind are worth past their date.

    Attributes:
        grace_h: Hours for which one still serves, each grant marked as graced; left out where the last one is kept.
        value_limit: The greatest fare, in minor units, that is granted meanwhile; left out, any.
        then: After the grace, ``refuse``; or ``keep`` the last one until a newer one comes.
    """

    grace_h: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE_S / HOUR_S)] | None = None
    value_limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)] | None = None
    then: Literal["refuse", "keep"] = "refuse"

    def __post_init__(self) -> None:
        if self.then == "refuse" and self.grace_h is None:
            raise ValueError("grace_h is missing: say for how many hours, 0 for none")
        if self.then == "keep" and self.grace_h is not None:
            raise ValueError('leave grace_h out: then = "keep" has no end')

    def policy(self) -> StalePolicy:
        """Return what the table says, in seconds."""
        return StalePolicy(round((self.grace_h or 0) * HOUR_S), self.value_limit, self.then)


class StaleTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[stale]``: a table for each kind of list; one that is left out gets the default of its kind."""

    trust: StaleTable | None = None
    deny: StaleTable | None = None
    tickets: StaleTable | None = None
    enrolled: StaleTable | None = None
    status: StaleTable | None = None


class RegionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        stale: What lists are worth past their date.
    """

    stale: StaleTables = StaleTables()


def load_region_file(path: Path) -> GateRules:
    """Read and check the file.

    Returns:
        What is to be published: every kind of list is in it.

    Raises:
        InputMissing: There is no such file.
        PublishError: It is not TOML, or a key is wrong; the message names file and key.
    """
    if not path.exists():
        raise InputMissing(f"{path}: no such file; give the path of a configuration of gates")
    try:
        file = read_toml(path, RegionFile)
    except ConfigError as error:
        raise PublishError(str(error)) from None
    tables = {ListKind(name): getattr(file.stale, name) for name in StaleTables.__struct_fields__}
    return GateRules({kind: DEFAULTS[kind] if table is None else table.policy() for kind, table in tables.items()})

"""What people write of a region's gates: hours, a table for each kind, and errors that say where."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.region_file import StaleTables, load_region_file
from validator.lists.gate_rules import (
    ALWAYS_KEPT,
    DEFAULTS,
    GateRules,
    StalePolicy,
    encode_gate_rules,
    parse_gate_rules,
)
from validator.lists.manifest import ListKind

NAMED = [kind for kind in ListKind if kind not in ALWAYS_KEPT]


def read(folder: Path, text: str) -> GateRules:
    path = folder / "gates.toml"
    path.write_text(text)
    return load_region_file(path)


def test_every_kind_of_list_can_be_spoken_of() -> None:
    assert set(StaleTables.__struct_fields__) == {kind.value for kind in NAMED}


def test_what_is_left_out_is_published_with_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == GateRules({kind: DEFAULTS[kind] for kind in NAMED})
    said = read(tmp_path, '[stale.deny]\ngrace_h = 0.5\nvalue_limit = 250\n[stale.tickets]\nthen = "keep"\n')
    assert said.stale == {kind: DEFAULTS[kind] for kind in NAMED} | {
        ListKind.DENY: StalePolicy(1800, 250),
        ListKind.TICKETS: StalePolicy(then="keep"),
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hours=st.integers(0, 24 * 366 * 10),
    limit=st.none() | st.integers(0, 2**31 - 1),
    kind=st.sampled_from(NAMED),
)
def test_whatever_is_taken_is_taken_by_a_gate(tmp_path: Path, hours: int, limit: int | None, kind: ListKind) -> None:
    upper = "" if limit is None else f"value_limit = {limit}\n"
    rules = read(tmp_path, f"[stale.{kind}]\ngrace_h = {hours}\n{upper}")
    assert rules.stale[kind] == StalePolicy(hours * 3600, limit)
    assert parse_gate_rules(encode_gate_rules(rules)) == rules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stale = 1", "key `stale`"),
        ("[stale]\ndany = 1", "`dany`"),
        ("[stale.config]\nthen = 'keep'", "`config`"),
        ("[stale.tariff]\nthen = 'keep'", "`tariff`"),
        ("least_assurance = 'chip'", "`least_assurance`"),
        ("[stale.deny]\n", "grace_h is missing: say for how many hours, 0 for none - key `stale.deny`"),
        ("[stale.deny]\nthen = 'keep'\ngrace_h = 1", "leave grace_h out"),
        ("[stale.deny]\ngrace_h = -1", "key `stale.deny.grace_h`"),
        ("[stale.deny]\ngrace_h = inf", "key `stale.deny.grace_h`"),
        ("[stale.deny]\ngrace_h = nan", "key `stale.deny.grace_h`"),
        ("[stale.deny]\ngrace_s = 60", "`grace_s`"),
        ("[stale.trust]\ngrace_h = 1\nthen = 'open'", "key `stale.trust.then`"),
        ("[stale.tickets]\ngrace_h = 1\nvalue_limit = 1.5", "key `stale.tickets.value_limit`"),
        ("[stale.tickets]\ngrace_h = 1\nvalue_limit = -1", "key `stale.tickets.value_limit`"),
        ("[stale", "not TOML"),
    ],
)
def test_a_mistake_is_told_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PublishError) as caught:
        read(tmp_path, text)
    assert not isinstance(caught.value, InputMissing)
    assert str(tmp_path / "gates.toml") in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"absent\.toml: no such file"):
        load_region_file(tmp_path / "absent.toml")

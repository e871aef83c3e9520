"""The configuration of a region's gates: one spelling, nothing but what is meant, and which of two says what holds."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.lists.errors import ListError
from validator.lists.gate_rules import (
    ALWAYS_KEPT,
    DEFAULTS,
    KEEP,
    MAX_BYTES,
    MAX_GRACE_S,
    GateRules,
    StalePolicy,
    encode_gate_rules,
    parse_gate_rules,
    policies,
)
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.lists.product_rules import MAX_AMOUNT

NAMED = [kind for kind in ListKind if kind not in ALWAYS_KEPT]
LIMITS = st.none() | st.integers(0, MAX_AMOUNT)
POLICIES = st.builds(StalePolicy, st.integers(0, MAX_GRACE_S), LIMITS) | st.builds(
    StalePolicy, value_limit=LIMITS, then=st.just("keep")
)
RULES = st.builds(GateRules, st.dictionaries(st.sampled_from(NAMED), POLICIES))
WHOLE = encode_gate_rules(GateRules({kind: DEFAULTS[kind] for kind in NAMED}))
OWN = policies(trust=StalePolicy(1), deny=StalePolicy(2), tickets=StalePolicy(3))


def lists_with(rules: GateRules | None) -> InstalledLists:
    return InstalledLists(Path(), None, None, None, {}, {}, {}, rules=rules)


class TestPayload:
    @given(rules=RULES)
    def test_what_is_written_is_what_is_read(self, rules: GateRules) -> None:
        data = encode_gate_rules(rules)
        assert len(data) <= MAX_BYTES
        assert parse_gate_rules(data) == rules

    @given(rules=RULES, order=st.randoms())
    def test_the_order_in_which_it_was_said_is_not_in_it(self, rules: GateRules, order: object) -> None:
        kinds = list(rules.stale)
        order.shuffle(kinds)  # type: ignore[attr-defined]  # Hypothesis gives a `random.Random`
        assert encode_gate_rules(GateRules({kind: rules.stale[kind] for kind in kinds})) == encode_gate_rules(rules)

    @hostile
    @given(
        data=st.binary(max_size=64)
        | st.builds(
            lambda at, new: WHOLE[:at] + new + WHOLE[at + len(new) :], st.integers(0, 300), st.binary(max_size=4)
        )
        | st.builds(lambda at: WHOLE[:at], st.integers(0, len(WHOLE)))
    )
    def test_nothing_is_read_that_no_publisher_writes(self, data: bytes) -> None:
        try:
            rules = parse_gate_rules(data)
        except ListError:
            return
        assert encode_gate_rules(rules) == data

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "truncated"),
            (b"{}", "`stale`"),
            (WHOLE + b" ", "spelt otherwise"),
            (WHOLE.replace(b":1,", b": 1,", 1), "spelt otherwise"),
            (b'{"format":2,"stale":{}}', "format"),
            (b'{"format":1,"stale":{},"guests":1}', "guests"),
            (b'{"format":1,"stale":{"config":{"grace_s":0,"then":"keep","value_limit":null}}}', "nothing of itself"),
            (
                b'{"format":1,"stale":{"tariff":{"grace_s":0,"then":"keep","value_limit":null}}}',
                "nothing of the tariff",
            ),
            (b'{"format":1,"stale":{"deny":{"grace_s":1,"then":"keep","value_limit":null}}}', "has no meaning"),
            (b'{"format":1,"stale":{"deny":{"grace_s":-1,"then":"refuse","value_limit":null}}}', "grace_s"),
            (b'{"format":1,"stale":{"deny":{"grace_s":1,"then":"open","value_limit":null}}}', "open"),
            (b'{"format":1,"stale":{"deny":{"grace_s":1,"then":"refuse","value_limit":1.5}}}', "value_limit"),
            (b'{"format":1,"stale":{"deny":{"grace_s":1},"deny":{"grace_s":2}}}', "spelt otherwise"),
            (b" " * (MAX_BYTES + 1), "bytes"),
            (b"[" * MAX_BYTES, "object"),
            (b'{"format":1,"stale":{"\xff":1}}', "not a configuration"),
        ],
    )
    def test_what_is_wrong_is_told(self, data: bytes, why: str) -> None:
        with pytest.raises(ListError, match=r"^lists/config/3/payload: not a configuration of gates: ") as caught:
            parse_gate_rules(data, "lists/config/3/payload")
        assert why in str(caught.value)

    def test_a_configuration_that_no_gate_would_take_cannot_be_made(self) -> None:
        with pytest.raises(ValueError, match="nothing of itself"):
            GateRules({ListKind.CONFIG: KEEP})
        with pytest.raises(ValueError, match="nothing of the tariff"):
            GateRules({ListKind.TARIFF: KEEP})
        with pytest.raises(ValueError, match="no meaning"):
            StalePolicy(1, then="keep")


class TestWhichHolds:
    @given(rules=st.none() | RULES, kind=st.sampled_from(ListKind))
    def test_the_signed_one_and_for_what_it_does_not_name_the_gates_own(
        self, rules: GateRules | None, kind: ListKind
    ) -> None:
        found = lists_with(rules).policy(kind, OWN)
        assert found == (rules.stale[kind] if rules is not None and kind in rules.stale else OWN[kind])

    @pytest.mark.parametrize("of_gates", [OWN, DEFAULTS])
    def test_every_kind_has_one_and_what_none_speaks_of_is_kept(self, of_gates: dict[ListKind, StalePolicy]) -> None:
        assert set(of_gates) == set(ListKind)
        assert {of_gates[kind] for kind in ALWAYS_KEPT} == {KEEP}
        assert of_gates[ListKind.TRUST] == of_gates[ListKind.ENROLLED]
        with pytest.raises(TypeError):
            of_gates[ListKind.DENY] = KEEP

    def test_defaults(self) -> None:
        """Nobody is locked out because issuers were not renewed; an old deny list costs an operator a small fare."""
        deny = DEFAULTS[ListKind.DENY]
        assert (deny.grace_s, deny.then) == (72 * 3600, "refuse")
        assert deny.value_limit
        assert DEFAULTS[ListKind.TRUST].then == "keep"
        assert (DEFAULTS[ListKind.TICKETS].value_limit, DEFAULTS[ListKind.TICKETS].then) == (None, "refuse")


def test_the_document_says_what_people_may_look_for() -> None:
    """The example of the module's docstring and of the docs."""
    assert msgspec.json.decode(WHOLE)["stale"]["deny"] == {"grace_s": 259200, "then": "refuse", "value_limit": 500}

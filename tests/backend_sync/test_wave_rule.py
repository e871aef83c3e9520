"""How a list spreads: never past a stop, never wider without somebody who took it, and through in the end."""

from hypothesis import given
from hypothesis import strategies as st

from backend_sync.wave_rule import Verdict, Votes, Wave, WaveRule, count_votes, judge
from backend_sync.waves import WHOLE, in_wave
from backend_sync.wire import ListState

DEVICES = [f"gate-{number}" for number in range(60)]

states = st.builds(
    ListState,
    version=st.integers(0, 3),
    change=st.just(0),
    refused_version=st.integers(0, 3),
    reason=st.sampled_from(["", "self-check failed"]),
)
reports = st.dictionaries(st.sampled_from(DEVICES), states)
rules = st.builds(
    WaveRule,
    steps=st.lists(st.integers(1, 99), unique=True, max_size=4).map(sorted),
    pause_s=st.integers(0, 100),
    failures=st.integers(0, 5),
    failure_percent=st.floats(0, 100),
)
waves = st.builds(
    Wave, kind=st.just("deny"), version=st.just(2), percent=st.integers(0, WHOLE), quiet_since_s=st.floats(0, 100)
)


@given(waves, reports, rules, st.floats(0, 300))
def test_a_verdict_says_what_it_does(wave: Wave, said: dict[str, ListState], rule: WaveRule, now_s: float) -> None:
    votes = count_votes(wave.version, said)
    verdict, percent = judge(wave, votes, DEVICES, rule, now_s)
    refused, tried = len(votes.refused), len(votes.refused) + len(votes.on)
    too_many = refused > rule.failures and 100 * refused > rule.failure_percent * tried
    if verdict is Verdict.STOP:
        assert too_many
        assert percent == 0 < wave.percent
    elif verdict is Verdict.WIDEN:
        assert not too_many
        assert 0 < wave.percent < percent
        assert percent in (*rule.steps, WHOLE)
        asked = any(in_wave(device, "deny", 2, wave.percent) for device in DEVICES)
        assert not asked or (votes.on and now_s - wave.quiet_since_s >= rule.pause_s)
    else:
        assert percent == wave.percent
        assert not too_many or wave.percent == 0


@given(reports, rules, st.floats(0, 1000))
def test_what_was_stopped_stays_stopped(said: dict[str, ListState], rule: WaveRule, now_s: float) -> None:
    wave = Wave("deny", 2, 0, 0)
    assert judge(wave, count_votes(2, said), DEVICES, rule, now_s) == (Verdict.WAIT, 0)


@given(reports)
def test_each_device_has_one_vote(said: dict[str, ListState]) -> None:
    votes = count_votes(2, said)
    assert votes.on.isdisjoint(votes.refused)
    assert votes.on | set(votes.refused) <= set(said)
    for device in votes.refused:
        assert said[device].refused_version == 2


@given(rules, st.integers(1, 99))
def test_a_list_that_everybody_takes_is_soon_for_everybody(rule: WaveRule, first: int) -> None:
    percent, now_s, steps = first, 0, 0
    while percent < WHOLE:
        wave = Wave("deny", 2, percent, now_s)
        now_s += int(rule.pause_s)
        on = frozenset(device for device in DEVICES if in_wave(device, "deny", 2, percent))
        verdict, percent = judge(wave, Votes(on, {}), DEVICES, rule, now_s)
        assert verdict is Verdict.WIDEN
        steps += 1
    assert steps <= len(rule.steps) + 1


def test_a_new_refusal_lengthens_the_pause() -> None:
    votes, rule = Votes(frozenset(DEVICES[:5]), {"gate-9": "disk full"}), WaveRule(pause_s=600, failure_percent=20)
    assert judge(Wave("deny", 2, 50, 1000), votes, DEVICES, rule, 1599)[0] is Verdict.WAIT
    assert judge(Wave("deny", 2, 50, 1000), votes, DEVICES, rule, 1600) == (Verdict.WIDEN, 100)


def test_nobody_knows_nothing() -> None:
    """Without devices nobody is known to be missing, and the wave waits for somebody who takes the list."""
    assert judge(Wave("deny", 2, 5, 0), Votes(frozenset(), {}), [], WaveRule(), 10_000)[0] is Verdict.WAIT


def test_a_share_of_refusals_that_is_too_large_holds_a_wave_back() -> None:
    votes = Votes(frozenset(DEVICES[:1]), {"gate-8": "no", "gate-9": "no"})
    assert judge(Wave("deny", 2, 5, 0), votes, DEVICES, WaveRule(pause_s=600), 6000) == (Verdict.WAIT, 5)

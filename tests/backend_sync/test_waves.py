from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.waves import WHOLE, in_wave, wave_bucket

devices = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
kinds = st.sampled_from(["trust", "deny", "tickets", "enrolled"])
versions = st.integers(1, 2**63 - 1)
percents = st.integers(0, WHOLE)


@given(devices, kinds, versions)
def test_nobody_is_in_a_wave_of_nothing_and_everybody_in_the_whole(device: str, kind: str, version: int) -> None:
    assert not in_wave(device, kind, version, 0)
    assert in_wave(device, kind, version, WHOLE)


@given(devices, kinds, versions, percents, percents)
def test_whoever_is_in_a_wave_is_in_every_wider_one(device: str, kind: str, version: int, one: int, two: int) -> None:
    narrow, wide = sorted((one, two))
    assert in_wave(device, kind, version, wide) or not in_wave(device, kind, version, narrow)


@given(devices, kinds, versions)
def test_a_place_is_that_of_the_protocol(device: str, kind: str, version: int) -> None:
    digest = sha256(f"{device}/{kind}/{version}".encode()).digest()
    assert wave_bucket(device, kind, version) == int.from_bytes(digest[:4], "big") % 100


@pytest.mark.parametrize("percent", [1, 5, 25, 50])
def test_a_wave_reaches_about_its_share(percent: int) -> None:
    reached = sum(in_wave(f"gate-{number}", "deny", 7, percent) for number in range(10_000))
    assert abs(reached - 100 * percent) < 400  # eight standard deviations at the half


def test_other_devices_go_first_with_another_version() -> None:
    first = {n for n in range(1000) if in_wave(f"gate-{n}", "deny", 1, 5)}
    second = {n for n in range(1000) if in_wave(f"gate-{n}", "deny", 2, 5)}
    assert first != second

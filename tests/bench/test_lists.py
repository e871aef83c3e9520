"""The steps of the lists' benchmark, over a small nation: they measure what they say, and see what is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import lists_numpy, lists_plain
from bench.steps import Stopwatch, run_step
from validator.lists.dense_deny import decode_dense_deny, dense_deny, encode_dense_deny

SEED = 3
CARDS = 30_000
REVOKED = 600


@pytest.fixture(params=["uniform", "realistic"])
def nation(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The arguments of the steps over a population, in files that `sift` wrote."""
    told = {"folder": str(tmp_path), "mode": request.param, "seed": SEED, "cards": CARDS, "revoked": REVOKED}
    return told | {"plan": lists_numpy.sift(**told)}


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_numpy, "SAMPLE", 2_000)
    monkeypatch.setattr(lists_plain, "TIMER_SAMPLES", 100)


def over_population(step: Callable[..., dict[str, Any]], nation: dict[str, Any]) -> dict[str, Any]:
    return step(**{name: value for name, value in nation.items() if name != "plan"})


def test_dense_list_is_encoded_loaded_and_changed(nation: dict[str, Any]) -> None:
    folder, issuers = nation["folder"], nation["plan"]["issuers"]
    encoded = lists_plain.encode_dense(folder, issuers, 2)
    assert encoded["bytes"] == Path(folder, "dense").stat().st_size > nation["plan"]["bound_bits_by_block"] / 8
    loaded = lists_plain.load_dense(folder, issuers, 2)
    assert (loaded["wrong_in_all"], loaded["wrong_in_sample"]) == (0, 0)
    assert loaded["good"]["n"] == loaded["revoked"]["n"] == 1_000
    assert 0 < loaded["revoked"]["p50_us"] <= loaded["revoked"]["p99_us"]
    # Four octets for each number, and what little the objects around them take.
    assert 4 * REVOKED < lists_plain.weigh_dense(folder)["held_mb"] * 1e6 < 4 * REVOKED + 20_000
    if len(issuers) == 1:
        changed = lists_plain.change_dense(folder, 100, SEED, 2)
        assert (changed["added"], changed["removed"]) == (95, 5)
        assert 0 < changed["bytes"] < encoded["bytes"]


def test_a_dense_list_that_lies_is_seen(nation: dict[str, Any]) -> None:
    folder, issuers = nation["folder"], nation["plan"]["issuers"]
    lists_plain.encode_dense(folder, issuers, 1)
    whole = decode_dense_deny(Path(folder, "dense").read_bytes()).values()
    spoilt = [dense_deny(each.issuer, each.covers, each.numbers[len(each.numbers) // 2 :]) for each in whole]
    Path(folder, "dense").write_bytes(encode_dense_deny(spoilt))
    loaded = lists_plain.load_dense(folder, issuers, 1)
    assert loaded["wrong_in_all"] == sum(map(len, whole)) - sum(map(len, spoilt))
    assert loaded["wrong_in_sample"] > 0


def test_sparse_list_is_built_checked_and_loaded(nation: dict[str, Any]) -> None:
    built = over_population(lists_numpy.build_sparse, nation)
    assert built["bytes"] == Path(nation["folder"], "sparse").stat().st_size
    assert 0 < built["population_s"] < built["seconds"]
    assert over_population(lists_numpy.verify_sparse, nation)["wrong_in_all"] == 0
    loaded = lists_plain.load_sparse(nation["folder"], nation["plan"]["vintages"], 2)
    assert loaded["wrong_in_sample"] == 0
    assert lists_plain.weigh_sparse(nation["folder"])["held_mb"] > 0


def test_a_sparse_list_of_other_cards_is_seen(nation: dict[str, Any]) -> None:
    over_population(lists_numpy.build_sparse, nation | {"revoked": REVOKED // 2})
    assert over_population(lists_numpy.verify_sparse, nation)["wrong_in_all"] > REVOKED // 3
    assert lists_plain.load_sparse(nation["folder"], nation["plan"]["vintages"], 1)["wrong_in_sample"] > 0


def test_vintages_share_out_the_cards_by_issuer_and_year(nation: dict[str, Any]) -> None:
    population = lists_numpy._population(nation["mode"], SEED, CARDS, REVOKED)
    made = lists_numpy.vintages(population, Stopwatch())
    assert [vintage.first for vintage in made] == [0, *(vintage.stop for vintage in made[:-1])]
    assert made[-1].stop == CARDS
    assert sum(vintage.revoked_cards for vintage in made) == REVOKED
    for vintage in made:
        ids = {pair.tobytes() for chunk in vintage.revoked() for pair in chunk.astype(">u8")}
        assert len(ids) == vintage.revoked_cards
        assert sum(len(chunk) for chunk in vintage.good()) == vintage.stop - vintage.first - len(ids)
        cards = [population.card(number) for number in range(vintage.first, vintage.stop, 97)]
        for card in cards:
            assert population.issuers[card.block.issuer].key_id + card.block.year.to_bytes(2) == vintage.name
            assert (card.credential_id in ids) == card.revoked
            assert card.issued_s <= vintage.covered_until_s


@pytest.mark.slow
def test_a_step_has_a_process_and_a_peak_of_its_own(tmp_path: Path) -> None:
    told = {"folder": str(tmp_path), "mode": "uniform", "seed": SEED, "cards": CARDS, "revoked": REVOKED}
    phases: list[tuple[str, int, int]] = []
    outcome = run_step("bench.lists_numpy", "sift", told, lambda *phase: phases.append(phase))
    assert outcome.answer["bound_bits"] > 0
    assert phases == [("population", CARDS, CARDS)]
    light = run_step("bench.lists_plain", "encode_dense", {
        "folder": str(tmp_path), "issuers": outcome.answer["issuers"], "repeats": 1,
    }, lambda *_phase: None)  # fmt: skip
    assert 0 < light.peak_mb < outcome.peak_mb  # numpy is in one of them


def test_a_step_that_fails_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"weigh_dense .* ended with 1"):
        run_step("bench.lists_plain", "weigh_dense", {"folder": str(tmp_path)}, lambda *_phase: None)
    assert "FileNotFoundError" in capfd.readouterr().err

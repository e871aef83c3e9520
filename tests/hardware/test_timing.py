"""The figures of real silicon: those that were measured, and none that were not."""

import pytest

from hardware.virtual.timing import MODELS, ChipTiming, KeyType, NoFigure


@pytest.mark.parametrize(
    ("model", "key", "ms"),
    [
        ("jcop4-p71", KeyType.RSA_2048, 53.2),
        ("jcop4-p71", KeyType.P_256, 32.0),
        ("jcop4-p71", KeyType.P_384, 45.3),
        ("jcop3-p60", KeyType.P_256, 58),
        ("secora-id-x", KeyType.P_256, 23.6),
        ("secora-id-x-slow", KeyType.RSA_2048, 200),
        ("athena-idprotect", KeyType.P_384, 243),
        ("cosmo64-v5.4", KeyType.RSA_2048, 871),
    ],
)
def test_figures_of_the_source(model: str, key: KeyType, ms: float) -> None:
    assert ChipTiming.of(model).seconds(key) == pytest.approx(ms / 1000)


@pytest.mark.parametrize("model", MODELS)
def test_nobody_measured_rsa_3072(model: str) -> None:
    with pytest.raises(NoFigure, match="has no figure for RSA-3072"):
        ChipTiming.of(model).seconds(KeyType.RSA_3072)


def test_a_missing_figure_names_those_that_are_there() -> None:
    with pytest.raises(NoFigure, match="only for RSA-2048: choose another model"):
        ChipTiming.of("cosmo64-v5.4").seconds(KeyType.P_256)


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NoFigure, match=r"unknown card model 'jcop9'.*jcop4-p71"):
        ChipTiming.of("jcop9")


def test_every_figure_is_a_plausible_time() -> None:
    for figures in MODELS.values():
        assert figures
        assert all(0.01 < seconds < 1 for seconds in figures.values())

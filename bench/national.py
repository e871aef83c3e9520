"""Exchanges, bytes and time of a national identity card, by card and by what its holder told.

`validator read` in this process, asking for the one family, and cards of invented people on nfcpy's simulated air:
type A or B at 106 kbit/s, with the time that frames take. Nobody published how long these chips compute, so that the
time of a card is modelled: the same read, and its operations with a private key at the speed of two chips that somebody
measured (`hardware.virtual.timing`). Two assumptions are in it: PACE is four multiplications on the card, each as long
as a signature on that curve, and a Brainpool curve costs what the NIST curve of its size does. A card with slow memory
takes longer.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Any, Final

from rich.progress import track
from typer.testing import CliRunner

from bench.figures import Figure, Report, p50, scratch
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.timing import ChipTiming, KeyType
from tests.flow.national_cards import Row, logging_as_before, trust_folder
from tests.flow.test_read_national import ROWS
from validator.__main__ import app
from validator.profiles import dnie, esteid2018, esteid2025, jpki, mynumber_surface

MODELS: Final = ("jcop4-p71", "jcop3-p60")
PACE_MULTIPLICATIONS: Final = 4
CURVES: Final = {esteid2018.NAME: KeyType.P_256, esteid2025.NAME: KeyType.P_384}
"""Of PACE; of the others' virtual cards, all have P-256 or a curve of its size."""
PROOFS: Final[dict[tuple[str, str], Counter[KeyType]]] = {
    (esteid2018.NAME, "HOLDER"): Counter({KeyType.P_384: 1}),
    (esteid2025.NAME, "HOLDER"): Counter({KeyType.P_384: 1}),
    (jpki.NAME, "HOLDER"): Counter({KeyType.RSA_2048: 1}),
    (mynumber_surface.NAME, "CHIP"): Counter({KeyType.RSA_2048: 1}),
    (dnie.NAME, "CHIP"): Counter({KeyType.RSA_2048: 1}),
}
"""Operations with a private key beside PACE, by family and assurance."""
DOCUMENTS: Final = {
    "Chip Authentication": Counter({KeyType.P_256: 1}),
    "Active Authentication, RSA": Counter({KeyType.RSA_2048: 1}),
    "Active Authentication, P-256": Counter({KeyType.P_256: 1}),
}
"""The same of travel documents, by the row's name; chip authentication mapping needs none."""


async def run(reads: int = 5) -> Report:
    """Read each card in each mode, `reads` times."""
    report = Report("national", "A national identity card by card and mode (air at 106 kbit/s)")
    with scratch() as folder:
        trust = trust_folder(folder / "trust")
        for row in track(ROWS, description="cards and modes", transient=True, disable=not sys.stderr.isatty()):
            family = [] if "--family" in row.told else ["--family", str(row.judged[1])]
            told = [*row.told, *family, "--trust", str(trust), "--cache", str(folder / "cache.db")]
            found = [await _read(row, told) for _ in range(reads)]
            report.figures += _figures(row, found)
    return report


async def _read(row: Row, told: list[str]) -> dict[str, Any]:
    air = await Field.open()
    try:
        air.place(AirCard(row.card(), row.technology, timing=AirTiming()))
        arguments = ["read", *told, "--reader", f"nfcpy:{air.path}", "--json", "--wait", "20"]
        with logging_as_before():
            done = await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)
    finally:
        await air.close()
    if done.exit_code:
        raise RuntimeError(f"{row.name}: {done.output}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["verdict"] != row.judged[0]:
        raise RuntimeError(f"{row.name}: read as {found['verdict']}")
    return found


def _figures(row: Row, found: list[dict[str, Any]]) -> list[Figure]:
    computing, whole_ms = _computing(row), p50([each["ms"]["total"] for each in found])
    label = f"{row.name}{' by MRZ' * ('--mrz' in row.told)}: {row.judged[2] or row.judged[0]}"
    count = len(found)
    return [
        Figure(f"{label}: exchanges", p50([each["apdus"] for each in found]), "", count),
        Figure(f"{label}: bytes out", p50([each["bytes_out"] for each in found]), "B", count),
        Figure(f"{label}: bytes in", p50([each["bytes_in"] for each in found]), "B", count),
        Figure(f"{label}: read, without the card's computing, p50", whole_ms, "ms", count),
        Figure(f"{label}: own work p50", p50([each["ms"]["own"] for each in found]), "ms", count),
        *(
            Figure(f"{label}: modelled with {model}", whole_ms + _chip_ms(model, computing), "ms", count)
            for model in MODELS
        ),
    ]


def _computing(row: Row) -> Counter[KeyType]:
    """Count what the card computes with private keys."""
    _, family, assurance, _ = row.judged
    if family is None or assurance is None:
        return Counter()
    found = Counter(PROOFS.get((family, assurance), {}))
    found += Counter(DOCUMENTS.get(row.name.removeprefix("document, "), {}))
    if "--can" in row.told or "--mrz" in row.told:
        found[CURVES.get(family, KeyType.P_256)] += PACE_MULTIPLICATIONS
    return found


def _chip_ms(model: str, computing: Counter[KeyType]) -> float:
    return 1000 * sum(ChipTiming.of(model).seconds(kind) * times for kind, times in computing.items())

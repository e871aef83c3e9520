"""Exchanges, bytes and time of a national identity card, by card and by what its holder told.

`validator read` in this process, asking for the one family, and cards of invented people on nfcpy's simulated air:
type A or B at 106 kbit/s, with the time that frames take. Nobody published how long these chips compute: a real card
adds that, for PACE four multiplications on a curve, for a signature one or an RSA operation.
"""

import asyncio
import json
import sys
from typing import Any

from rich.progress import track
from typer.testing import CliRunner

from bench.figures import Figure, Report, p50, scratch
from hardware.virtual.air import AirCard, AirTiming, Field
from tests.flow.national_cards import Row, logging_as_before, trust_folder
from tests.flow.test_read_national import ROWS
from validator.__main__ import app


async def run(reads: int = 5) -> Report:
    """Read each card in each mode, `reads` times."""
    report = Report(
        "national", "A national identity card by card and mode (air at 106 kbit/s; its computing not modelled)"
    )
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
    label = f"{row.name}{' by MRZ' * ('--mrz' in row.told)}: {row.judged[2] or row.judged[0]}"
    count = len(found)
    return [
        Figure(f"{label}: exchanges", p50([each["apdus"] for each in found]), "", count),
        Figure(f"{label}: bytes out", p50([each["bytes_out"] for each in found]), "B", count),
        Figure(f"{label}: bytes in", p50([each["bytes_in"] for each in found]), "B", count),
        Figure(f"{label}: whole read p50", p50([each["ms"]["total"] for each in found]), "ms", count),
        Figure(f"{label}: own work p50", p50([each["ms"]["own"] for each in found]), "ms", count),
    ]

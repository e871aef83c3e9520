"""``python -m bench [NAME ...]``: runs the benchmarks named, or all but the long ones."""

import argparse
import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from rich.console import Console

from bench import decide, families, fleet, issuing, journeys, lists, national, start, tap, tickets
from bench.figures import Report

BENCHES: dict[str, Callable[[], Coroutine[Any, Any, Report]]] = {
    "decide": decide.run,
    "tap": tap.run,
    "families": families.run,
    "national": national.run,
    "issuing": issuing.run,
    "start": start.run,
    "fleet": fleet.run,
}

CARDS = 100_000_000
NATIONAL_LISTS: dict[str, Callable[[int], Coroutine[Any, Any, Report]]] = {
    "lists-dense": lists.dense,
    "lists-sparse": lists.sparse,
    "lists-tickets": lambda cards: tickets.run(cards // tickets.CARDS_PER_RECORD),
}
"""Take a quarter of an hour, and tell nothing about a tap: `make bench-lists`."""
JOURNEYS = "journeys"
"""Takes minutes: only by its name."""


def main() -> None:
    """Run what was asked for, print tables, and write ``bench/out``."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    every = [*BENCHES, JOURNEYS, *NATIONAL_LISTS]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}; by default all but {JOURNEYS} and the lists-"
    )
    parser.add_argument("--records", type=int, default=issuing.RECORDS, help="how many cards `issuing` issues")
    parser.add_argument("--cards", type=int, default=CARDS, help="how many cards the lists- are about, at most")
    parser.add_argument(
        "--taps", type=int, nargs="+", default=journeys.TAPS, help="days that `journeys` prices, in taps"
    )
    told = parser.parse_args()
    benches = BENCHES | {"issuing": functools.partial(issuing.run, told.records)}
    benches[JOURNEYS] = functools.partial(journeys.run, told.taps)
    benches |= {name: functools.partial(run, told.cards) for name, run in NATIONAL_LISTS.items()}
    names = told.names or list(BENCHES)
    unknown = [name for name in names if name not in benches]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: choose from {', '.join(every)}")
    console = Console(width=120)
    for name in names:
        asyncio.run(benches[name]()).close(console)


if __name__ == "__main__":
    main()

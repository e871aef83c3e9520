"""``python -m bench [NAME ...] [--records N]``: runs the benchmarks named, or all."""

import argparse
import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from rich.console import Console

from bench import families, issuing, national, start, tap
from bench.figures import Report

BENCHES: dict[str, Callable[[], Coroutine[Any, Any, Report]]] = {
    "tap": tap.run,
    "families": families.run,
    "national": national.run,
    "issuing": issuing.run,
    "start": start.run,
}


def main() -> None:
    """Run what was asked for, print tables, and write ``bench/out``."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--records", type=int, default=issuing.RECORDS, help="how many cards `issuing` issues")
    told = parser.parse_args()
    benches = BENCHES | {"issuing": functools.partial(issuing.run, told.records)}
    names = told.names or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHES)}")
    console = Console(width=120)
    for name in names:
        asyncio.run(benches[name]()).close(console)


if __name__ == "__main__":
    main()

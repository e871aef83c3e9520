"""``python -m bench [tap] [start]``: runs the benchmarks named, or all."""

import asyncio
import sys

from rich.console import Console

from bench import start, tap

BENCHES = {"tap": tap.run, "start": start.run}


def main() -> None:
    """Run what was asked for, print tables, and write ``bench/out``."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHES)}")
    console = Console(width=120)
    for name in names:
        asyncio.run(BENCHES[name]()).close(console)


if __name__ == "__main__":
    main()

"""Run as a program: makes, installs, loads and asks a ticket list, and prints the greatest resident size in KiB."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.validator.list_making import KEYS, PASS, candidate
from validator.lists.directory import install
from validator.lists.installed import load
from validator.lists.manifest import ListKind
from validator.lists.ticket_store import write_ticket_store
from validator.rights import Product


def main(folder: Path, count: int) -> int:
    payload = folder / "payload"
    write_ticket_store(payload, _entries(count))
    sealed = candidate(payload, ListKind.TICKETS, 1).sealed
    install(folder / "lists", sealed, payload, KEYS)
    lists = load(folder / "lists", KEYS, "north")
    for number in range(1, count, count // 500):
        assert lists.products(number.to_bytes(16)) == [replace(PASS, product_id=number)]
    # Not getrusage: its maximum is inherited from whoever started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def _entries(count: int) -> Iterator[tuple[bytes, Product]]:
    for number in reversed(range(1, count + 1)):
        yield number.to_bytes(16), replace(PASS, product_id=number)


if __name__ == "__main__":
    sys.stdout.write(str(main(Path(sys.argv[1]), int(sys.argv[2]))))

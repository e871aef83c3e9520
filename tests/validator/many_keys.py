"""Run as a program: makes, installs, loads and asks a list of keys, and prints the greatest resident size in KiB."""

import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.validator.list_making import KEYS, candidate
from validator.certificates import credential_id, spki_of
from validator.lists.directory import install
from validator.lists.enrolled_list import write_enrolled_file
from validator.lists.installed import load
from validator.lists.manifest import ListKind


def main(folder: Path, count: int) -> int:
    payload = folder / "payload"
    write_enrolled_file(payload, _keys(count))
    sealed = candidate(payload, ListKind.ENROLLED, 1).sealed
    install(folder / "lists", sealed, payload, KEYS)
    lists = load(folder / "lists", KEYS, "north")
    for number in range(1, count, count // 500):
        assert lists.enrolled(credential_id(_key(number))) == _key(number)
    # Not getrusage: its maximum is inherited from whoever started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def _keys(count: int) -> Iterator[bytes]:
    for number in reversed(range(count)):
        yield _key(number)


def _key(number: int) -> bytes:
    """The largest kind of key, and the cheapest to make: nobody asks for the factors of a modulus."""
    return spki_of(rsa.RSAPublicNumbers(65537, 2**3071 + 2 * number + 1).public_key())


if __name__ == "__main__":
    sys.stdout.write(str(main(Path(sys.argv[1]), int(sys.argv[2]))))

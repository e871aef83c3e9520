"""Derives card keys through a security module: ``sam_session.py READER REFERENCE NAME [FOLDER]``.

Each line of input is a UID; the answer is the card's key, or why there is none. The keys are made up by the
test that runs this.
"""

import sys
from pathlib import Path

from hardware.sam import Sam, SamKey
from validator import operator_keys
from validator.profiles.attempt import CardKeyMissing, CardKeysFailed


def main(reader: str, reference: str, name: str, folder: str | None = None) -> None:
    pin = operator_keys.load_pin(Path(folder)) if folder else None
    sam = Sam(reader, pin)
    keys = operator_keys.OperatorKeys({name: {1: SamKey(sam, int(reference, 16))}})
    for line in sys.stdin:
        try:
            with keys.card_key(name, 1, bytes.fromhex(line)) as key:
                said = key.hex()
        except (CardKeyMissing, CardKeysFailed) as error:
            said = str(error)
        print(said, flush=True)  # noqa: T201 - the answer
    sam.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

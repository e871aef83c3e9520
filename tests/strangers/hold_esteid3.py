"""Holds a virtual EstEID card against vpcd: ``hold_esteid3.py KEY CERTIFICATE RECORDS PIN PORT``.

KEY is PEM, CERTIFICATE DER, RECORDS a JSON list of the personal data file's sixteen.
"""

import asyncio
import json
import sys
from pathlib import Path

from hardware.virtual import vpcd
from hardware.virtual.esteid3 import ATR, EstEid3Chip
from hardware.virtual.piv_key import read_certificate, read_key


def main(key: str, certificate: str, records: str, pin: str, port: str) -> None:
    der = read_certificate(Path(certificate))
    chip = EstEid3Chip(
        read_key(Path(key)), der, json.loads(Path(records).read_text()), signing_certificate=der, pin=pin
    )
    asyncio.run(vpcd.present(chip, port=int(port), atr=ATR))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Holds an Estonian card of 2018 against vpcd: ``present_esteid2018.py KEY CERTIFICATE PIN1 PORT``."""

import asyncio
import sys
from pathlib import Path

from hardware.virtual import vpcd
from hardware.virtual.esteid2018 import ATR, EstEid2018Chip
from hardware.virtual.piv_key import read_certificate, read_key

PERSON = ("ÕUNAPUU", "MÄRT", "M", "EST", "24 12 2199 EST", "89912240008", "AA0000007", *[""] * 8)


def main(key: str, certificate: str, pin: str, port: str) -> None:
    der = read_certificate(Path(certificate))
    chip = EstEid2018Chip(read_key(Path(key)), der, PERSON, signing_certificate=der, pin=pin)
    asyncio.run(vpcd.present(chip, port=int(port), atr=ATR))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Holds a virtual DNIe against the virtual reader, through contacts, until it is told to leave."""

import asyncio
import sys

from hardware.virtual import vpcd
from tests.dnie_cards import in_slot

ATR_HEAD = bytes.fromhex("3B7F380000")
"""Direct convention, T=0, 15 historical bytes, as the police prints it."""


def main() -> None:
    chip = in_slot()
    asyncio.run(vpcd.present(chip, port=int(sys.argv[1]), atr=ATR_HEAD + chip.historical))


if __name__ == "__main__":
    main()

"""Holds a virtual security module against vpcd until its input ends: ``holding_sam.py PORT REFERENCE=KEY [PIN]``."""

import asyncio
import sys

from hardware.virtual import sam, vpcd


async def main(port: str, key: str, pin: str | None = None) -> None:
    reference, _, digits = key.partition("=")
    chip = sam.SamChip({int(reference, 16): bytes.fromhex(digits)}, pin)
    holding = asyncio.create_task(vpcd.present(chip, port=int(port), atr=sam.ATR))
    await asyncio.to_thread(sys.stdin.read)
    holding.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

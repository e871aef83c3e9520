"""Serves one PC/SC reader as a station does, and says what happens, one JSON object a line."""

import asyncio
import json
import sys

from hardware.medium import MediumLost, ReaderGone
from hardware.pcsc import PcscReader
from tests.conversing import transceive

SELECT = bytes.fromhex("00A4040009A0000003080000100000")


def say(event: str, **facts: str | float | bool) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


async def serve(reader: PcscReader) -> None:
    await reader.open()
    say("opened")
    while True:
        medium = await reader.wait()
        try:
            response = await transceive(medium, SELECT)
            say(
                "medium",
                technology=medium.target.technology.value,
                historical=medium.target.historical.hex(),
                response=response.hex(),
                present=await medium.present(),
                card_s=medium.card_s,
            )
        except MediumLost as error:
            say("lost", why=str(error))
        await medium.removed()
        say("removed", present=await medium.present())


async def main(name: str) -> None:
    reader = PcscReader(name)
    gone = ""
    try:
        while True:
            try:
                await serve(reader)
            except ReaderGone as error:
                if gone != str(error):
                    gone = str(error)
                    say("gone", why=gone)
                await asyncio.sleep(0.2)
    finally:
        await reader.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

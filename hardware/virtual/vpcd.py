"""A virtual card in a PC/SC reader: the wire protocol of vpcd, the virtual reader of the vsmartcard project.

The card is the TCP client. Each message is a two-byte big-endian length and that many bytes. One byte is a control:
00 power off, 01 power on, 02 reset, 04 tell the ATR; anything longer is an APDU, and its answer goes back alike.

vpcd hands on what PC/SC keeps for the reader, too: commands of class FF. They are answered here in the reader's place,
and the chip never sees one.
"""

import asyncio
import socket
from dataclasses import dataclass

from hardware.atr import contactless_atr
from hardware.medium import ReaderGone
from hardware.virtual.chip import Chip

PORT = 35963

_POWER_OFF, _POWER_ON, _RESET, _ATR = 0, 1, 2, 4
_LENGTH_BYTES = 2
_HEADER_BYTES = 4
_READERS_CLASS = 0xFF
_GET_UID = bytes.fromhex("FF CA 00 00 00")  # PC/SC part 3 §3.2.2.1.3
_UID_SIZES = (4, 7, 10)
_OK, _NOT_SUPPORTED = bytes.fromhex("90 00"), bytes.fromhex("6A 81")
_RETRY_S = 0.2


async def present(
    chip: Chip,
    host: str = "127.0.0.1",
    port: int = PORT,
    *,
    atr: bytes | None = None,
    uid: bytes | None = None,
    tear_after: int | None = None,
    tries: int = 50,
) -> None:
    """Hold a card against a virtual reader until cancelled; follows the reader when it is restarted.

    Args:
        chip: The card.
        host: Where vpcd listens.
        port: Its port; a second slot listens on the next one.
        atr: The answer to reset; by default that of a contactless card with the chip's historical bytes.
        uid: What the reader tells of the card's UID: 4, 7 or 10 bytes; None is a reader that tells none.
        tear_after: Take the card away instead of answering the APDU after this many answers, and return.
        tries: How many refused connections in a row, 0.2 s apart, are too many.

    Raises:
        ReaderGone: Nothing listened for that long.
        ValueError: The UID has another length.
    """
    if uid is not None and len(uid) not in _UID_SIZES:
        raise ValueError(f"a UID has 4, 7 or 10 bytes, not {len(uid)}")
    own = _Readers(contactless_atr(chip.historical) if atr is None else atr, uid)
    name = f"vpcd:{host}:{port}"
    refused = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            refused += 1
            if refused >= tries:
                what = f"no virtual reader listens ({error.strerror or error}): start pcscd with vpcd's driver"
                raise ReaderGone(name, what) from error
            await asyncio.sleep(_RETRY_S)
            continue
        refused = 0
        chip.reset()
        try:
            await _serve(chip, own, reader, writer, tear_after)
        except (asyncio.IncompleteReadError, OSError):
            await asyncio.sleep(_RETRY_S)
        else:
            return
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class _Readers:
    """What is the reader's to say of the card."""

    atr: bytes
    uid: bytes | None

    @staticmethod
    def asked(message: bytes) -> bool:
        return len(message) >= _HEADER_BYTES and message[0] == _READERS_CLASS

    def answer(self, command: bytes) -> bytes:
        return self.uid + _OK if self.uid is not None and command == _GET_UID else _NOT_SUPPORTED


async def _serve(
    chip: Chip, own: _Readers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tear_after: int | None
) -> None:
    """Answer until the connection breaks (raises) or the card is torn away (returns)."""
    clock = asyncio.get_running_loop()
    connection = writer.get_extra_info("socket")
    answered = 0
    while True:
        # vpcd sends a length and its message apart; without this each APDU waits 40 ms for a delayed acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        message = await reader.readexactly(length)
        if own.asked(message):
            response = own.answer(message)
        elif length > 1:
            if answered == tear_after:
                return
            began = clock.time()
            answer = chip.process(message)
            if answer.response is None:
                return
            await asyncio.sleep(max(0.0, answer.compute_s - (clock.time() - began)))
            response = answer.response
            answered += 1
        elif message[:1] == bytes([_ATR]):
            response = own.atr
        else:
            if message[:1] in (bytes([_POWER_OFF]), bytes([_POWER_ON]), bytes([_RESET])):
                chip.reset()
            continue
        writer.write(len(response).to_bytes(_LENGTH_BYTES) + response)
        await writer.drain()

"""Waits until a PC/SC reader holds a card, or none: ``await_card.py READER present|empty SECONDS``."""

import sys
import time

from smartcard import scard


def main(reader: str, wanted: str, seconds: str) -> int:
    deadline = time.monotonic() + float(seconds)
    result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    while result == scard.SCARD_S_SUCCESS and time.monotonic() < deadline:
        result, states = scard.SCardGetStatusChange(context, 0, [(reader, scard.SCARD_STATE_UNAWARE)])
        if result == scard.SCARD_S_SUCCESS and bool(states[0][1] & scard.SCARD_STATE_PRESENT) == (wanted == "present"):
            return 0
        if result == scard.SCARD_E_TIMEOUT:
            result = scard.SCARD_S_SUCCESS
        time.sleep(0.02)
    sys.stdout.write(f"{reader} is not {wanted}: {scard.SCardGetErrorMessage(result)}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

"""Holds a MyNumber card of files against vpcd: ``hold_mynumber.py FOLDER PORT``, with contacts' own ATR."""

import asyncio
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hardware.virtual import vpcd
from hardware.virtual.mynumber import CONTACT_ATR, MynumberChip, Personalised


def main(folder: str, port: str) -> None:
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    card = Personalised(
        authentication_key=load_pem_private_key(files["key"], None),
        authentication_certificate=files["certificate"],
        authority_certificate=files["authority"],
        surface_key=load_pem_private_key(files["surface_key"], None),
        record=files["record"],
        certificate=files["municipal"],
        identification=b"4AB00000000017",
        birth_digits="010108",
        individual_number="918273645546",
        pin=files["pin"].decode(),
    )
    asyncio.run(vpcd.present(MynumberChip(card), port=int(port), atr=CONTACT_ATR))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One APDU at a time, for tests that talk to a medium by hand."""

from hardware.medium import Medium


async def transceive(medium: Medium, apdu: bytes) -> bytes:
    return await medium.converse(lambda carry: carry(apdu))

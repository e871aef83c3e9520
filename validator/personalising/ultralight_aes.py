"""Makes an operator's card of a delivered MIFARE Ultralight AES, as `validator.profiles.ultralight_aes` expects it.

Token and keys first, while the memory is open; then what protects it, AUTH0 last. A page that is torn may keep some
bits of what it held and some of what was written. As long as the memory is open, everything is written again. CMAC mode
and AUTH0 lie in one page and are written one after the other, so that whatever tears the second leaves either an open
memory, or one that our data key opens in CMAC mode.
"""

import hmac
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from hardware import ultralight_aes as aes
from hardware.type2 import ACK, TagAnswer, TagCommand
from validator.originality import ChipProduct
from validator.personalising.making import DELIVERED_KEY, Making, NotBlank
from validator.profiles import ultralight_aes
from validator.profiles.errors import CardMalformed, CardRefused, KeyNotHere

KEY_NAMES = (ultralight_aes.DATA_KEY_NAME, ultralight_aes.UID_KEY_NAME)
PRODUCT = ChipProduct.ULTRALIGHT_AES

_LOCK_PAGE = 0x02
_CONFIG_PAGE, _ACCESS_PAGE, _KEY_LOCK_PAGE = 0x29, 0x2A, 0x2D
_DATA_KEY_PAGE, _UID_KEY_PAGE = 0x30, 0x34
_RANDOM_ID, _CMAC_MODE = 0x01, 0x02
_CONFIG_LOCKED, _READS_TOO = 0x40, 0x80
_TOKEN_LOCKS = 0b1111_0000
"""Lock bits of the pages 04h to 07h, in the first lock byte."""

_Steps = Generator[TagCommand, TagAnswer, None]
_Read = Generator[TagCommand, TagAnswer, bytes]


class _DeliveredKeys:
    """The keys of a card as delivered, in the place of an operator's."""

    def versions(self, _name: str) -> tuple[int, ...]:
        return (0,)

    @contextmanager
    def card_key(self, _name: str, _version: int, _uid: bytes) -> Iterator[bytearray]:
        yield bytearray(DELIVERED_KEY)


def signature() -> _Read:
    """Read NXP's originality signature (READ_SIG); empty where the tag gives none."""
    answer = yield TagCommand(bytes([aes.READ_SIG, 0x00]))
    return b"" if answer.refused else answer.data


def check(making: Making) -> _Steps:
    """Make sure that a card is as delivered; nothing is written. The tag has to be selected anew afterwards.

    Raises:
        NotBlank: It is protected or locked, or its key is somebody's.
        ProfileError: The card refuses, or breaks the protocol.
    """
    config = yield from _config()
    if not _is_open(config) or config[4] & _CONFIG_LOCKED or config[4 * (_KEY_LOCK_PAGE - _CONFIG_PAGE)]:
        raise NotBlank("its memory is protected or locked")
    locks = yield from _read(bytes([aes.READ, _LOCK_PAGE]), aes.READ_PAGES)
    if locks[2] & _TOKEN_LOCKS:
        raise NotBlank("the pages of the token are locked")
    try:
        session = yield from ultralight_aes.open_session(replace(making.attempt, keys=_DeliveredKeys()))
        session.wipe()
    except KeyNotHere:
        raise NotBlank("its data key is not the one that cards are delivered with") from None


def write(making: Making, *, resumed: bool) -> _Steps:
    """Write everything; repeated on a card that was torn away, it goes on.

    Args:
        making: The card.
        resumed: Whether this card was begun before, so that some of it, or all, may be written.

    Raises:
        NotBlank: It is protected, and was not begun.
        ProfileError: The card refuses, or breaks the protocol.
    """
    config = yield from _config()
    if _is_open(config):
        yield from _write_open(making, config)
        return
    if not resumed:
        raise NotBlank("its memory is protected")
    # AUTH0 is written last, and was at least in part: all else is there, and the data key opens the memory.
    session = yield from ultralight_aes.open_session(making.attempt)
    try:
        frame = bytes([aes.READ, _CONFIG_PAGE])
        answer = yield TagCommand(session.sealed(frame))
        _check_mac(session, answer, aes.READ_PAGES * aes.PAGE_BYTES)
        answer = yield TagCommand(session.sealed(bytes([aes.WRITE, _CONFIG_PAGE]) + _protected(answer.data)))
        _check_mac(session, answer, 0)
    finally:
        session.wipe()


def _write_open(making: Making, config: bytes) -> _Steps:
    keys, version = making.attempt.keys, making.key_version
    yield from _write_pages(ultralight_aes.TOKEN_PAGE, making.token)
    with keys.card_key(ultralight_aes.DATA_KEY_NAME, version, making.attempt.uid) as data_key:
        yield from _write_pages(_DATA_KEY_PAGE, bytes(data_key[::-1]))
    with keys.card_key(ultralight_aes.UID_KEY_NAME, version, b"") as uid_key:
        yield from _write_pages(_UID_KEY_PAGE, bytes(uid_key[::-1]))
    yield from _write_pages(_ACCESS_PAGE, bytes([config[4] | _READS_TOO]) + config[5:8])
    yield from _write_pages(_CONFIG_PAGE, _protected(config)[:3] + config[3:4])
    yield from _write_pages(_CONFIG_PAGE, _protected(config))


def _config() -> _Read:
    """The pages 29h to 2Dh; empty where they cannot be read without a key."""
    answer = yield TagCommand(bytes([aes.FAST_READ, _CONFIG_PAGE, _KEY_LOCK_PAGE]))
    if answer.refused:
        return b""
    return _checked(answer, 1 + _KEY_LOCK_PAGE - _CONFIG_PAGE)


def _is_open(config: bytes) -> bool:
    return bool(config) and config[3] > aes.LAST_PAGE


def _protected(config: bytes) -> bytes:
    """Page 29h as it is to be: a fixed UID, CMAC mode, and everything from the token on behind the data key."""
    return bytes([config[0] & ~_RANDOM_ID | _CMAC_MODE]) + config[1:3] + bytes([ultralight_aes.TOKEN_PAGE])


def _read(frame: bytes, pages: int) -> _Read:
    answer = yield TagCommand(frame)
    if answer.refused:
        raise CardRefused("READ", answer.acknowledgement or 0)
    return _checked(answer, pages)


def _checked(answer: TagAnswer, pages: int) -> bytes:
    if len(answer.data) != pages * aes.PAGE_BYTES:
        raise CardMalformed(f"{len(answer.data)} bytes for {pages} pages")
    return answer.data


def _write_pages(first: int, content: bytes) -> _Steps:
    for start in range(0, len(content), aes.PAGE_BYTES):
        page = first + start // aes.PAGE_BYTES
        answer = yield TagCommand(bytes([aes.WRITE, page]) + content[start : start + aes.PAGE_BYTES])
        if answer.refused:
            raise CardRefused(f"WRITE of page {page:02X}h", answer.acknowledgement or 0)
        if answer.acknowledgement != ACK:
            raise CardMalformed("no acknowledgement of a page that was written")


def _check_mac(session: aes.Session, answer: TagAnswer, size: int) -> None:
    """Verify an answer of a session in CMAC mode; an acknowledgement is a code alone."""
    if answer.refused:
        raise CardRefused("a command of the session", answer.acknowledgement or 0)
    data, code = answer.data[:size], answer.data[size:]
    if len(data) != size or not hmac.compare_digest(session.next_mac(data), code):
        raise CardMalformed("the code of an answer is wrong")

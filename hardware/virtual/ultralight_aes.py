"""A MIFARE Ultralight AES in software: pages, counters, three-pass authentication and CMAC mode.

What both sides must agree on is in `hardware.ultralight_aes`. How the memory behaves (which page is protected when,
what a lock bit does) follows the family's older data sheets; a frame too short for a code in a session gets silence, as
silicon was seen to do.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hardware import ultralight_aes as aes
from hardware.type2 import ACK
from hardware.virtual.chip import Answer

NAK_ARGUMENT, NAK_COUNTER = 0x0, 0x4
"""Four bits of a refusal: an argument or a right that is not there; a counter that would overflow."""

VERSION = bytes.fromhex("0004030104000F03")
SAK = 0x00
#: T_ACK of a page write is 4.1 ms on this family's data sheets.
PROGRAM_S = 0.0041

LOCK_PAGE, OTP_PAGE, USER_PAGES, LOCK_2_PAGE = 0x02, 0x03, range(0x04, 0x28), 0x28
CONFIG_PAGE, ACCESS_PAGE, KEY_LOCK_PAGE = 0x29, 0x2A, 0x2D
DATA_KEY_PAGE, UID_KEY_PAGE = 0x30, 0x34
OPEN = aes.LAST_PAGE + 1
"""AUTH0 that protects nothing, as delivered."""

_KEY_PAGES = range(DATA_KEY_PAGE, UID_KEY_PAGE + 4)
_KEY_PAGE_OF = {aes.DATA_KEY: DATA_KEY_PAGE, aes.UID_KEY: UID_KEY_PAGE}
_RANDOM_ID, _CMAC_MODE = 0x01, 0x02
_COUNTER_2_READ, _COUNTER_2_COUNT, _CONFIG_LOCKED, _READS_TOO = 0x04, 0x08, 0x40, 0x80
_GUARDED_COUNTER = 2
_VIRTUAL_CARD_TYPE = 0x05
_SIGNATURE_BYTES = 48

_Handler = Callable[[bytes], bytes | int]


class _Refused(Exception):  # noqa: N818 - four bits on their way out, never seen outside
    def __init__(self, nak: int = NAK_ARGUMENT) -> None:
        super().__init__(nak)
        self.nak = nak


class _Muted(Exception):  # noqa: N818 - silence on its way out, never seen outside
    """The tag says nothing, as it does to frames that it cannot make sense of."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the issuer left a tag.

    Attributes:
        random_uid: Whether anticollision shows a fresh UID each time.
        cmac: Whether frames of a session carry codes.
        auth0: First page that needs the data key.
        reads_too: Whether it needs the key for reading as well.
        open_counter: Whether counter 2 can be read and counted without the key, as counters 0 and 1 always can.
        locked_pages: Pages 4 to 15 that can never be written again.
    """

    random_uid: bool = False
    cmac: bool = True
    auth0: int = USER_PAGES.start
    reads_too: bool = True
    open_counter: bool = False
    locked_pages: frozenset[int] = frozenset()


class UltralightAes:
    """One tag, a `hardware.virtual.type2_target.TagChip`.

    Attributes:
        memory: All pages, 240 bytes, keys included.
        counters: The three one-way counters.
        heard: Frames that reached it since it was made.
    """

    def __init__(
        self,
        *,
        uid: bytes,
        data_key: bytes,
        uid_key: bytes = bytes(aes.BLOCK),
        pages: Mapping[int, bytes] | None = None,
        counters: Sequence[int] = (0, 0, 0),
        settings: Settings | None = None,
        signature: bytes = bytes(_SIGNATURE_BYTES),
        random: Callable[[int], bytes] = secrets.token_bytes,
        program_s: float = PROGRAM_S,
        cipher_s: float = 0.0,
    ) -> None:
        """Personalise a tag.

        Args:
            uid: True UID, 7 bytes.
            data_key: Key 0, 16 bytes.
            uid_key: Key 1, 16 bytes.
            pages: Content by number of the first page, whole pages.
            counters: Values of the three counters.
            settings: How it is protected.
            signature: What READ_SIG answers, 48 bytes; a virtual tag has no originality to show.
            random: Returns random bytes.
            program_s: Modelled seconds of one write or count.
            cipher_s: Modelled seconds of one half of the authentication; nobody published a figure.

        Raises:
            ValueError: A UID, key, counter or page that no tag could have.
        """
        settings = settings or Settings()
        if len(uid) != aes.UID_BYTES or len(data_key) != aes.BLOCK or len(uid_key) != aes.BLOCK:
            raise ValueError(f"a UID has {aes.UID_BYTES} bytes and a key {aes.BLOCK}")
        if len(counters) != aes.COUNTERS or not all(0 <= value <= aes.COUNTER_MAX for value in counters):
            raise ValueError(f"{aes.COUNTERS} counters of 0 to {aes.COUNTER_MAX}")
        if not settings.locked_pages <= frozenset(range(4, 16)):
            raise ValueError("only pages 4 to 15 have a lock bit each")
        self.memory = bytearray(OPEN * aes.PAGE_BYTES)
        self.counters = list(counters)
        self.heard = 0
        self._uid, self._signature, self._random = uid, signature, random
        self._program_s, self._cipher_s = program_s, cipher_s
        self._halfway: bytes | None = None
        check_0, check_1 = aes.check_bytes(uid)
        locks = sum(1 << page for page in settings.locked_pages)
        self._put(0, uid[:3] + bytes([check_0]) + uid[3:] + bytes([check_1, 0x48]) + locks.to_bytes(2, "little"))
        for first, content in (pages or {}).items():
            if len(content) % aes.PAGE_BYTES or first not in USER_PAGES:
                raise ValueError(f"page {first:02X}h: whole user pages only")
            self._put(first, content)
        self._put(CONFIG_PAGE, bytes([_RANDOM_ID * settings.random_uid | _CMAC_MODE * settings.cmac, 0, 0]))
        self.memory[CONFIG_PAGE * aes.PAGE_BYTES + 3] = settings.auth0
        access = _READS_TOO * settings.reads_too | (_COUNTER_2_READ | _COUNTER_2_COUNT) * settings.open_counter
        self._put(ACCESS_PAGE, bytes([access, _VIRTUAL_CARD_TYPE, 0, 0]))
        self._put(DATA_KEY_PAGE, data_key[::-1])
        self._put(UID_KEY_PAGE, uid_key[::-1])
        self.reset()

    @property
    def shown_uid(self) -> bytes | None:
        """True UID, or None where anticollision shows a random one."""
        return None if self._config(_RANDOM_ID) else self._uid

    @property
    def sak(self) -> int:
        """SAK 00."""
        return SAK

    def reset(self) -> None:
        """Forget the session."""
        self._authenticated: int | None = None
        self._session: aes.Session | None = None
        self._challenge: tuple[int, bytes] | None = None

    def process(self, frame: bytes) -> Answer:
        """Answer one frame."""
        self.heard += 1
        code = frame[0] if frame else -1
        compute_s = self._program_s if code in (aes.WRITE, aes.INCR_CNT) else 0.0
        try:
            if code in (aes.AUTHENTICATE, aes.AUTHENTICATE_PART_2):
                return Answer(self._authenticate(frame), self._cipher_s)
            return Answer(self._command(frame), compute_s)
        except _Muted:
            self.reset()
            return Answer(None)
        except _Refused as refusal:
            self.reset()
            return Answer(bytes([refusal.nak]))

    def tear(self, frame: bytes, halfway: bytes) -> None:
        """Lose power while a frame is worked on: its answer is lost, and a page being written is left as `halfway`.

        A counter is written whole or not at all (the data sheet's anti-tearing): not, if `halfway` is empty. An empty
        `halfway` also means that a page was not touched yet.
        """
        self._halfway = halfway
        try:
            self.process(frame)
        finally:
            self._halfway = None
            self.reset()

    def _authenticate(self, frame: bytes) -> bytes:
        """Both halves; neither carries a code, also where a session is being replaced."""
        challenge, self._challenge = self._challenge, None
        self._authenticated, self._session = None, None
        if frame[0] == aes.AUTHENTICATE:
            if len(frame) != 2 or frame[1] not in _KEY_PAGE_OF:
                raise _Refused
            self._challenge = frame[1], self._random(aes.BLOCK)
            return bytes([aes.AUTHENTICATE_MORE]) + aes.encrypt(self._key(frame[1]), self._challenge[1])
        if challenge is None or len(frame) != 1 + 2 * aes.BLOCK:
            raise _Refused
        number, rnd_b = challenge
        key = self._key(number)
        plain = aes.decrypt(key, frame[1:])
        rnd_a = plain[: aes.BLOCK]
        if plain[aes.BLOCK :] != aes.rotated(rnd_b):
            raise _Refused
        self._authenticated = number
        if self._config(_CMAC_MODE):
            self._session = aes.Session.of_challenges(key, rnd_a, rnd_b)
        return bytes([aes.AUTHENTICATE_DONE]) + aes.encrypt(key, aes.rotated(rnd_a))

    def _command(self, frame: bytes) -> bytes:
        """Unseal, execute, seal."""
        handlers: dict[int, tuple[int, _Handler]] = {
            aes.GET_VERSION: (0, lambda _arguments: VERSION),
            aes.READ: (1, self._read),
            aes.FAST_READ: (2, self._fast_read),
            aes.READ_CNT: (1, self._read_counter),
            aes.READ_SIG: (1, lambda _arguments: self._signature),
            aes.WRITE: (1 + aes.PAGE_BYTES, self._write),
            aes.INCR_CNT: (5, self._count),
        }
        self._challenge = None
        plain = self._unsealed(frame)
        known = handlers.get(plain[0]) if plain else None
        if known is None or len(plain) != 1 + known[0]:
            raise _Muted
        result = known[1](plain[1:])
        if isinstance(result, bytes):
            return result if self._session is None else self._session.sealed(result)
        return bytes([result]) if self._session is None else self._session.sealed(b"")

    def _unsealed(self, frame: bytes) -> bytes:
        if self._session is None:
            return frame
        plain, code = frame[: -aes.MAC_BYTES], frame[-aes.MAC_BYTES :]
        if not plain:
            raise _Muted
        if self._session.next_mac(plain) != code:
            raise _Refused
        return plain

    def _read(self, arguments: bytes) -> bytes:
        first = arguments[0]
        end = self._end_of_reading()
        if first >= end:
            raise _Refused
        return b"".join(self._shown((first + step) % end) for step in range(aes.READ_PAGES))

    def _fast_read(self, arguments: bytes) -> bytes:
        first, last = arguments
        if not first <= last < self._end_of_reading():
            raise _Refused
        return b"".join(map(self._shown, range(first, last + 1)))

    def _shown(self, page: int) -> bytes:
        hidden_uid = page <= 1 and self._config(_RANDOM_ID) and self._authenticated is None
        if page in _KEY_PAGES or hidden_uid:
            return bytes(aes.PAGE_BYTES)
        return bytes(self._page(page))

    def _write(self, arguments: bytes) -> int:
        page, content = arguments[0], arguments[1:]
        if page >= OPEN or not self._writable(page):
            raise _Refused
        if page == LOCK_PAGE:
            content = bytes(self._page(page)[:2]) + content[2:]
        if page in (LOCK_PAGE, OTP_PAGE, LOCK_2_PAGE, KEY_LOCK_PAGE):  # bits that can be set and never cleared
            content = bytes(old | new for old, new in zip(self._page(page), content, strict=True))
        if self._halfway is not None:
            content = self._halfway or bytes(self._page(page))
        self._put(page, content)
        return ACK

    def _writable(self, page: int) -> bool:
        if page >= self.memory[CONFIG_PAGE * aes.PAGE_BYTES + 3] and self._authenticated != aes.DATA_KEY:
            return False
        if page < LOCK_PAGE:
            return False
        if OTP_PAGE <= page < 16:
            return not int.from_bytes(self._page(LOCK_PAGE)[2:], "little") & 1 << page
        if page in (CONFIG_PAGE, ACCESS_PAGE):
            return not self._page(ACCESS_PAGE)[0] & _CONFIG_LOCKED
        if page in _KEY_PAGES:
            return not self._page(KEY_LOCK_PAGE)[0] & (1 if page < UID_KEY_PAGE else 2)
        return page <= KEY_LOCK_PAGE

    def _read_counter(self, arguments: bytes) -> bytes:
        number = self._counter(arguments[0], _COUNTER_2_READ)
        return self.counters[number].to_bytes(aes.COUNTER_BYTES, "little")

    def _count(self, arguments: bytes) -> int:
        number = self._counter(arguments[0], _COUNTER_2_COUNT)
        value = self.counters[number] + int.from_bytes(arguments[1 : 1 + aes.COUNTER_BYTES], "little")
        if value > aes.COUNTER_MAX:
            raise _Refused(NAK_COUNTER)
        if self._halfway != b"":
            self.counters[number] = value
        return ACK

    def _counter(self, number: int, open_bit: int) -> int:
        if number >= aes.COUNTERS:
            raise _Refused
        guarded = number == _GUARDED_COUNTER and not self._page(ACCESS_PAGE)[0] & open_bit
        if guarded and self._authenticated != aes.DATA_KEY:
            raise _Refused
        return number

    def _end_of_reading(self) -> int:
        """First page that cannot be read now; reading on from the last one begins again at page 0."""
        guarded = self._page(ACCESS_PAGE)[0] & _READS_TOO and self._authenticated != aes.DATA_KEY
        return min(OPEN, self.memory[CONFIG_PAGE * aes.PAGE_BYTES + 3]) if guarded else OPEN

    def _config(self, bit: int) -> bool:
        return bool(self._page(CONFIG_PAGE)[0] & bit)

    def _key(self, number: int) -> bytes:
        start = _KEY_PAGE_OF[number] * aes.PAGE_BYTES
        return bytes(self.memory[start : start + aes.BLOCK])[::-1]

    def _page(self, page: int) -> bytearray:
        return self.memory[page * aes.PAGE_BYTES : (page + 1) * aes.PAGE_BYTES]

    def _put(self, page: int, content: bytes) -> None:
        self.memory[page * aes.PAGE_BYTES : page * aes.PAGE_BYTES + len(content)] = content

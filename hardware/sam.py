"""A security module (SAM) in a PC/SC slot of its own: it encrypts single blocks with keys that it never gives out.

Any card with a PIV application does that holds AES-128 keys and answers GENERAL AUTHENTICATE with them (SP 800-73-5
part 2 §3.2.4, internal authentication). PC/SC calls block and can hang, so a thread of the module's own makes them,
and whoever asks waits no longer than the limit. The module protects a key, not its use: who has it unlocked asks too.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu, exchange
from hardware.medium import MediumLost, ReaderError
from hardware.worker import Worker

if TYPE_CHECKING:
    from hardware.pcsc_slot import Connection, Slot

PREFIX = "pcsc:"
BLOCK = 16
LIMIT_S = 2.0

_AID = bytes.fromhex("A00000030800001000")
_INS_VERIFY, _INS_GENERAL_AUTHENTICATE, _INS_SELECT = 0x20, 0x87, 0xA4
_AES_128 = 0x08  # SP 800-78-5, table 9
_PIN_REFERENCE, _PIN_BYTES = 0x80, 8
_SW_TRIES_LEFT = 0x63C0

_T = TypeVar("_T")


class SamError(Exception):
    """Root of what a security module may raise; the message names the reader, never a PIN, a key or a block."""

    def __init__(self, reader: str, what: str) -> None:
        super().__init__(f"security module in {reader}: {what}")
        self.reader = reader


class SamGone(SamError):  # noqa: N818 - names what happened
    """It is not in its reader, or does not answer in time. The next question looks for it again."""


class SamLocked(SamError):  # noqa: N818 - says what it is
    """It wants a PIN that this gate does not have, or refused the one it has. Nothing is tried twice."""


class SamRefused(SamError):  # noqa: N818 - says what it did
    """It answered with an error, or with something else than an encrypted block."""


class Sam:
    """One security module. Safe to use from any thread; questions wait for each other.

    Args:
        name: ``pcsc:READER NAME``, where READER NAME is a reader's whole name or a beginning that only one has.
        pin: Its PIV PIN, 6 to 8 digits, if its keys want one.
        limit_s: Longest wait for one answer, looking for the module and unlocking it included.

    Raises:
        ValueError: The PIN is no PIV PIN.
    """

    def __init__(self, name: str, pin: bytes | None = None, *, limit_s: float = LIMIT_S) -> None:
        if pin is not None and not (6 <= len(pin) <= _PIN_BYTES and pin.isdigit()):
            raise ValueError("the PIN of a security module has 6 to 8 decimal digits")
        self._wanted = name.removeprefix(PREFIX)
        self._name = PREFIX + self._wanted
        self._pin = None if pin is None else pin.ljust(_PIN_BYTES, b"\xff")  # SP 800-73-5 part 2 §2.4.3
        self._pin_refused = False
        self._limit_s = limit_s
        self._turn = threading.Lock()
        self._worker = Worker(self._name)
        self._running: Future[Any] | None = None
        self._slot: Slot | None = None
        self._card: Connection | None = None

    @property
    def name(self) -> str:
        """The reader's name as configured."""
        return self._name

    def open(self) -> None:
        """Find and unlock the module now, so that the first tap need not wait for that.

        Raises:
            SamError: It is not there, or cannot be unlocked.
        """
        self._in_time(lambda: self._insist(self._connected))

    def encrypt_block(self, reference: int, block: bytes) -> bytes:
        """Let one of its keys encrypt a block.

        Args:
            reference: The key's PIV key reference, one byte.
            block: 16 bytes.

        Returns:
            16 bytes.

        Raises:
            SamError: It is not there, cannot be unlocked, or has no such key.
            ValueError: The block has another length.
        """
        if len(block) != BLOCK:
            raise ValueError(f"a block of {len(block)} bytes: AES takes {BLOCK}")
        return self._in_time(lambda: self._insist(lambda: self._encrypted(reference, block)))

    def close(self) -> None:
        """Let the module and the thread go; harmless when closed already, and waits for nothing."""
        self._worker.later(self._let_go)
        self._worker.end()

    def _in_time(self, job: Callable[[], _T]) -> _T:
        with self._turn:
            # A thread cannot be ended. One that hangs is not asked again until it is back, so that they never pile up.
            if self._running is not None and not self._running.done():
                raise SamGone(self._name, "still hangs: re-plug its reader, and restart pcscd if that does not help")
            outcome: Future[_T] = Future()
            self._running = outcome
            self._worker.later(lambda: _settle(outcome, job))
            try:
                return outcome.result(self._limit_s)
            except TimeoutError:
                raise SamGone(self._name, f"did not answer for {self._limit_s:g} s: re-plug its reader") from None

    def _insist(self, job: Callable[[], _T]) -> _T:
        """Do a job; if a module that was there is not, look for it again once. Encrypting twice does no harm."""
        tries = 1 if self._card is None else 2
        while True:
            tries -= 1
            try:
                return job()
            except ReaderError as error:
                self._let_go()
                if not tries:
                    raise SamGone(self._name, str(error).removeprefix(f"{self._name}: ")) from error
            except SamError:
                self._let_go()
                raise

    def _connected(self) -> "Connection":
        if self._card is not None:
            return self._card
        slot = self._opened()
        if not slot.look():
            raise MediumLost(self._name, "no module is in it: put it in")
        card = slot.connect()
        if card is None:
            raise SamGone(self._name, "another program keeps it: stop that, or keep it from this reader")
        self._unlock(card)
        self._card = card
        return card

    def _opened(self) -> "Slot":
        if self._slot is None:
            try:
                from hardware.pcsc_slot import Slot  # noqa: PLC0415 - pyscard is an extra that only PC/SC needs
            except ImportError as error:
                what = f"pyscard cannot be imported ({error}): install pilet with its extra `pcsc`, and libpcsclite1"
                raise SamGone(self._name, what) from error
            self._slot = Slot(self._name)
            self._slot.open(self._wanted)
        return self._slot

    def _let_go(self) -> None:
        """Forget connection and reader: a reset module is locked, and a service that was restarted knows neither."""
        slot, self._slot, self._card = self._slot, None, None
        if slot is not None:
            with suppress(ReaderError):
                slot.close()

    def _unlock(self, card: "Connection") -> None:
        selected = self._ask(card, CommandApdu(0x00, _INS_SELECT, 0x04, 0x00, _AID, le=SHORT_LE_MAX))
        if not selected.ok:
            raise SamRefused(self._name, f"{selected.sw:04X} to SELECT: it has no PIV application")
        if self._pin is None:
            return
        if self._pin_refused:
            raise SamLocked(self._name, "it refused the PIN, and is not asked again until the service is restarted")
        state = self._ask(card, CommandApdu(0x00, _INS_VERIFY, 0x00, _PIN_REFERENCE))
        if state.ok:
            return
        if _tries_left(state) <= 1:
            what = f"{state.sw:04X}: its PIN is blocked or one wrong try from it: unblock it with the card's own tools"
            raise SamLocked(self._name, what)
        verified = self._ask(card, CommandApdu(0x00, _INS_VERIFY, 0x00, _PIN_REFERENCE, self._pin))
        if not verified.ok:
            self._pin_refused = True
            what = f"{verified.sw:04X}: it refused the PIN: put the right one into the credential, restart the service"
            raise SamLocked(self._name, what)

    def _encrypted(self, reference: int, block: bytes) -> bytes:
        template = tlv.encode(0x7C, tlv.encode(0x82, b"") + tlv.encode(0x81, block))
        command = CommandApdu(0x00, _INS_GENERAL_AUTHENTICATE, _AES_128, reference, template, le=SHORT_LE_MAX)
        response = self._ask(self._connected(), command)
        key = f"key {reference:02X}"
        if response.sw == SW.SECURITY_STATUS_NOT_SATISFIED:
            raise SamLocked(self._name, f"{key} wants a PIN: give the gate the credential that holds it")
        if not response.ok:
            raise SamRefused(self._name, f"{response.sw:04X} to {key}: no AES-128 key is there, or it may not be used")
        with suppress(tlv.TlvError):
            encrypted = tlv.parse_one(tlv.parse_one(response.data, 0x7C), 0x82)
            if len(encrypted) == BLOCK:
                return encrypted
        raise SamRefused(self._name, f"{key} answered something else than an encrypted block")

    def _ask(self, card: "Connection", command: CommandApdu) -> ResponseApdu:
        """Carry one command, with all that it takes until the response is whole."""
        assert self._slot is not None
        steps = exchange(command)
        try:
            apdu = next(steps)
            while True:
                apdu = steps.send(ResponseApdu.from_bytes(self._slot.transmit(card, bytes(apdu))[0]))
        except StopIteration as end:
            whole: ResponseApdu = end.value
            return whole
        except ApduError as error:
            raise SamRefused(self._name, str(error)) from error


@dataclass(frozen=True, slots=True)
class SamKey:
    """One key of a security module.

    Attributes:
        sam: The module that holds it.
        reference: Its PIV key reference, one byte, for example ``0x82``.
    """

    sam: Sam
    reference: int

    def encrypt_block(self, block: bytes) -> bytes:
        """Let the key encrypt one block of 16 bytes.

        Raises:
            SamError: The module is not there, cannot be unlocked, or has no such key.
        """
        return self.sam.encrypt_block(self.reference, block)


def _tries_left(state: ResponseApdu) -> int:
    """How many wrong PINs the module still takes; what says anything but a number of tries takes none."""
    return state.sw & 0x0F if state.sw & 0xFFF0 == _SW_TRIES_LEFT else 0


def _settle(outcome: "Future[_T]", job: Callable[[], _T]) -> None:
    try:
        outcome.set_result(job())
    except BaseException as error:  # noqa: BLE001 - handed to the caller, who waits for it
        outcome.set_exception(error)

"""One PC/SC reader through pyscard's low-level calls: every method blocks. `hardware.pcsc` gives it a thread.

pyscard's monitors and its global context are left alone: they do not survive a restart of the service.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from smartcard import scard

from hardware.atr import AtrError, historical_bytes, is_contactless
from hardware.medium import MediumLost, MediumTimeout, ReaderError, ReaderGone, Target, Technology

_SLICE_MS = 100
_EVENT_COUNT = 0xFFFF_0000  # how many cards came and went, in the upper half of a reader's state
_GET_UID = bytes.fromhex("FF CA 00 00 00")  # PC/SC part 3 §3.2.2.1.3; the reader answers it, not the card
_UID_SIZES, _PUPI_BYTES = (4, 7, 10), 4
_OK = bytes.fromhex("90 00")


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One connection to one card; `eq` is by identity, since handles are used again."""

    handle: int
    pci: int
    event_count: int
    target: Target
    activation_s: float


class Slot:
    """One reader as PC/SC sees it. Every method blocks and runs in the reader's thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context: int | None = None
        self._reader = ""
        self._card: Connection | None = None

    def open(self, wanted: str) -> None:
        """Reach the service and find the reader by its name, or by a beginning that only one has."""
        result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if result != scard.SCARD_S_SUCCESS:
            raise ReaderGone(self._name, f"the PC/SC service does not answer ({_text(result)}): start pcscd")
        self._context = context
        result, readers = scard.SCardListReaders(context, [])
        if result not in (scard.SCARD_S_SUCCESS, scard.SCARD_E_NO_READERS_AVAILABLE):
            raise self._gone(result)
        self._reader = _choose(self._name, wanted, readers)

    def look(self) -> bool:
        """Whether a card is there: at once if one is, else when there is news or the slice is over."""
        state = self._status(0, scard.SCARD_STATE_UNAWARE)
        if not state & scard.SCARD_STATE_PRESENT:
            state = self._status(_SLICE_MS, state)
        return bool(state & scard.SCARD_STATE_PRESENT)

    def connect(self) -> Connection | None:
        """Take the card for this process alone; None while another program has it."""
        began = time.perf_counter()
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        result, handle, protocol = scard.SCardConnect(
            self._opened(), self._reader, scard.SCARD_SHARE_EXCLUSIVE, protocols
        )
        if result == scard.SCARD_E_SHARING_VIOLATION:
            return None
        self._check(result)
        pci = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
        try:
            target, event_count = self._inspect(handle, pci)
        except ReaderError:
            scard.SCardDisconnect(handle, scard.SCARD_RESET_CARD)
            raise
        self._card = Connection(handle, pci, event_count, target, time.perf_counter() - began)
        return self._card

    def transmit(self, card: Connection, apdu: bytes) -> tuple[bytes, float]:
        """Send one APDU; return the response and how many seconds it took."""
        if self._card is not card:
            raise MediumLost(self._name, "the medium was let go already")
        began = time.perf_counter()
        result, response = scard.SCardTransmit(card.handle, card.pci, list(apdu))
        took_s = time.perf_counter() - began
        self._check(result)
        if len(response) < 2:
            raise MediumLost(self._name, f"an answer of {len(response)} bytes")
        return bytes(response), took_s

    def holds(self, card: Connection, timeout_ms: int) -> bool:
        """Whether the very card is still there, answered after news or the timeout."""
        if self._card is not card:
            return False
        state = self._status(0, scard.SCARD_STATE_UNAWARE)
        if timeout_ms and self._is(card, state):
            state = self._status(timeout_ms, state)
        return self._is(card, state)

    def release(self) -> None:
        """Let the card go, reset, so that what the last tap selected or verified serves nobody else."""
        card, self._card = self._card, None
        if card is None:
            return
        scard.SCardEndTransaction(card.handle, scard.SCARD_LEAVE_CARD)
        scard.SCardDisconnect(card.handle, scard.SCARD_RESET_CARD)

    def close(self) -> None:
        """Let the card and the service go; harmless when closed already."""
        self.release()
        context, self._context = self._context, None
        if context is not None:
            scard.SCardReleaseContext(context)

    def _inspect(self, handle: int, pci: int) -> tuple[Target, int]:
        self._check(scard.SCardBeginTransaction(handle))
        result, _, _, _, atr = scard.SCardStatus(handle)
        self._check(result)
        try:
            target = _target(bytes(atr), lambda: _uid(handle, pci))
        except AtrError as error:
            raise MediumLost(self._name, str(error)) from error
        return target, self._status(0, scard.SCARD_STATE_UNAWARE) & _EVENT_COUNT

    def _status(self, timeout_ms: int, known: int) -> int:
        result, states = scard.SCardGetStatusChange(self._opened(), timeout_ms, [(self._reader, known)])
        if result in (scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED):
            return known
        if result != scard.SCARD_S_SUCCESS:
            raise self._gone(result)
        state = states[0][1]
        if state & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE | scard.SCARD_STATE_IGNORE):
            raise ReaderGone(self._name, f"{self._reader} was unplugged: plug it in")
        return state & ~scard.SCARD_STATE_CHANGED

    def _is(self, card: Connection, state: int) -> bool:
        present = state & scard.SCARD_STATE_PRESENT
        return bool(present) and state & _EVENT_COUNT == card.event_count

    def _opened(self) -> int:
        if self._context is None:
            raise ReaderGone(self._name, "is closed: open it first")
        return self._context

    def _check(self, result: int) -> None:
        """Turn a result of a call about a card into the `ReaderError` that it means."""
        if result == scard.SCARD_S_SUCCESS:
            return
        if result in (scard.SCARD_E_TIMEOUT, scard.SCARD_F_WAITED_TOO_LONG):
            raise MediumTimeout(self._name, _text(result))
        if result in (
            scard.SCARD_W_REMOVED_CARD,
            scard.SCARD_W_RESET_CARD,
            scard.SCARD_W_UNPOWERED_CARD,
            scard.SCARD_W_UNRESPONSIVE_CARD,
            scard.SCARD_W_UNSUPPORTED_CARD,
            scard.SCARD_E_NO_SMARTCARD,
            scard.SCARD_E_PROTO_MISMATCH,
            scard.SCARD_E_COMM_DATA_LOST,
            scard.SCARD_E_NOT_TRANSACTED,
        ):
            raise MediumLost(self._name, _text(result))
        raise self._gone(result)

    def _gone(self, result: int) -> ReaderGone:
        return ReaderGone(self._name, f"{_text(result)} Check the reader's plug and that pcscd runs")


def _choose(name: str, wanted: str, readers: list[str]) -> str:
    if wanted in readers:
        return wanted
    candidates = [reader for reader in readers if reader.startswith(wanted)]
    if len(candidates) == 1:
        return candidates[0]
    found = ", ".join(repr(reader) for reader in readers) or "none"
    what = "more than one reader has a name like this" if candidates else "no reader has this name"
    raise ReaderGone(name, f"{what}: readers found: {found}")


def _target(atr: bytes, ask_uid: Callable[[], bytes]) -> Target:
    """Make out a card by its ATR; a contact card is not asked for a UID, since it would get the question itself."""
    historical = historical_bytes(atr)
    if not is_contactless(atr):
        return Target(Technology.CONTACT, b"", historical)
    uid = ask_uid()
    type_b = _is_type_b(historical) and len(uid) in (0, _PUPI_BYTES)
    return Target(Technology.TYPE_B if type_b else Technology.TYPE_A, uid, historical)


def _uid(handle: int, pci: int) -> bytes:
    """Ask the reader for the UID or PUPI; empty where it tells none, since a UID is never worth a tap.

    An error of the card or the reader comes again with the first command of the dialogue, which names it.
    """
    result, response = scard.SCardTransmit(handle, pci, list(_GET_UID))
    uid, sw = bytes(response[:-2]), bytes(response[-2:])
    return uid if result == scard.SCARD_S_SUCCESS and sw == _OK and len(uid) in _UID_SIZES else b""


def _is_type_b(historical: bytes) -> bool:
    """Whether these are application data, protocol information and MBLI of an ATQB (PC/SC part 3 §3.1.3.2.3.1).

    Type A may give eight historical bytes too; then the last is seldom a nibble and the protocol seldom ISO 14443-4.
    """
    return len(historical) == 8 and historical[7] & 0x0F == 0 and historical[5] & 0x09 == 0x01


def _text(result: int) -> str:
    return scard.SCardGetErrorMessage(result).strip()

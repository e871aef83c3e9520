"""nfcpy's part of the nfcpy driver: looking for a card and carrying frames, with nfcpy's errors made ours.

Everything here blocks, and belongs to the reader's one thread.
"""

import errno
import logging
import os
import struct
import termios
import threading
import time
from collections.abc import Generator
from typing import TypeVar

import nfc.clf
import usb1
from nfc.clf import pn53x, rcs380, udp

from hardware import isodep
from hardware.isodep_initiator import CardBroken, CardSilent, Fault, Heard, Send
from hardware.medium import MediumLost, MediumTimeout, ReaderGone, Target, Technology

#: Log level of frames, below DEBUG. They may hold certificates: off unless somebody asks.
TRAFFIC = 5
ACTIVATION_WAIT_S = 0.05
#: The slowest answers of a type 2 tag, to a write or an authentication, take 5 to 10 ms.
TAG_WAIT_S = 0.02
PAIR_WAIT_S = 0.2
MAX_GUARD_S = 0.1
#: However often it asks for more time, a card has this long for one APDU.
MAX_APDU_S = 5.0
#: A real reader's chip times the waiting; on the simulated air the clock also counts the scheduler and the air itself.
UDP_SLACK_S = 0.06

#: The device failed, whatever nfcpy's drivers call it.
_DEVICE_ERRORS = (
    OSError,
    usb1.USBError,
    termios.error,
    pn53x.Chipset.Error,
    rcs380.CommunicationError,
    rcs380.StatusError,
    AssertionError,
    AttributeError,
)
#: nfcpy tripped over the bytes of a frame.
_FRAME_ERRORS = (ValueError, LookupError, TypeError, struct.error)

_NEXT_STEPS = {
    errno.ENODEV: "no reader there that this user may use: plug it in, check the udev rule or the group of its device",
    errno.ENOENT: "no such device: plug it in and check the path",
    errno.EACCES: "not permitted: install the udev rule or join the group that owns the device",
    errno.EPERM: "not permitted: install the udev rule or join the group that owns the device",
    errno.EBUSY: "held by another program or by the kernel's pn533 module: stop it or blacklist the module",
}

_LOOKS = {Technology.TYPE_A: nfc.clf.RemoteTarget("106A"), Technology.TYPE_B: nfc.clf.RemoteTarget("106B")}
#: InListPassiveTarget (PN532 user manual UM0701-02 §7.3.5) for two targets: type A; type B of any application family.
_IN_LIST_PASSIVE_TARGET = 0x4A
_TWO_TARGETS = {Technology.TYPE_A: b"\x02\x00", Technology.TYPE_B: b"\x02\x03\x00"}

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Radio:
    """nfcpy's frontend for one device.

    Attributes:
        polls: Looks at the field and presence checks so far.
        activations: Changes with every look: what was activated before it is not any more.
        waited_s: Seconds spent waiting for cards; a look that finds nobody does not count.
        clashed: Whether the last look heard somebody and could single out nobody. Only nfcpy's simulated reader tells.
    """

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._slack_s = UDP_SLACK_S if path.startswith("udp") else 0.0
        self._frontend: nfc.clf.ContactlessFrontend | None = None
        self._max_receive = 0
        self.max_frame = 0
        self.polls = 0
        self.activations = 0
        self.waited_s = 0.0
        self.clashed = False

    def open(self) -> None:
        """Open the device.

        Raises:
            ReaderGone: It is not there, busy, not permitted, or the path means nothing to nfcpy.
        """
        if not _log.isEnabledFor(TRAFFIC):
            # What nfcpy logs as an error also comes as an exception; the rest is a flood. It sets INFO when imported.
            logging.getLogger("nfc").setLevel(logging.CRITICAL)
        try:
            frontend = nfc.clf.ContactlessFrontend()
            if not frontend.open(self._path):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        except (*_FRAME_ERRORS, ImportError) as error:
            what = f"nfcpy does not understand the path {self._path!r}: write usb, tty:AMA0:pn532 or udp:HOST:PORT"
            raise ReaderGone(self._name, what) from error
        except _DEVICE_ERRORS as error:
            raise self._gone(error) from error
        self._frontend = frontend

    def close(self) -> None:
        """Release the device; harmless when closed already."""
        frontend, self._frontend = self._frontend, None
        self.activations += 1
        if frontend is None:
            return
        try:
            frontend.close()
        except (*_DEVICE_ERRORS, *_FRAME_ERRORS) as error:
            _log.debug("%s: closing: %r", self._name, error)

    def sense(self, technology: Technology) -> nfc.clf.RemoteTarget | None:
        """Reset the field and look once for one technology; None if nobody answered intelligibly.

        Raises:
            ReaderGone: The reader failed.
        """
        frontend = self._open_frontend()
        self.polls += 1
        self.activations += 1
        self.clashed = False
        started = time.perf_counter()
        try:
            found = frontend.sense(_LOOKS[technology], iterations=1)
            if found is None:
                self.clashed = isinstance(frontend.device, udp.Device) and frontend.device.rcvd_data > 0
                return None
            self.max_frame, self._max_receive = frontend.max_send_data_size, frontend.max_recv_data_size
        except (nfc.clf.Error, *_FRAME_ERRORS) as error:
            _log.debug("%s: a poll came to nothing: %r", self._name, error)
            return None
        except _DEVICE_ERRORS as error:
            raise self._gone(error) from error
        self.waited_s += time.perf_counter() - started
        return found

    def pair(self, technology: Technology) -> bool:
        """Reset the field and ask a PN53x for two cards of one technology; False where there is no way to tell.

        Afterwards nothing is activated. The chip's firmware is known to answer this every second time only, so that it
        is for a moment when the tap has failed anyway, and no answer says nothing about the reader.
        """
        frontend = self._open_frontend()
        device = frontend.device
        if not isinstance(device, pn53x.Device) or device.chipset.in_list_passive_target_max_target < 2:
            return False
        self.polls += 1
        self.activations += 1
        try:
            with frontend.lock:
                frontend.target = None
                device.mute()
                answer = device.chipset.command(_IN_LIST_PASSIVE_TARGET, _TWO_TARGETS[technology], PAIR_WAIT_S)
        except (*_DEVICE_ERRORS, *_FRAME_ERRORS) as error:
            _log.debug("%s: asking for two cards came to nothing: %r", self._name, error)
            return False
        return answer is not None and answer[:1] == b"\x02"

    def activate(self, technology: Technology, found: nfc.clf.RemoteTarget) -> isodep.Link:
        """Bring what `sense` found into the protocol state.

        Raises:
            IsoDepError: It answers something else.
            MediumLost: It does not answer.
            ReaderGone: The reader failed.
        """
        fsdi = isodep.size_index(self._max_receive)
        if technology is Technology.TYPE_A:
            return isodep.Ats.from_bytes(self._request(isodep.rats(fsdi))).link
        atqb = isodep.Atqb.from_bytes(bytes(found.sensb_res or b""))
        isodep.check_attrib_answer(self._request(isodep.attrib(atqb, fsdi)))
        return atqb.link

    def talk(self, dialogue: Generator[Send, Heard, _T], stop: threading.Event, *, patient: bool = True) -> _T:
        """Carry the frames of one verb of the initiator, for 5 s at most.

        Args:
            dialogue: The verb.
            stop: Set when nobody wants the result any more.
            patient: Whether the simulated air gets its extra time.

        Raises:
            MediumLost: The medium left, or a transmission could not be repaired.
            MediumTimeout: It keeps asking for more time.
            ReaderGone: The reader failed.
        """
        deadline = time.perf_counter() + MAX_APDU_S
        slack_s = self._slack_s if patient else 0.0
        try:
            send = next(dialogue)
            while not stop.is_set():
                left_s = deadline - time.perf_counter()
                if left_s <= 0:
                    raise MediumTimeout(self._name, f"no response within {MAX_APDU_S} s")
                send = dialogue.send(self._exchange(send.frame, min(send.wait_s + slack_s, left_s)))
        except StopIteration as done:
            value: _T = done.value
            return value
        except (CardSilent, CardBroken) as error:
            raise MediumLost(self._name, str(error)) from error
        raise MediumLost(self._name, "the exchange was given up")

    def carry(self, frame: bytes) -> Heard:
        """Carry one frame to a type 2 tag, and its answer back; an acknowledgement is one byte below 0x10.

        Raises:
            MediumLost: The tag left the field.
            ReaderGone: The reader failed.
        """
        return self._exchange(frame, TAG_WAIT_S + self._slack_s)

    def rest(self, guard_s: float, stop: threading.Event) -> None:
        """Leave the card alone for its guard time, 100 ms at most."""
        if guard_s > 0:
            started = time.perf_counter()
            stop.wait(min(guard_s, MAX_GUARD_S))
            self.waited_s += time.perf_counter() - started

    def _request(self, frame: bytes) -> bytes:
        heard = self._exchange(frame, ACTIVATION_WAIT_S + self._slack_s)
        if isinstance(heard, Fault):
            raise MediumLost(self._name, f"{heard.value} where activation should be answered")
        return heard

    def _exchange(self, frame: bytes, wait_s: float) -> Heard:
        frontend = self._open_frontend()
        _log.log(TRAFFIC, "%s > %s", self._name, frame.hex())
        started = time.perf_counter()
        heard: Heard
        try:
            answer = frontend.exchange(frame, wait_s)
            heard = Fault.GARBLED if answer is None else bytes(answer)
        except nfc.clf.TimeoutError:
            heard = Fault.SILENCE
        except nfc.clf.BrokenLinkError as error:
            raise MediumLost(self._name, "the medium left the field") from error
        except (nfc.clf.Error, *_FRAME_ERRORS):
            heard = Fault.GARBLED
        except _DEVICE_ERRORS as error:
            raise self._gone(error) from error
        finally:
            self.waited_s += time.perf_counter() - started
        _log.log(TRAFFIC, "%s < %s", self._name, heard.value if isinstance(heard, Fault) else heard.hex())
        return heard

    def _open_frontend(self) -> nfc.clf.ContactlessFrontend:
        if self._frontend is None:
            raise ReaderGone(self._name, "not open")
        return self._frontend

    def _gone(self, error: BaseException) -> ReaderGone:
        number = error.errno if isinstance(error, OSError) else None
        step = _NEXT_STEPS.get(number or 0, "the reader does not answer: check its cable and power, then open it again")
        return ReaderGone(self._name, f"{self._path}: {step} ({error!r})")


def speaks_iso_dep(technology: Technology, found: nfc.clf.RemoteTarget) -> bool:
    """Whether SAK bit 6 (type A) or the protocol type (type B) promises ISO/IEC 14443-4."""
    if technology is Technology.TYPE_A:
        return bool(found.sel_res and found.sel_res[0] & isodep.ISO_DEP_SAK_BIT)
    return isodep.Atqb.from_bytes(bytes(found.sensb_res or b"")).iso_dep


def describe(technology: Technology, found: nfc.clf.RemoteTarget) -> Target:
    """Say what anticollision found; a type 1 tag has its UID in the answer to RID, and no SAK."""
    if technology is Technology.TYPE_A:
        sak = found.sel_res[0] if found.sel_res else None
        uid = bytes(found.sdd_res or (found.rid_res or b"")[2:6])
        return Target(technology, uid, b"", sak, apdus=sak is None or bool(sak & isodep.ISO_DEP_SAK_BIT))
    atqb = bytes(found.sensb_res or b"")
    return Target(technology, atqb[1:5], atqb[5:9])

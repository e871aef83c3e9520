"""An NTAG 424 DNA in software (NXP NT4H2421Gx rev. 3.0), in AES mode: what a gate, a bureau and a phone ask of it."""

import secrets
from collections.abc import Callable, Sequence

from hardware import ev2
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu
from hardware.ev2 import CLA, CommMode, Ev2Error, Ins, Session, Status
from hardware.virtual.chip import Answer
from hardware.virtual.ntag424_files import (
    FREE,
    MASTER_KEY,
    MAX_READ_COUNTER,
    NDEF_FILE,
    NEVER,
    DynamicMessage,
    SettingsError,
    StandardFile,
    as_delivered,
    issued,
)
from hardware.virtual.ntag424_keys import KEY_COUNT, KeyRing, Refused

APPLICATION = bytes.fromhex("D2760000850101")
PICC = bytes.fromhex("D2760000850100")
SIGNATURE_BYTES = 56

DELAY_S = 0.65 * 256 * 16 / 13.56e6 * 2**7
"""One delayed answer: 65 % of the frame waiting time (§9), which is FWI 7 (§10.4)."""

_INS_SELECT, _INS_READ_BINARY = 0xA4, 0xB0

_HISTORICAL = b"\x80"
"""The real ATS is ``06 77 77 71 02 80``, as readers of the tag report it: FSCI 7, FWI 7, CID, and this one byte."""

_HARDWARE_VERSION = bytes.fromhex("04040230001105")
_SOFTWARE_VERSION = bytes.fromhex("04040201021105")
_PRODUCTION = bytes.fromhex("CF5CD45560") + bytes([0x2A, 0x26])
"""Batch, week and year of production (§10.5.2, table 58)."""

_READ_HEADER = 7  # FileNo, Offset, Length


class Ntag424Chip:
    """An NTAG 424 DNA, a `hardware.virtual.chip.Chip`.

    Args:
        uid: The true UID, 7 bytes.
        keys: The five application keys, 16 bytes each.
        token: What an issued card's token file holds, 16 bytes. None leaves the files as NXP delivers them, for a
            bureau to personalise.
        versions: Version bytes of the keys.
        ndef: What the NDEF file begins with: its length in two bytes, and the message.
        message: The dynamic message that the NDEF file mirrors; None for none.
        signature: NXP's originality signature over the UID, 56 bytes; None leaves Read_Sig out.
        compute_s: Seconds that a command with cryptography takes.
        random: Returns that many random bytes.

    Raises:
        ValueError: A length is wrong, or the dynamic message does not fit its file.
    """

    def __init__(
        self,
        uid: bytes,
        keys: Sequence[bytes],
        token: bytes | None,
        *,
        versions: Sequence[int] = (0,) * KEY_COUNT,
        ndef: bytes = b"\0\0",
        message: DynamicMessage | None = None,
        signature: bytes | None = None,
        compute_s: float = 0.0,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if len(uid) != ev2.UID_BYTES:
            raise ValueError(f"a UID of {len(uid)} bytes: it has {ev2.UID_BYTES}")
        if signature is not None and len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"a signature of {len(signature)} bytes: it has {SIGNATURE_BYTES}")
        self._uid, self._signature, self._compute_s, self._random = uid, signature, compute_s, random
        self._keys = KeyRing(keys, versions, random)
        self._files = as_delivered() if token is None else issued(token)
        file = self._files[NDEF_FILE]
        if len(ndef) > len(file.content):
            raise ValueError(f"{len(ndef)} bytes do not fit the NDEF file of {len(file.content)}")
        file.content[: len(ndef)] = ndef
        if message is not None:
            message.check(len(file.content))
            file.message = message
        self._commands: dict[int, Callable[[bytes], bytes]] = {
            Ins.AUTHENTICATE_FIRST: self._authenticate_first,
            Ins.AUTHENTICATE_NON_FIRST: self._authenticate_non_first,
            Ins.READ_DATA: self._read_data,
            Ins.WRITE_DATA: self._write_data,
            Ins.CHANGE_KEY: self._change_key,
            Ins.GET_FILE_SETTINGS: self._get_file_settings,
            Ins.CHANGE_FILE_SETTINGS: self._change_file_settings,
            Ins.GET_VERSION: self._get_version,
            Ins.GET_CARD_UID: self._get_card_uid,
            Ins.READ_SIG: self._read_signature,
        }
        self._in_application = False
        self._current: StandardFile | None = None
        self._session: Session | None = None
        self._session_key = NEVER
        self._frames: list[bytes] = []
        self._last_read: tuple[int, int] | None = None
        self._padding = b""

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR."""
        return _HISTORICAL

    def reset(self) -> None:
        """Power was removed: nothing is selected, authenticated or pending; counters, keys and files stay."""
        self._in_application, self._current = False, None
        self._drop_session()
        self._abort()
        self._last_read = None

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return Answer(SW.WRONG_LENGTH.to_bytes(2))
        native = apdu.cla == CLA
        if apdu.ins not in (Ins.READ_DATA, _INS_READ_BINARY):
            self._last_read = None
        works = native and (self._session is not None or self._keys.pending or apdu.ins == Ins.AUTHENTICATE_FIRST)
        try:
            response = self._native(apdu) if native else self._inter_industry(apdu)
        except Refused as refused:
            if native:
                self._drop_session()  # §9.1.9: any error ends the authentication
            pause_s = DELAY_S if refused.sw == Status.AUTHENTICATION_DELAY else 0.0
            return Answer(refused.sw.to_bytes(2), pause_s)
        return Answer(response, self._compute_s if works else 0.0)

    def _native(self, apdu: CommandApdu) -> bytes:
        if apdu.ins == Ins.ADDITIONAL_FRAME:
            return self._go_on(apdu.data)
        if self._abort():
            raise Refused(Status.COMMAND_ABORTED)
        if apdu.ins not in self._commands:
            raise Refused(Status.ILLEGAL_COMMAND_CODE)
        if (apdu.p1, apdu.p2) != (0, 0):
            raise Refused(Status.PARAMETER_ERROR)
        return self._commands[apdu.ins](apdu.data)

    def _go_on(self, data: bytes) -> bytes:
        """The second part of an authentication, or the next frame of an answer."""
        if self._keys.pending:
            self._session, self._session_key, answer = self._keys.finish(data)
            return answer + Status.OK.to_bytes(2)
        if not self._frames or data:
            self._abort()
            raise Refused(Status.COMMAND_ABORTED)
        frame = self._frames.pop(0)
        return frame + (Status.ADDITIONAL_FRAME if self._frames else Status.OK).to_bytes(2)

    def _authenticate_first(self, data: bytes) -> bytes:
        """§10.4.1, part 1: KeyNo, LenCap, PCDcap2."""
        if len(data) < 2 or len(data) != 2 + data[1] or data[1] > ev2.CAPABILITY_BYTES:
            raise Refused(Status.LENGTH_ERROR)
        return self._begin_authentication(data[0], None)

    def _authenticate_non_first(self, data: bytes) -> bytes:
        """§10.4.2, part 1: KeyNo. The transaction and its counter go on."""
        if len(data) != 1:
            raise Refused(Status.LENGTH_ERROR)
        if self._session is None:
            raise Refused(Status.PERMISSION_DENIED)
        return self._begin_authentication(data[0], self._session)

    def _begin_authentication(self, number: int, carried_on: Session | None) -> bytes:
        if not self._in_application:
            raise Refused(Status.NO_SUCH_KEY)
        answer = self._keys.begin(number, carried_on)
        self._session, self._session_key = None, NEVER
        return answer + Status.ADDITIONAL_FRAME.to_bytes(2)

    def _abort(self) -> bool:
        """Give up what was to go on, if anything was."""
        ongoing = self._keys.pending or bool(self._frames)
        self._keys.abort()
        self._frames = []
        return ongoing

    def _read_data(self, data: bytes) -> bytes:
        """§10.8.1: FileNo, Offset, Length; a length of zero asks for the rest."""
        number, file = self._file(data)
        mode = self._mode(file, file.access.read, file.access.read_write, dynamic=True)
        header, _ = self._opened(mode, Ins.READ_DATA, data, _READ_HEADER, exact=True)
        offset, length = (int.from_bytes(header[at : at + 3], "little") for at in (1, 4))
        if offset + length > len(file.content) or offset == len(file.content):
            raise Refused(Status.BOUNDARY_ERROR)
        content = self._content(Ins.READ_DATA, number, file, (Status.INTEGRITY_ERROR, Status.PERMISSION_DENIED))
        part = content[offset : offset + length] if length else content[offset:]
        answer = self._sealed(mode, part)
        if len(answer) > SHORT_LE_MAX:
            raise Refused(Status.LENGTH_ERROR)
        return answer + Status.OK.to_bytes(2)

    def _write_data(self, data: bytes) -> bytes:
        """§10.8.2: FileNo, Offset, Length, and the octets."""
        _, file = self._file(data)
        mode = self._mode(file, file.access.write, file.access.read_write)
        header, octets = self._opened(mode, Ins.WRITE_DATA, data, _READ_HEADER)
        offset, length = (int.from_bytes(header[at : at + 3], "little") for at in (1, 4))
        if length != len(octets) or not length:
            raise Refused(Status.LENGTH_ERROR)
        if offset + length > len(file.content):
            raise Refused(Status.BOUNDARY_ERROR)
        file.content[offset : offset + length] = octets
        return self._sealed(mode) + Status.OK.to_bytes(2)

    def _change_key(self, data: bytes) -> bytes:
        """§10.6.1. A key other than the master key comes masked by the one that it replaces, with its checksum."""
        header, octets = self._as_master(Ins.CHANGE_KEY, data, MASTER_KEY)
        number = header[0]
        if len(octets) != ev2.KEY_BYTES + (1 if number == MASTER_KEY else 5):
            raise Refused(Status.LENGTH_ERROR)
        new, version, checksum = octets[:16], octets[16], octets[17:]
        if number == MASTER_KEY:
            self._keys.replace(number, new, version)
            self._drop_session()  # it was opened with the key that is gone
            return Status.OK.to_bytes(2)
        self._keys.replace(number, self._keys.unmasked(number, new, checksum), version)
        return self._sealed(CommMode.FULL) + Status.OK.to_bytes(2)

    def _get_file_settings(self, data: bytes) -> bytes:
        """§10.7.2: FileNo."""
        _, file = self._file(data)
        mode = CommMode.MAC if self._session else CommMode.PLAIN
        self._opened(mode, Ins.GET_FILE_SETTINGS, data, 1, exact=True)
        return self._sealed(mode, file.settings) + Status.OK.to_bytes(2)

    def _change_file_settings(self, data: bytes) -> bytes:
        """§10.7.1: FileNo and the settings."""
        _, file = self._file(data)
        if file.access.change == NEVER:
            raise Refused(Status.PERMISSION_DENIED)
        _, octets = self._as_master(Ins.CHANGE_FILE_SETTINGS, data, file.access.change)
        try:
            file.change_settings(octets)
        except SettingsError:
            raise Refused(Status.PARAMETER_ERROR) from None
        return self._sealed(CommMode.FULL) + Status.OK.to_bytes(2)

    def _get_version(self, data: bytes) -> bytes:
        """§10.5.2: three frames; the MAC, where there is one, follows the last and covers all."""
        mode = CommMode.MAC if self._session else CommMode.PLAIN
        self._opened(mode, Ins.GET_VERSION, data, 0, exact=True)
        whole = _HARDWARE_VERSION + _SOFTWARE_VERSION + self._uid + _PRODUCTION
        sealed = self._sealed(mode, whole)
        self._frames = [sealed[7:14], sealed[14:]]
        return sealed[:7] + Status.ADDITIONAL_FRAME.to_bytes(2)

    def _get_card_uid(self, data: bytes) -> bytes:
        """§10.5.3."""
        if self._session is None:
            raise Refused(Status.AUTHENTICATION_ERROR)
        self._opened(CommMode.FULL, Ins.GET_CARD_UID, data, 0, exact=True)
        return self._sealed(CommMode.FULL, self._uid) + Status.OK.to_bytes(2)

    def _read_signature(self, data: bytes) -> bytes:
        """§10.10.1: the address is zero. Without a session the status word is another one."""
        if self._signature is None:
            raise Refused(Status.ILLEGAL_COMMAND_CODE)
        mode, status = (CommMode.FULL, Status.OK) if self._session else (CommMode.PLAIN, Status.SIGNATURE)
        header, _ = self._opened(mode, Ins.READ_SIG, data, 1, exact=True)
        if header != b"\0":
            raise Refused(Status.PARAMETER_ERROR)
        return self._sealed(mode, self._signature) + status.to_bytes(2)

    def _as_master(self, ins: Ins, data: bytes, number: int) -> tuple[bytes, bytes]:
        """Open a command in CommMode.FULL that calls for a certain key; its header is one byte."""
        if self._session is None or self._session_key != number:
            raise Refused(Status.AUTHENTICATION_ERROR)
        return self._opened(CommMode.FULL, ins, data, 1)

    def _opened(
        self, mode: CommMode, ins: Ins, data: bytes, header_bytes: int, *, exact: bool = False
    ) -> tuple[bytes, bytes]:
        """Verify a command; without a session there is nothing to verify and nothing to count."""
        if len(data) < header_bytes or (exact and len(data) - header_bytes not in (0, ev2.MAC_BYTES)):
            raise Refused(Status.LENGTH_ERROR)
        if self._session is None:
            header, octets = data[:header_bytes], data[header_bytes:]
        else:
            try:
                header, octets = self._session.open_command(mode, ins, data, header_bytes)
            except Ev2Error:
                raise Refused(Status.INTEGRITY_ERROR) from None
        if exact and octets:
            raise Refused(Status.LENGTH_ERROR)
        return header, octets

    def _sealed(self, mode: CommMode, data: bytes = b"") -> bytes:
        return data if self._session is None else self._session.seal_response(mode, data)

    def _mode(self, file: StandardFile, *rights: int, dynamic: bool = False) -> CommMode:
        """How a file has to be spoken of now (§8.2.3.3, §8.2.3.5); free access is plain.

        Raises:
            Refused: Whoever is authenticated, if anybody, has none of these rights.
        """
        if self._session is not None and self._session_key in rights:
            return file.mode
        message = file.message if dynamic and self._session is None else None
        if FREE in rights or (message is not None and message.file_key != NEVER):
            return CommMode.PLAIN
        raise Refused(Status.PERMISSION_DENIED if set(rights) == {NEVER} else Status.AUTHENTICATION_ERROR)

    def _content(self, ins: int, number: int, file: StandardFile, refusals: tuple[int, int]) -> bytes:
        """What a read of a file sees: the octets, or freely and with a dynamic message, what it mirrors (§9.3.1).

        Raises:
            Refused: The read counter is at its own end, or at the limit that was set.
        """
        if self._session is not None or file.message is None:
            return bytes(file.content)
        if self._last_read != (ins, number):
            limit = file.message.limit
            if file.read_counter >= (MAX_READ_COUNTER if limit is None else limit):
                raise Refused(refusals[limit is not None])
            file.read_counter += 1
            self._padding = self._random(ev2.KEY_BYTES)
            self._last_read = ins, number
        return file.mirrored(self._uid, self._padding, self._keys.octets)

    def _file(self, data: bytes) -> tuple[int, StandardFile]:
        if not data:
            raise Refused(Status.LENGTH_ERROR)
        if not self._in_application:
            raise Refused(Status.PERMISSION_DENIED)
        if data[0] not in self._files:
            raise Refused(Status.FILE_NOT_FOUND)
        return data[0], self._files[data[0]]

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.wipe()
        self._session, self._session_key = None, NEVER

    def _inter_industry(self, apdu: CommandApdu) -> bytes:
        if apdu.cla != 0:
            raise Refused(SW.CLASS_NOT_SUPPORTED)
        if self._abort():
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if apdu.ins == _INS_SELECT:
            self._select(apdu)
            return SW.OK.to_bytes(2)
        if apdu.ins == _INS_READ_BINARY:
            return self._read_binary(apdu) + SW.OK.to_bytes(2)
        raise Refused(SW.INSTRUCTION_NOT_SUPPORTED)

    def _select(self, apdu: CommandApdu) -> None:
        """§10.9.1: by name, or a file by its identifier; whatever is not found changes nothing."""
        if apdu.p2 not in (0x00, 0x0C):
            raise Refused(SW.INCORRECT_P1_P2)
        if apdu.p1 == 0x04 and apdu.data in (APPLICATION, PICC):
            self._drop_session()
            self._in_application, self._current = apdu.data == APPLICATION, None
        elif apdu.p1 in (0x00, 0x02) and self._in_application and len(apdu.data) == 2:
            self._current = self._file_of(int.from_bytes(apdu.data))
        elif apdu.p1 in (0x00, 0x02, 0x04):
            raise Refused(SW.FILE_NOT_FOUND)
        else:
            raise Refused(SW.INCORRECT_P1_P2)

    def _read_binary(self, apdu: CommandApdu) -> bytes:
        """§10.9.2: always plain, and only what is free to read."""
        if apdu.p1 & 0x80:
            self._current, offset = self._file_of(0xE100 | apdu.p1 & 0x1F), apdu.p2
        else:
            offset = apdu.p1 << 8 | apdu.p2
        file = self._current
        if file is None or apdu.data:
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        dynamic = file.message is not None and file.message.file_key != NEVER
        if self._session is not None or not (FREE in (file.access.read, file.access.read_write) or dynamic):
            raise Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        if offset >= len(file.content):
            raise Refused(SW.INCORRECT_P1_P2)
        refused = SW.SECURITY_STATUS_NOT_SATISFIED
        content = self._content(_INS_READ_BINARY, file.iso_id, file, (refused, refused))
        return content[offset : offset + (apdu.le or SHORT_LE_MAX)]

    def _file_of(self, iso_id: int) -> StandardFile:
        for file in self._files.values():
            if file.iso_id == iso_id and self._in_application:
                return file
        raise Refused(SW.FILE_NOT_FOUND)

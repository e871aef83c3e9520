"""The card's side of PACE and of the session after it, for chips in software to build in.

A chip hands each command to `PaceCard.process`, with its application as a function of plain commands, and sends what
comes back. Long answers it cuts up itself, after they were sealed, so that it may answer GET RESPONSE before or in its
application.

The state: nothing, a run under way, a session. MSE:Set AT with a mechanism begins a run. A wrong CAN shows at the last
step as 6300, and the run is over. In a session only sealed commands are heard, and go to the application opened; a
plain one ends it, and then goes to the application as it would have without. A message that is sealed wrongly is
answered in plain, 6987 or 6988, and ends the session as well.
"""

import hmac
import os
from collections.abc import Callable, Mapping, Sequence

from hardware import pace, tlv
from hardware.apdu import CHAINING, INS_GET_RESPONSE, SW, CommandApdu, ResponseApdu
from hardware.pace import PaceError, PaceInfo, PasswordKind
from hardware.pace_party import Party
from hardware.secure_messaging import SecureChannel, SecureMessagingError
from hardware.tlv import TlvError

Application = Callable[[CommandApdu], ResponseApdu]
"""What a chip does with a plain command."""

Random = Callable[[int], bytes]

_SW_AUTHENTICATION_FAILED = 0x6300
_SW_SECURE_MESSAGING_NOT_SUPPORTED = 0x6882
_SW_OBJECTS_MISSING = 0x6987
_SW_OBJECTS_WRONG = 0x6988

_CLASS_SECURED = 0x0C
_NONCE_BYTES = 16


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class _Run:
    """One run of PACE, between MSE:Set AT and the card's token."""

    def __init__(self, suite: PaceInfo, nonce: bytes, encrypted: bytes, random: Random) -> None:
        self._suite = suite
        self._nonce, self._encrypted = nonce, encrypted
        self._party = Party(suite, random)
        self._own_key = b""
        self._steps = 0

    @property
    def finished(self) -> bool:
        """Whether the terminal showed its token, and it fitted."""
        return self._steps == 4

    def channel(self) -> SecureChannel:
        """Open the session that the run led to."""
        return self._party.channel()

    def wipe(self) -> None:
        """Forget the keys; a channel lives on."""
        self._party.wipe()

    def answer(self, template: bytes, *, chained: bool, chip_key: int | None) -> bytes:
        """Answer one GENERAL AUTHENTICATE: the content of its template for the content of ours.

        Raises:
            _Refused: It is not the step that is due, or the token is wrong.
            PaceError: A key is none.
            TlvError: The template is malformed.
        """
        if chained is (self._steps == 3):  # the last link, and only the last, is not chained
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        items = tlv.parse(template)
        match self._steps, [item.tag for item in items]:
            case 0, []:
                answer = tlv.encode(pace.ENCRYPTED_NONCE, self._encrypted)
            case 1, [pace.MAPPING_BY_TERMINAL]:
                self._own_key = self._party.map(self._nonce, items[0].value)
                answer = tlv.encode(pace.MAPPING_BY_CARD, self._party.mapping_point)
            case 2, [pace.KEY_BY_TERMINAL]:
                self._party.agree(items[0].value)
                answer = tlv.encode(pace.KEY_BY_CARD, self._own_key)
            case 3, [pace.TOKEN_BY_TERMINAL]:
                answer = self._last(items[0].value, chip_key)
            case _:
                raise _Refused(SW.INCORRECT_DATA)
        self._steps += 1
        return answer

    def _last(self, token: bytes, chip_key: int | None) -> bytes:
        if not hmac.compare_digest(token, self._party.expected_token):
            raise _Refused(_SW_AUTHENTICATION_FAILED)
        answer = tlv.encode(pace.TOKEN_BY_CARD, self._party.own_token)
        if self._suite.mapping is pace.Mapping.CAM and chip_key is not None:
            answer += tlv.encode(pace.CHIP_AUTHENTICATION_DATA, self._party.seal_chip_data(chip_key))
        return answer


class PaceCard:
    """PACE and secure messaging of one card.

    Args:
        infos: The suites that it speaks; `card_access` lists them.
        can: Its card access number, digits in ASCII; None is a card without one.
        mrz: What PACE makes its key of, from its machine-readable zone; None is a card without one.
        random: Returns that many random bytes: in each run for the nonce, the mapping and the agreement, in this order.
        nonce_bytes: Length of the nonce: whole blocks.
        chip_key: Private number of the key for chip authentication mapping, over the suite's own curve; None is a card
            that leaves the data out.
        card_access: Content of EF.CardAccess where it is more than `infos`: padding, other protocols.
    """

    def __init__(
        self,
        infos: Sequence[PaceInfo],
        *,
        can: bytes | None = None,
        mrz: bytes | None = None,
        random: Random = os.urandom,
        nonce_bytes: int = _NONCE_BYTES,
        chip_key: int | None = None,
        card_access: bytes | None = None,
    ) -> None:
        self._infos = tuple(infos)
        secrets = {PasswordKind.CAN: can, PasswordKind.MRZ: mrz}
        self._secrets: Mapping[int, bytes] = {kind: secret for kind, secret in secrets.items() if secret is not None}
        self._random = random
        self._nonce_bytes = nonce_bytes
        self._chip_key = chip_key
        self._card_access = pace.encode_card_access(infos) if card_access is None else card_access
        self._run: _Run | None = None
        self._channel: SecureChannel | None = None
        self._kind: PasswordKind | None = None

    @property
    def card_access(self) -> bytes:
        """Content of EF.CardAccess."""
        return self._card_access

    @property
    def established(self) -> bool:
        """Whether there is a session: in the application, whether the command came sealed."""
        return self._channel is not None

    @property
    def password(self) -> PasswordKind | None:
        """Which password opened the session; None without one."""
        return self._kind if self.established else None

    def reset(self) -> None:
        """Power was removed."""
        self._end_run()
        self._end_session()

    def process(self, command: CommandApdu, application: Application) -> ResponseApdu:
        """Answer one command.

        Args:
            command: As it came.
            application: Answers plain commands; what it answers to a sealed one is sealed.
        """
        if command.cla & _CLASS_SECURED == _CLASS_SECURED:
            return self._sealed(command, application)
        if command.ins == INS_GET_RESPONSE:  # transport, outside the session
            return application(command)
        self._end_session()
        return self._plain(command, application)

    def _sealed(self, command: CommandApdu, application: Application) -> ResponseApdu:
        self._end_run()
        channel = self._channel
        if channel is None:
            return ResponseApdu(b"", _SW_SECURE_MESSAGING_NOT_SUPPORTED)
        try:
            plain = channel.open_command(command)
        except SecureMessagingError:
            self._end_session()
            return ResponseApdu(b"", _SW_OBJECTS_WRONG if command.data else _SW_OBJECTS_MISSING)
        return channel.seal_response(application(plain))

    def _plain(self, command: CommandApdu, application: Application) -> ResponseApdu:
        run, self._run = self._run, None
        try:
            if _begins_run(command):
                self._run = self._begin(command)
                return ResponseApdu(b"", SW.OK)
            if run is None or command.ins != pace.INS_GENERAL_AUTHENTICATE:
                return application(command)
            return self._authenticate(run, command)
        except _Refused as refused:
            return ResponseApdu(b"", refused.sw)
        except (TlvError, PaceError):
            return ResponseApdu(b"", SW.INCORRECT_DATA)
        finally:
            if run is not None and self._run is not run:
                run.wipe()

    def _begin(self, command: CommandApdu) -> _Run:
        """MSE:Set AT (TR-03110-3 §B.11.1). The parameters may go unnamed where one suite alone has the mechanism."""
        items = tlv.parse(command.data)
        objects = {item.tag: item.value for item in items}
        if len(objects) != len(items) or pace.PASSWORD not in objects:
            raise _Refused(SW.INCORRECT_DATA)
        suites = [info for info in self._infos if info.oid == objects[pace.MECHANISM]]
        if not suites:
            raise _Refused(SW.INCORRECT_DATA)
        if pace.PARAMETERS in objects:
            suites = [info for info in suites if info.parameter_id == int.from_bytes(objects[pace.PARAMETERS])]
        kind = int.from_bytes(objects[pace.PASSWORD])
        if len(suites) != 1 or kind not in self._secrets:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._kind = PasswordKind(kind)
        key = pace.password_key(self._kind, self._secrets[kind], suites[0].key_bytes)
        nonce = self._random(self._nonce_bytes)
        return _Run(suites[0], nonce, pace.seal_nonce(key, nonce), self._random)

    def _authenticate(self, run: _Run, command: CommandApdu) -> ResponseApdu:
        if (command.p1, command.p2) != (0, 0):
            raise _Refused(SW.INCORRECT_P1_P2)
        template = tlv.parse_one(command.data, pace.DYNAMIC_AUTHENTICATION)
        content = run.answer(template, chained=bool(command.cla & CHAINING), chip_key=self._chip_key)
        if run.finished:
            self._channel = run.channel()
        else:
            self._run = run
        return ResponseApdu(tlv.encode(pace.DYNAMIC_AUTHENTICATION, content), SW.OK)

    def _end_run(self) -> None:
        if self._run is not None:
            self._run.wipe()
            self._run = None

    def _end_session(self) -> None:
        if self._channel is not None:
            self._channel.wipe()
            self._channel = None


def _begins_run(command: CommandApdu) -> bool:
    """Whether this is MSE:Set AT with a mechanism; without one it is another protocol's, and the application's."""
    header = (command.ins, command.p1, command.p2)
    if header != (pace.INS_MANAGE_SECURITY_ENVIRONMENT, *pace.SET_AUTHENTICATION_TEMPLATE):
        return False
    try:
        return tlv.find(command.data, pace.MECHANISM) is not None
    except TlvError:
        return False

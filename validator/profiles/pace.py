"""PACE and secure messaging as parts of a dialogue: what a family's profile puts around its own commands.

The suite is read from EF.CardAccess, never assumed. A password is tried once: a card that does not accept it answers so
at the last step, `WrongCan`, and a card that leaves before is a lost card. What fails in the middle is the card's
fault, not the password's: a wrong password leads every step but the last one through.
"""

import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

from hardware import pace, tlv
from hardware.apdu import (
    CHAINING,
    SHORT_LE_MAX,
    SW,
    ApduError,
    ApduExchange,
    CommandApdu,
    ResponseApdu,
    drain,
    exchange,
    send,
)
from hardware.pace import Mapping, PaceError, PaceInfo, PasswordKind
from hardware.pace_party import Party
from hardware.secure_messaging import Secret, SecureChannel, SecureMessagingError
from hardware.tlv import TlvError
from validator.profiles.errors import CardMalformed, CardRefused, WrongCan

Result = TypeVar("Result")
Dialogue = Generator[CommandApdu, ResponseApdu, Result]
"""APDUs in clear, and what comes of them."""

_SELECT_CARD_ACCESS = CommandApdu(0x00, 0xA4, 0x02, 0x0C, pace.EF_CARD_ACCESS)
_INS_READ_BINARY = 0xB0
_SW_END_OF_FILE = 0x6282  # fewer bytes than Le asked for
_SW_NOT_AUTHENTICATED = 0x63  # SW1: 6300, or 63Cx with tries that a CAN does not have
_MAX_READS = 16

_CERTIFICATION_AUTHORITIES = frozenset({0x87, 0x88})  # for terminal authentication, which is not done
_LAST_ANSWER = _CERTIFICATION_AUTHORITIES | {pace.TOKEN_BY_CARD, pace.CHIP_AUTHENTICATION_DATA}


@dataclass(frozen=True, slots=True, eq=False)
class Established:
    """A session, and what proves it. Who has it wipes its channel when the dialogue is over.

    Attributes:
        channel: For `through`.
        expected: The card's token as it had to be, 8 bytes.
        received: As it came. It was compared already.
        mapping_key: The card's public key of the mapping, ``04 || X || Y``: what chip authentication data speak of.
        chip_data: CA_IC, decrypted, for `hardware.pace.verify_chip_data`; None with generic mapping.
    """

    channel: SecureChannel = field(repr=False)
    expected: bytes
    received: bytes
    mapping_key: bytes
    chip_data: bytes | None


def read_card_access() -> Dialogue[tuple[PaceInfo, ...]]:
    """Select EF.CardAccess in the current directory, which after a reset is the master file, and read it.

    Returns:
        The suites that are spoken here, in the card's order; empty where there are none.

    Raises:
        CardRefused: There is no such file, or it cannot be read.
        CardMalformed: It is no SET of SecurityInfo, or ends early.
    """
    try:
        selected = yield from exchange(_SELECT_CARD_ACCESS)
        if not selected.ok:
            raise CardRefused("SELECT EF.CardAccess", selected.sw)
        content = b""
        for _ in range(_MAX_READS):
            part = yield from exchange(_read_binary(len(content)))
            if part.sw not in (SW.OK, _SW_END_OF_FILE):
                raise CardRefused("READ BINARY EF.CardAccess", part.sw)
            content += part.data
            if not part.data:
                break
            if len(content) >= pace.card_access_length(content):
                return pace.parse_card_access(content)
    except (ApduError, PaceError) as error:
        raise CardMalformed(str(error)) from None
    raise CardMalformed("EF.CardAccess ends early")


def establish(
    info: PaceInfo,
    kind: PasswordKind,
    secret: Secret,
    random: Callable[[int], bytes],
    *,
    name_parameters: bool = True,
) -> Dialogue[Established]:
    """Run PACE once.

    Args:
        info: A suite from EF.CardAccess.
        kind: CAN or MRZ. A PIN has tries, which are not spent here.
        secret: See `hardware.pace.password_key`.
        random: Returns that many fresh random bytes.
        name_parameters: Whether MSE:Set AT names the domain parameters (object 84). A card that holds several needs it;
            some that hold one do not take it.

    Returns:
        The session.

    Raises:
        WrongCan: The card did not accept the password.
        CardRefused: It refused a command before that.
        CardMalformed: An answer is not PACE's, or its token does not fit.
        ValueError: The password has tries, or the suite is not one that `read_card_access` gave.
    """
    if kind not in (PasswordKind.CAN, PasswordKind.MRZ):
        raise ValueError("a password that has tries")
    party = Party(info, random)
    key = pace.password_key(kind, secret, info.key_bytes)
    try:
        return (yield from _establish(info, kind, party, key, name_parameters=name_parameters))
    except (ApduError, TlvError, PaceError) as error:
        raise CardMalformed(str(error)) from None
    finally:
        party.wipe()
        key[:] = bytes(len(key))


def through(channel: SecureChannel, dialogue: Dialogue[Result]) -> Dialogue[Result]:
    """Lead a dialogue through secure messaging: seal each of its commands, open each answer for it.

    GET RESPONSE stays outside, and does not move the counter: the card's answer is put together first, and then opened.
    A command with more than `hardware.secure_messaging.MAX_COMMAND_DATA` bytes is for the dialogue to chain.

    Args:
        channel: The session; it is left open, unless it broke.
        dialogue: A generator that was not started.

    Returns:
        What the dialogue returns.

    Raises:
        CardMalformed: An answer is not sealed as it has to be; the channel is dead.
        ApduError: The dialogue sends what cannot be sealed.
    """
    try:
        command = next(dialogue)
        while True:
            sealed = channel.seal_command(command)
            command = dialogue.send((yield from _exchange_sealed(channel, command.cla, sealed)))
    except StopIteration as done:
        result: Result = done.value
        return result
    except SecureMessagingError as error:
        raise CardMalformed(str(error)) from None
    finally:
        dialogue.close()


def _exchange_sealed(channel: SecureChannel, cla: int, sealed: CommandApdu) -> ApduExchange:
    try:
        first = yield from send(sealed)
        whole = yield from drain(cla, first)
    except ApduError as error:
        channel.wipe()
        raise CardMalformed(str(error)) from None
    return channel.open_response(whole)


def _establish(
    info: PaceInfo, kind: PasswordKind, party: Party, key: bytearray, *, name_parameters: bool
) -> Dialogue[Established]:
    yield from _set_template(info, kind, name_parameters=name_parameters)
    encrypted = yield from _step(None, pace.ENCRYPTED_NONCE)
    nonce = pace.open_nonce(key, encrypted)
    try:
        mapping_key = yield from _step((pace.MAPPING_BY_TERMINAL, party.mapping_point), pace.MAPPING_BY_CARD)
        own_key = party.map(nonce, mapping_key)
    finally:
        nonce[:] = bytes(len(nonce))
    card_key = yield from _step((pace.KEY_BY_TERMINAL, own_key), pace.KEY_BY_CARD)
    party.agree(card_key)
    fields = yield from _last_step(party.own_token)
    received = fields.get(pace.TOKEN_BY_CARD, b"")
    if not hmac.compare_digest(received, party.expected_token):
        raise CardMalformed("the card's token does not fit")
    chip_data = None
    if info.mapping is Mapping.CAM:
        if pace.CHIP_AUTHENTICATION_DATA not in fields:
            raise CardMalformed("chip authentication mapping without its data")
        chip_data = party.open_chip_data(fields[pace.CHIP_AUTHENTICATION_DATA])
    return Established(party.channel(), party.expected_token, received, mapping_key, chip_data)


def _set_template(info: PaceInfo, kind: PasswordKind, *, name_parameters: bool) -> Dialogue[None]:
    """MSE:Set AT (TR-03110-3 §B.11.1)."""
    template = tlv.encode(pace.MECHANISM, info.oid) + tlv.encode(pace.PASSWORD, bytes([kind]))
    if name_parameters:
        template += tlv.encode(pace.PARAMETERS, bytes([info.parameters.identifier]))
    p1, p2 = pace.SET_AUTHENTICATION_TEMPLATE
    response = yield from exchange(CommandApdu(0x00, pace.INS_MANAGE_SECURITY_ENVIRONMENT, p1, p2, template))
    if not response.ok:
        raise CardRefused("MSE:Set AT for PACE", response.sw)


def _step(sent: tuple[int, bytes] | None, wanted: int) -> Dialogue[bytes]:
    """GENERAL AUTHENTICATE as a link of the chain (§B.11.2): one object, or none, for one object."""
    response = yield from exchange(_general_authenticate(CHAINING, tlv.encode(*sent) if sent else b""))
    if not response.ok:
        raise CardRefused(f"GENERAL AUTHENTICATE for {wanted:02X}", response.sw)
    return tlv.parse_one(tlv.parse_one(response.data, pace.DYNAMIC_AUTHENTICATION), wanted)


def _last_step(token: bytes) -> Dialogue[dict[int, bytes]]:
    command = _general_authenticate(0x00, tlv.encode(pace.TOKEN_BY_TERMINAL, token))
    response = yield from exchange(command)
    if response.sw >> 8 == _SW_NOT_AUTHENTICATED or response.sw == SW.INCORRECT_DATA:
        raise WrongCan("the card did not accept the CAN or MRZ")
    if not response.ok:
        raise CardRefused("GENERAL AUTHENTICATE with our token", response.sw)
    items = tlv.parse(tlv.parse_one(response.data, pace.DYNAMIC_AUTHENTICATION))
    fields = {item.tag: item.value for item in items}
    if len(fields) != len(items) or not fields.keys() <= _LAST_ANSWER:
        raise CardMalformed("objects that do not belong to the end of PACE")
    return fields


def _general_authenticate(cla: int, content: bytes) -> CommandApdu:
    template = tlv.encode(pace.DYNAMIC_AUTHENTICATION, content)
    return CommandApdu(cla, pace.INS_GENERAL_AUTHENTICATE, 0, 0, template, le=SHORT_LE_MAX)


def _read_binary(offset: int) -> CommandApdu:
    return CommandApdu(0x00, _INS_READ_BINARY, offset >> 8, offset & 0xFF, le=SHORT_LE_MAX)

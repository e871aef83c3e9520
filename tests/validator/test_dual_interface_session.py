"""Sessions of the Estonian cards with two interfaces that break: torn at every exchange, and meddled with."""

from collections.abc import Generator
from typing import Any

import pytest

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.medium import MediumLost
from hardware.secure_messaging import SecureChannel
from tests.validator.authority import Authority
from tests.validator.dual_interface_cards import (
    CAN,
    HOLDER_ON_AIR,
    KINDS,
    PIN,
    Kind,
    Reader,
    answering,
    attempting,
    sealed,
    tap,
)
from validator.profiles import pace
from validator.profiles.errors import CardMalformed, CardRefused
from validator.profiles.pace import Established


@KINDS
class TestTorn:
    @pytest.mark.parametrize("on_air", [False, True])
    def test_at_every_exchange(
        self, authority: Authority, kind: Kind, monkeypatch: pytest.MonkeyPatch, *, on_air: bool
    ) -> None:
        opened: list[SecureChannel] = []
        establish = pace.establish

        def watched(*args: Any, **options: Any) -> Generator[CommandApdu, ResponseApdu, Established]:
            established = yield from establish(*args, **options)
            opened.append(established.channel)
            return established

        monkeypatch.setattr(pace, "establish", watched)
        can = CAN if on_air else None
        chosen = attempting(can=can, pin=PIN, contactless=on_air)
        chip = kind.chip(authority, can=can)
        whole = Reader(chip)
        tap(kind, whole, chosen)
        for number in range(len(whole.log)):
            with pytest.raises(MediumLost):
                tap(kind, Reader(chip, tear_at=number), chosen)
            assert chip.tries_left == 3
        assert len(opened) == (0 if not on_air else 1 + len(whole.log) - sealed(whole))
        assert not any(channel.alive for channel in opened)

    def test_a_channel_is_wiped_when_all_went_well(
        self, authority: Authority, kind: Kind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wiped: list[SecureChannel] = []
        wipe = SecureChannel.wipe

        def watched(channel: SecureChannel) -> None:
            wiped.append(channel)
            wipe(channel)

        monkeypatch.setattr(SecureChannel, "wipe", watched)
        tap(kind, Reader(kind.chip(authority, can=CAN)), attempting(can=CAN, contactless=True))
        assert wiped


@KINDS
class TestSession:
    """A card, or somebody between it and us, that breaks the session: refused, and no answer believed."""

    @pytest.mark.parametrize("position", [0, 3, -3, -4, -11])
    def test_one_octet_changed_at_every_sealed_exchange(self, authority: Authority, kind: Kind, position: int) -> None:
        chip = kind.chip(authority, can=CAN)
        whole = Reader(chip)
        tap(kind, whole, attempting(**HOLDER_ON_AIR))
        for number in range(sealed(whole), len(whole.log)):

            def tamper(at: int, _command: bytes, answer: bytes, number: int = number) -> bytes:
                return flipped(answer, position) if at == number else answer

            with pytest.raises(CardMalformed):
                tap(kind, Reader(chip, tamper), attempting(**HOLDER_ON_AIR))

    @pytest.mark.parametrize("plain", ["9000", "6982", "6987", "6988", "6A82", "3082000A9000", "63C2"])
    def test_a_plain_answer_at_every_sealed_exchange(self, authority: Authority, kind: Kind, plain: str) -> None:
        chip = kind.chip(authority, can=CAN)
        whole = Reader(chip)
        tap(kind, whole, attempting(**HOLDER_ON_AIR))
        for number in range(sealed(whole), len(whole.log)):

            def tamper(at: int, _command: bytes, answer: bytes, number: int = number) -> bytes:
                return bytes.fromhex(plain) if at == number else answer

            with pytest.raises(CardMalformed):
                tap(kind, Reader(chip, tamper), attempting(**HOLDER_ON_AIR))

    def test_the_last_answer_again_at_every_sealed_exchange(self, authority: Authority, kind: Kind) -> None:
        chip = kind.chip(authority, can=CAN)
        whole = Reader(chip)
        tap(kind, whole, attempting(**HOLDER_ON_AIR))
        for number in range(sealed(whole) + 1, len(whole.log)):
            said: list[bytes] = []

            def tamper(
                at: int, _command: bytes, answer: bytes, number: int = number, said: list[bytes] = said
            ) -> bytes:
                said.append(answer)
                return said[-2] if at == number else answer

            with pytest.raises(CardMalformed):
                tap(kind, Reader(chip, tamper), attempting(**HOLDER_ON_AIR))

    def test_a_session_of_another_time(self, authority: Authority, kind: Kind) -> None:
        """Everything that a card said in one session, said again: our numbers are the same here, its keys are not."""
        chip = kind.chip(authority, can=CAN)
        whole = Reader(chip)
        tap(kind, whole, attempting(**HOLDER_ON_AIR))

        def replay(at: int, _command: bytes, answer: bytes) -> bytes:
            return whole.answers[at] if at >= sealed(whole) else answer

        with pytest.raises(CardMalformed):
            tap(kind, Reader(chip, replay), attempting(**HOLDER_ON_AIR))

    def test_a_recording_does_not_fit_fresh_numbers(self, authority: Authority, kind: Kind) -> None:
        chip = kind.chip(authority, can=CAN)
        whole = Reader(chip)
        tap(kind, whole, attempting(**HOLDER_ON_AIR))

        def replay(at: int, _command: bytes, _answer: bytes) -> bytes:
            return whole.answers[at]

        fresh = attempting(**HOLDER_ON_AIR, random=lambda count: bytes(reversed(range(count))))
        with pytest.raises(CardMalformed, match="token"):
            tap(kind, Reader(chip, replay), fresh)

    @pytest.mark.parametrize("tag", [0x82, 0x84])
    @pytest.mark.parametrize("point", ["off the curve", "infinity", "short", "ours"])
    def test_a_point_that_is_none(self, authority: Authority, kind: Kind, tag: int, point: str) -> None:
        def tamper(_number: int, command: bytes, answer: bytes) -> bytes:
            if command[1] != 0x86 or answer[2:3] != bytes([tag]):
                return answer
            size = answer[3]
            own = command[9 : 9 + size]  # what we sent in the same step
            assert own[0] == 0x04
            match point:
                case "off the curve":
                    return flipped(answer, -4)
                case "infinity":
                    return bytes([0x7C, 3, tag, 1, 0]) + b"\x90\x00"
                case "short":
                    return bytes([0x7C, size, tag, size - 2]) + answer[4 : 2 + size] + b"\x90\x00"
                case _:
                    return answer[:4] + own + b"\x90\x00"

        with pytest.raises(CardMalformed):
            tap(kind, Reader(kind.chip(authority, can=CAN), tamper), attempting(can=CAN, contactless=True))

    @pytest.mark.parametrize("access", ["9000", "30009000", "31009000", "310230009000", "6A82", "6982", "3180FF9000"])
    def test_an_ef_cardaccess_that_offers_nothing(self, authority: Authority, kind: Kind, access: str) -> None:
        reader = Reader(kind.chip(authority, can=CAN), answering(0xB0, access))
        with pytest.raises((CardMalformed, CardRefused)):
            tap(kind, reader, attempting(can=CAN, contactless=True))
        assert not any(command[1] in (0x22, 0x86) for command in reader.log)


def flipped(octets: bytes, position: int) -> bytes:
    out = bytearray(octets)
    out[position % len(out)] ^= 0x01
    return bytes(out)

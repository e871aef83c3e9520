"""``python -m hardware.virtual``: hold a virtual card against a simulated reader, to demonstrate, teach or test."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hardware.medium import ReaderGone, Technology
from hardware.virtual import vpcd
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.card_files import CardFiles, NotThisCard, Profile, make
from hardware.virtual.chip import Answer, Chip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import MODELS, ChipTiming, NoFigure
from hardware.virtual.type2_target import TagChip

AIR = "127.0.0.1:54321"

_TYPER_USAGE = 2
_WATCH_S = 0.05
_QUIET_S = 1.0

app = typer.Typer(
    help="Cards that exist only in software, on the interfaces of real ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Type(StrEnum):
    """The two ways of ISO/IEC 14443 to speak."""

    A = "A"
    B = "B"


class _Watched:
    """A card that tells what it was asked: instruction and sizes, never data."""

    def __init__(self, asked: Callable[[bytes], Answer], *, as_json: bool) -> None:
        self._asked = asked
        self._as_json = as_json
        self.apdus = 0
        self.last_s = 0.0

    def process(self, command: bytes) -> Answer:
        answer = self._asked(command)
        self.apdus += 1
        self.last_s = asyncio.get_running_loop().time()
        response = answer.response or b""
        self.tell(
            "apdu",
            ins=self._instruction(command),
            bytes_in=len(command),
            bytes_out=len(response),
            sw=self._status(response),
            compute_ms=round(answer.compute_s * 1000, 1),
        )
        return answer

    def tell(self, event: str, **facts: str | float | None) -> None:
        if self._as_json:
            print(json.dumps({"event": event, **facts}), flush=True)
        else:
            print(event, *(f"{name}={value}" for name, value in facts.items() if value is not None), flush=True)

    @staticmethod
    def _instruction(command: bytes) -> str:
        return command[1:2].hex().upper()

    @staticmethod
    def _status(response: bytes) -> str | None:
        return response[-2:].hex().upper()


class _WatchedChip(_Watched):
    """A chip with APDUs."""

    def __init__(self, chip: Chip, *, as_json: bool) -> None:
        super().__init__(chip.process, as_json=as_json)
        self._chip = chip

    @property
    def historical(self) -> bytes:
        return self._chip.historical

    def reset(self) -> None:
        self._chip.reset()


class _WatchedTag(_Watched):
    """A type 2 tag's chip, with frames."""

    def __init__(self, chip: TagChip, *, as_json: bool) -> None:
        super().__init__(chip.process, as_json=as_json)
        self._chip = chip

    @property
    def shown_uid(self) -> bytes | None:
        return self._chip.shown_uid

    @property
    def sak(self) -> int:
        return self._chip.sak

    def reset(self) -> None:
        self._chip.reset()

    @staticmethod
    def _instruction(command: bytes) -> str:
        return command[:1].hex().upper()

    @staticmethod
    def _status(response: bytes) -> str | None:
        return response.hex().upper() if len(response) == 1 else None


@app.callback()
def cards() -> None:
    """Cards that exist only in software, on the interfaces of real ones."""


@app.command()
def present(
    profile: Annotated[Profile, typer.Argument(help="The card family.")],
    *,
    key: Annotated[Path | None, typer.Option(help="Private key, PEM or DER.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate, PEM or DER; need not belong to the key.")] = None,
    p12: Annotated[Path | None, typer.Option(help="Key and certificate in one PKCS#12 file.")] = None,
    sm_key: Annotated[Path | None, typer.Option(help="Clear private key of PIV secure messaging, PEM or DER.")] = None,
    cvc: Annotated[
        Path | None, typer.Option(help="Card-verifiable certificate of a pkoc2 or piv-sm card, the octets of 7F21.")
    ] = None,
    uid: Annotated[str | None, typer.Option(metavar="HEX", help="UID; an NXP card needs its own, 7 bytes.")] = None,
    card_key_file: Annotated[
        Path | None, typer.Option(help="The NXP card's own AES key (AN10922), 32 hexadecimal digits.")
    ] = None,
    uid_key_file: Annotated[
        Path | None, typer.Option(help="The key that reads the hidden UID of an Ultralight AES, the same.")
    ] = None,
    token: Annotated[str | None, typer.Option(metavar="HEX", help="Account token of an NXP card, 16 bytes.")] = None,
    random_uid: Annotated[bool, typer.Option("--random-uid", help="Hide the UID of an Ultralight AES.")] = False,
    can: Annotated[
        str | None, typer.Option(metavar="DIGITS", help="Number on the front of an Estonian card, which it asks for.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="First line: password of the key or PKCS#12.")] = None,
    pin_file: Annotated[
        Path | None, typer.Option(help="First line: the card's PIN; without it the PIN is blocked.")
    ] = None,
    compress: Annotated[bool, typer.Option("--gzip", help="Store the certificate compressed.")] = False,
    air: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=f"nfcpy's simulated air; {AIR} by default.")
    ] = None,
    pcd: Annotated[str | None, typer.Option("--vpcd", metavar="HOST:PORT", help="vpcd's virtual PC/SC reader.")] = None,
    technology: Annotated[
        Type | None, typer.Option("--type", help="How the card speaks over the air; A by default.")
    ] = None,
    fsci: Annotated[int | None, typer.Option(min=0, max=8, help="Frame size index over the air; 8 by default.")] = None,
    fwi: Annotated[
        int | None, typer.Option(min=0, max=14, help="Waiting time index over the air; 8 by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=f"Think and send as slowly as: {', '.join(MODELS)}.")] = None,
    tear_after: Annotated[int | None, typer.Option(min=0, help="Tear the card away after this many answers.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Take the card away when it was read and the reader is quiet.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="Take the card away after this long.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")] = False,
) -> None:
    """Hold a card against a simulated reader until it is taken away: by --once, --seconds, Ctrl-C or SIGTERM."""
    if air is not None and pcd is not None:
        raise typer.BadParameter("a card is held against one reader: give --air or --vpcd")
    if pcd is not None and (technology, fsci, fwi) != (None, None, None):
        raise typer.BadParameter("--type, --fsci and --fwi belong to the air: a PC/SC reader hides them")
    host, port = _address(pcd or air or AIR)
    description = CardFiles(
        key=key,
        certificate=cert,
        p12=p12,
        compress=compress,
        sm_key=sm_key,
        cvc=cvc,
        uid=_octets(uid, "--uid"),
        card_key=card_key_file,
        uid_key=uid_key_file,
        token=_octets(token, "--token"),
        random_uid=random_uid,
        can=can,
    )
    if profile in (Profile.ESTEID2018, Profile.ESTEID2025) and (can is None) == (pcd is None):
        raise typer.BadParameter("an Estonian card takes --can on the air, and none at its contacts (--vpcd)")
    chip, kind = _make(profile, description, password_file, pin_file, model)
    if isinstance(chip, TagChip) and (pcd is not None or technology == Type.B):
        raise typer.BadParameter("a tag without ISO-DEP is held against the air, and speaks type A")
    card = _WatchedTag(chip, as_json=as_json) if isinstance(chip, TagChip) else _WatchedChip(chip, as_json=as_json)
    told = partial(card.tell, "presented", profile=profile.value, key=kind, model=model)
    if pcd is not None and isinstance(card, _WatchedChip):
        holding = _in_reader(card, (host, port), description.uid, tear_after, told)
    else:
        spoken = Technology(technology or Type.A)
        timing = AirTiming() if model else None
        try:
            on_air = AirCard(
                card,
                spoken,
                fsci=8 if fsci is None else fsci,
                fwi=8 if fwi is None else fwi,
                timing=timing,
                tear_after=tear_after,
                uid=None if isinstance(chip, TagChip) else description.uid,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        holding = _on_air(on_air, host, port, told)
    try:
        asyncio.run(_hold(card, holding, once=once, seconds=seconds))
    except ReaderGone as error:
        _fail(os.EX_UNAVAILABLE, str(error))
    except OSError as error:
        _fail(os.EX_UNAVAILABLE, f"air:{host}:{port}: {error.strerror or error}: choose another address with --air")
    card.tell("removed", apdus=card.apdus)


async def _in_reader(
    card: Chip, address: tuple[str, int], uid: bytes | None, tear_after: int | None, told: Callable[..., None]
) -> None:
    told(where="vpcd:{}:{}".format(*address))
    await vpcd.present(card, *address, uid=uid, tear_after=tear_after)


async def _on_air(card: AirCard, host: str, port: int, told: Callable[..., None]) -> None:
    field = await Field.open(host, port)
    try:
        field.place(card)
        told(where="air:{}:{}".format(*field.address))
        while not card.torn:  # noqa: ASYNC110 - the reader tears it away by asking; a card has no events
            await asyncio.sleep(_WATCH_S)
    finally:
        await field.close()


async def _hold(card: _Watched, holding: Coroutine[Any, Any, None], *, once: bool, seconds: float | None) -> None:
    """Hold the card until it is torn away, told to go, read once, or its time is over."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    ends = [asyncio.create_task(holding), asyncio.create_task(told.wait())]
    if once:
        ends.append(asyncio.create_task(_read_and_quiet(card)))
    try:
        done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            end.result()
    finally:
        for end in ends:
            end.cancel()
        for end in ends:
            with contextlib.suppress(asyncio.CancelledError, ReaderGone, OSError):
                await end


async def _read_and_quiet(card: _Watched) -> None:
    loop = asyncio.get_running_loop()
    while not card.apdus or loop.time() - card.last_s < _QUIET_S:  # noqa: ASYNC110 - waits for silence, not an event
        await asyncio.sleep(_WATCH_S)


def _make(
    profile: Profile, description: CardFiles, password_file: Path | None, pin_file: Path | None, model: str | None
) -> tuple[Chip | TagChip, str]:
    try:
        timing = ChipTiming.of(model) if model else None
        password = _first_line(password_file).encode() if password_file else None
        pin = _first_line(pin_file) if pin_file else None
        return make(profile, replace(description, password=password, pin=pin, timing=timing))
    except CardFileError as error:
        _fail(os.EX_DATAERR, str(error))
    except NoFigure as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    except NotThisCard as error:
        raise typer.BadParameter(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=None if pin_file is None else "--pin-file") from error


def _octets(text: str | None, option: str) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter("not hexadecimal", param_hint=option) from None


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except OSError as error:
        raise CardFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise CardFileError(f"{path}: not text") from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _fail(code: int, message: str) -> NoReturn:
    print(f"hardware.virtual: {message}", file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line; a wrong one ends with EX_USAGE (64)."""
    try:
        app(prog_name="python -m hardware.virtual")
    except SystemExit as end:
        raise SystemExit(os.EX_USAGE if end.code == _TYPER_USAGE else end.code) from None


if __name__ == "__main__":
    main()

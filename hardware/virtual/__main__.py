"""``python -m hardware.virtual``: hold a virtual card against a simulated reader, to demonstrate, teach or test."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hardware.medium import ReaderGone, Technology
from hardware.virtual import vpcd
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.chip import Answer, Chip
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import MODELS, ChipTiming, NoFigure

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


class Profile(StrEnum):
    """The card families that exist in software."""

    PIV = "piv"


class Type(StrEnum):
    """The two ways of ISO/IEC 14443 to speak."""

    A = "A"
    B = "B"


class _Watched:
    """A chip that tells what it was asked: instruction and sizes, never data."""

    def __init__(self, chip: Chip, *, as_json: bool) -> None:
        self._chip = chip
        self._as_json = as_json
        self.apdus = 0
        self.last_s = 0.0

    @property
    def historical(self) -> bytes:
        return self._chip.historical

    def reset(self) -> None:
        self._chip.reset()

    def process(self, command: bytes) -> Answer:
        answer = self._chip.process(command)
        self.apdus += 1
        self.last_s = asyncio.get_running_loop().time()
        response = answer.response or b""
        self.tell(
            "apdu",
            ins=command[1:2].hex().upper(),
            bytes_in=len(command),
            bytes_out=len(response),
            sw=response[-2:].hex().upper(),
            compute_ms=round(answer.compute_s * 1000, 1),
        )
        return answer

    def tell(self, event: str, **facts: str | float | None) -> None:
        if self._as_json:
            print(json.dumps({"event": event, **facts}), flush=True)
        else:
            print(event, *(f"{name}={value}" for name, value in facts.items() if value is not None), flush=True)


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
    chip = _make(
        profile,
        key=key,
        cert=cert,
        p12=p12,
        password_file=password_file,
        pin_file=pin_file,
        compress=compress,
        model=model,
    )
    card = _Watched(chip, as_json=as_json)
    told = partial(card.tell, "presented", profile=profile.value, key=chip.key_type.value, model=model)
    if pcd is not None:
        holding = _in_reader(card, host, port, tear_after, told)
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


async def _in_reader(card: Chip, host: str, port: int, tear_after: int | None, told: Callable[..., None]) -> None:
    told(where=f"vpcd:{host}:{port}")
    await vpcd.present(card, host, port, tear_after=tear_after)


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
    profile: Profile,
    *,
    key: Path | None,
    cert: Path | None,
    p12: Path | None,
    password_file: Path | None,
    pin_file: Path | None,
    compress: bool,
    model: str | None,
) -> PivChip:
    assert profile is Profile.PIV
    try:
        timing = ChipTiming.of(model) if model else None
        password = _first_line(password_file).encode() if password_file else None
        pin = _first_line(pin_file) if pin_file else None
        if p12 is not None and key is None and cert is None:
            return PivChip.from_pkcs12(p12, password, compress=compress, timing=timing, pin=pin)
        if key is not None and cert is not None and p12 is None:
            return PivChip.from_pem(key, cert, password, compress=compress, timing=timing, pin=pin)
    except CardFileError as error:
        _fail(os.EX_DATAERR, str(error))
    except NoFigure as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--pin-file") from error
    raise typer.BadParameter("a card needs --key and --cert, or --p12")


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise CardFileError(f"{path}: {error}") from error


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

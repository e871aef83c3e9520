"""``validator``: the composition root of the gate. The only room here that names drivers and reads the environment."""

import asyncio
import math
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.table import Table

from hardware.gate import Gate
from hardware.medium import Reader, ReaderError
from validator import config as gate_file
from validator import desk_proof, inspect_command, operator_keys, personalise_command, readiness, surface_command
from validator.choice import Family, TagFamily
from validator.clock import SystemClock
from validator.commandline import JsonOption, VerboseOption, log_to_stderr, print_json, run_app, until_signalled
from validator.config import CardsSection, GateConfig
from validator.desk_file import load_desk
from validator.desk_proof import NotProvedError
from validator.families import FAMILIES, OPERATOR_KEYS, families
from validator.holder_secrets import SecretRefused, holder_secrets
from validator.issuers import IssuersError, load_issuers
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader
from validator.known_cards import KnownCardsError, KnownCardStore
from validator.lists.errors import ListError
from validator.lists.gate_rules import ALWAYS_KEPT
from validator.lists.manifest import ListKind
from validator.operator_keys import OperatorKeys
from validator.person_key import IdentifierError
from validator.profiles.attempt import CardKeysFailed
from validator.reading import Desk, Reading, read_one
from validator.rendering import entry_event, entry_line, moment, stale_facts, stale_words, tap_event
from validator.secret_files import SecretError
from validator.service import clock_of, place_of, serve
from validator.station import TapReport
from validator.supervision import SupervisionError
from validator.toml_file import ConfigError

log = structlog.get_logger()

app = typer.Typer(
    help="The gate: reads identity cards, decides offline, and records every tap before it opens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _some_time(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{seconds:g} s is no time to wait")
    return seconds


ConfigOption = Annotated[Path, typer.Option("--config", help="The gate's TOML file.")]
DEFAULT_CONFIG = Path("/etc/pilet/gate.toml")

EXITS: dict[type[Exception], int] = {
    **personalise_command.EXITS,
    **surface_command.EXITS,
    ConfigError: os.EX_CONFIG,
    IssuersError: os.EX_NOINPUT,
    SecretRefused: os.EX_USAGE,
    IdentifierError: os.EX_DATAERR,
    NotProvedError: os.EX_NOPERM,
    ListError: os.EX_DATAERR,
    JournalError: os.EX_IOERR,
    KnownCardsError: os.EX_IOERR,
    ReaderError: os.EX_UNAVAILABLE,
    SupervisionError: os.EX_OSERR,
    SecretError: os.EX_CONFIG,
    PermissionError: os.EX_NOPERM,
    OSError: os.EX_IOERR,
}


def main() -> None:
    """Run the command line; every expected failure ends in one line and a code from sysexits."""
    run_app(app, "validator", EXITS)


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Serve taps until stopped."""
    log_to_stderr(verbose=verbose)
    gate_config = gate_file.load(config)
    reader = open_reader(gate_config.file.reader.name)
    gate = open_gate(gate_config, as_json=as_json)

    def say(report: TapReport) -> None:
        if as_json:
            print_json(tap_event(report))

    def ready() -> None:
        if as_json:
            print_json({"event": "ready", "device": gate_config.file.device})

    keys = card_keys(gate_config.file.cards, gate_config.resolve)
    log.info("operator_keys", names=keys.names)
    asyncio.run(until_signalled(serve(gate_config, reader, gate, keys, on_tap=say, on_ready=ready)))


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Check all that a gate needs to serve and to sync, tell everything that is wrong, and change nothing."""
    gate_config = gate_file.load(config)
    found = readiness.inspect(gate_config)
    problems = [*driver_problems(gate_config), *key_problems(gate_config), *found.problems]
    at, own = clock_of(gate_config, found.lists.issued_floor_s * 1000).now(), place_of(gate_config).stale
    lists = {
        kind.value: {
            "version": manifest.version,
            "expires": moment(manifest.not_after_s * 1000),
            "freshness": found.lists.freshness(kind, at, found.lists.policy(kind, own)).name,
        }
        for kind, manifest in sorted(found.lists.manifests.items())
    }
    stale = {
        kind.value: stale_facts(found.lists, kind, own, str(gate_config.path))
        for kind in ListKind
        if kind not in ALWAYS_KEPT
    }
    operator_key_values = operator_key_names(gate_config)
    shown = {
        "device": gate_config.file.device,
        "place": gate_config.file.place,
        "reader": gate_config.file.reader.name,
        "clock": at.confidence.name,
        "device_key": found.device_key,
        "lists": lists,
        "stale": stale,
        "operator_keys": operator_key_values,
        "problems": [str(problem) for problem in problems],
    }
    if as_json:
        print_json(shown)
    else:
        verdict = "not ready" if problems else "in order"
        console = Console(highlight=False, soft_wrap=True)
        who = f"{gate_config.file.device} at {gate_config.file.place}"
        console.print(f"{who}: {verdict}, device key {found.device_key}")
        for key, value in operator_key_values.items():
            console.print(f"  operator key {key}: check value {value}")
        for kind, facts in lists.items():
            console.print(f"  {kind}: version {facts['version']}, {facts['freshness']}, expires {facts['expires']}")
        for kind, policy in stale.items():
            console.print(f"  {kind}, past its date: {stale_words(policy)}", markup=False)
    if problems:
        raise ExceptionGroup("the gate is not ready", problems)


@app.command()
def read(
    reader: Annotated[str, typer.Option("--reader", help="For example nfcpy:usb or pcsc:READER NAME.")],
    trust: Annotated[Path, typer.Option("--trust", help="Directory of issuer certificates and keys.")],
    *,
    cache: Annotated[Path | None, typer.Option("--cache", help="Where judged certificates are kept.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory of operator keys, NAME.VERSION each.")] = None,
    family: Annotated[
        list[str] | None, typer.Option("--family", help="Card family to try, in order; all by default.")
    ] = None,
    can: Annotated[str | None, typer.Option("--can", help="Number on a national card's front; - asks for it.")] = None,
    mrz: Annotated[str | None, typer.Option("--mrz", help="NUMBER,BIRTH,EXPIRY of a document; - asks for it.")] = None,
    pin: Annotated[str | None, typer.Option("--pin", help="The holder's PIN1; - asks without showing it.")] = None,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait for a card.", callback=_some_time)] = 30.0,
    desk: Annotated[
        Path | None, typer.Option("--desk", help="The desk's file: print a signed proof, for `enrol link`, instead.")
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Authenticate one card and print what it proves: any verdict ends with 0, what kept us from one does not.

    With --desk, what it proves is shown on standard error, and a verdict that links nothing ends with 77.
    """
    log_to_stderr(verbose=verbose)
    if desk is not None and as_json:
        raise typer.BadParameter("with --desk the signed proof is all that is printed: leave out --json")
    speaker = None if desk is None else load_desk(desk)
    authorities = load_issuers(trust)
    chosen = _families(family or list(FAMILIES))
    own_keys = card_keys(CardsSection(keys=None if keys is None else str(keys.absolute())), Path)
    clock = SystemClock(0)
    cards = KnownCardStore.open(cache or default_cache(), authorities.store.version)
    told = holder_secrets(can, mrz, pin)  # nobody is asked for a PIN that a wrong folder makes worthless
    try:
        known = Desk(authorities, chosen, own_keys, cards, told)
        found = asyncio.run(read_one(open_reader(reader), known, clock.now(), wait_s))
    finally:
        told.wipe()
        cards.close()
    if speaker is not None:
        _show(found, Console(stderr=True))
        try:
            sys.stdout.write(desk_proof.signed_line(found, speaker, clock.now().wall_ms, secrets.token_bytes) + "\n")
        finally:
            for key in speaker.person_keys:
                key.wipe()
    elif as_json:
        print_json(found.to_dict())
    else:
        _show(found, Console())


def _show(found: Reading, console: Console) -> None:
    table = Table(show_header=False)
    for name, value in found.to_dict().items():
        shown = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name, shown)
    console.print(table)


@app.command()
def journal(
    config: ConfigOption = DEFAULT_CONFIG,
    after: Annotated[int, typer.Option("--after", help="Show entries after this sequence number.")] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the journal, and prove that its chain and signatures hold under the key that it names."""
    book = JournalReader(gate_file.load(config).journal)
    console, entries, head = Console(highlight=False, soft_wrap=True), 0, 0
    try:
        key = book.public_key
        for link in book.verified(key):
            entries, head = entries + 1, link.seq
            if link.seq <= after:
                continue
            if as_json:
                print_json(entry_event(link))
            else:
                console.print(entry_line(link))
        epoch = book.epoch
    finally:
        book.close()
    named = key.public_bytes_raw().hex()
    if as_json:
        print_json({"event": "verified", "epoch": epoch, "head": head, "entries": entries, "public_key": named})
    else:
        console.print(f"epoch {epoch}: {entries} entries, chain and signatures hold, head {head}, device key {named}")


def open_reader(name: str) -> Reader:
    """Return the driver for a reader's name, not yet open.

    Raises:
        ConfigError: No driver has that name.
    """
    kind, _, path = name.partition(":")
    if kind == "nfcpy" and path:
        from hardware.nfcpy import NfcpyReader  # noqa: PLC0415 - only the driver in use is loaded

        return NfcpyReader(name, path)
    if kind == "pcsc" and path:
        from hardware.pcsc import PcscReader  # noqa: PLC0415 - only the driver in use is loaded

        return PcscReader(name)
    raise ConfigError(f"reader {name!r}: use nfcpy:usb, nfcpy:tty:PORT:DRIVER, nfcpy:udp:HOST:PORT or pcsc:READER NAME")


def card_keys(section: CardsSection, resolve: Callable[[str], Path]) -> OperatorKeys:
    """Take the operator keys into use that a gate's file names, or that the service manager gave.

    Args:
        section: Names them.
        resolve: Makes a path of what the section says.

    Raises:
        SecretError: A key cannot be used.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY") if section.keys is None else str(resolve(section.keys))
    directory = None if given is None else Path(given)
    if section.sam is None:
        return OperatorKeys({}) if directory is None else operator_keys.load(directory)
    from hardware.sam import Sam, SamError, SamKey  # noqa: PLC0415 - only the driver in use is loaded

    module = Sam(section.sam.reader, None if directory is None else operator_keys.load_pin(directory))
    try:
        module.open()
    except SamError as error:
        log.warning("sam.not_open", why=str(error), consequence="asked again at the next card that needs it")
    held = {name: SamKey(module, reference) for name, reference in section.sam.keys.items()}
    return operator_keys.load(directory, held)


def operator_key_names(config: GateConfig) -> dict[str, str]:
    """Return the operator keys that are here with their check values, so that people can compare them."""
    try:
        keys = card_keys(config.file.cards, config.resolve)
    except SecretError:  # told by `key_problems`
        return {}
    return {label: _check_value(keys, label) for label in keys.names}


def _check_value(keys: OperatorKeys, label: str) -> str:
    name, _, version = label.rpartition(".")
    try:
        return keys.check_value(name, int(version))
    except CardKeysFailed as error:
        return f"unknown: {error}"


def key_problems(config: GateConfig) -> list[Exception]:
    """Say which operator keys are wrong or missing; those that only the running unit is given are not missed."""
    section = config.file.cards
    if section.keys is None and section.sam is None and "CREDENTIALS_DIRECTORY" not in os.environ:
        return []
    try:
        keys = card_keys(section, config.resolve)
    except SecretError as error:
        return [error]
    return [
        ConfigError(f"{config.path}: cards.families: {family} needs the operator key {name}, and none is here")
        for family in section.families
        for name in OPERATOR_KEYS.get(family, ())
        if not keys.versions(name)
    ]


def _families(names: list[str]) -> tuple[Family | TagFamily, ...]:
    why = gate_file.order_breach(names)
    if why is not None:
        raise typer.BadParameter(why, param_hint="--family")
    try:
        return families(names)
    except KeyError as error:
        raise typer.BadParameter(
            f"{error.args[0]!r}: choose from {', '.join(FAMILIES)}", param_hint="--family"
        ) from None


def driver_problems(config: GateConfig) -> list[Exception]:
    """Say why the configured drivers could not be made; no device is moved and no pin is driven."""
    problems: list[Exception] = []
    try:
        open_reader(config.file.reader.name)
    except ConfigError as error:
        problems.append(ConfigError(f"{config.path}: {error}"))
    if config.file.gate.driver == "gpio":
        from hardware.gpio import GpioError, pi_factory  # noqa: PLC0415 - only the driver in use is loaded

        try:
            pi_factory().close()
        except GpioError as error:
            problems.append(ConfigError(f"{config.path}: gate: {error}"))
    return problems


def open_gate(config: GateConfig, *, as_json: bool) -> Gate:
    """Return the driver for the configured gate; a console gate is silent where JSON is printed.

    Raises:
        ConfigError: The pins cannot be used.
    """
    from hardware.console import ConsoleGate, NullGate  # noqa: PLC0415 - only the driver in use is loaded

    section = config.file.gate
    if section.driver == "gpio":
        from hardware.gpio import GatePins, GpioError, GpioGate, pi_factory  # noqa: PLC0415 - same

        pins = GatePins(
            section.red, section.green, section.blue, section.buzzer, section.barrier, section.barrier_active_high
        )
        try:
            return GpioGate(pins, pi_factory())
        except GpioError as error:
            raise ConfigError(f"{config.path}: gate: {error}") from error
    return NullGate() if section.driver == "none" or as_json else ConsoleGate(Console())


def default_cache() -> Path:
    """Return where `read` keeps judged certificates for this user."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pilet" / "known_cards.db"


personalise_command.add_to(app, open_reader)
inspect_command.add_to(app, open_reader, card_keys)
surface_command.add_to(app, open_reader)


if __name__ == "__main__":
    main()

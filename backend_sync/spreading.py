"""``backend-sync publish wave``, ``back`` and ``status``: how far a new list goes, and how it fares."""

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from backend_sync import config as office_file
from backend_sync import wire
from backend_sync.cataloguing import Listed, needed_catalogue
from backend_sync.config import OfficeConfig
from backend_sync.mqtt import Broker, LinkLost, connect
from backend_sync.publish_errors import PublishError
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption, bring, dates_for, publisher_of, tell
from backend_sync.wave_rule import Votes, count_votes
from backend_sync.waves import WHOLE
from backend_sync.wire import ListState, Reported, WireError
from validator.commandline import JsonOption, print_json
from validator.key_loading import load_tls
from validator.lists.manifest import ListKind

KindArgument = Annotated[ListKind, typer.Argument(help="Which list.")]

_QUIET_S: Final = 1.0
_LONGEST_S: Final = 30.0
_TOLD: Final = 10


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command("wave")(wave)
    app.command("back")(back)
    app.command("status")(status)


def broker_of(office: OfficeConfig) -> Broker:
    """Return the broker of an office file.

    Raises:
        ConfigError: Its keys cannot be used.
    """
    section = office.file.broker
    tls = None if section.tls is None else load_tls(section.tls, office.resolve, f"{office.path}: broker.tls")
    return Broker(section.host, section.port, tls)


def wave(
    kind: KindArgument,
    percent: Annotated[int, typer.Argument(min=0, max=WHOLE, help="Of the devices; 0 stops it.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Have so many percent of the devices install the newest list of a kind; those that have it keep it."""
    catalogue = needed_catalogue(office_file.load(config))
    if kind not in catalogue.in_force():
        raise PublishError(f"{catalogue.folder}: no {kind} list is in the catalogue; publish one first")
    catalogue.set_wave(kind, percent, int(time.time()))
    listed = catalogue.in_force()[kind]
    if as_json:
        print_json({"kind": kind.value, "version": listed.version, "percent": listed.percent})
        return
    stopped = " It is stopped; `publish back` has the gates that took it go back." if not percent else ""
    _say(f"{kind} list, version {listed.version}: for {percent} % of the devices.{stopped}")


def back(
    kind: KindArgument,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    to: Annotated[int | None, typer.Option("--to", help="Which version; left out, the one before the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Order all gates back: a new version at once for everybody, with the payload of an earlier one."""
    office = office_file.load(config)
    catalogue, section = needed_catalogue(office), office.publisher_section()
    listed = catalogue.in_force().get(kind)
    if listed is None:
        raise PublishError(f"{catalogue.folder}: no {kind} list is in the catalogue; there is nothing to go back from")
    by_kind = {ListKind.DENY: section.deny_days} | dict.fromkeys(
        (ListKind.TICKETS, ListKind.STATUS), section.tickets_days
    )
    days = by_kind.get(kind, section.trust_days)
    earlier = listed.version - 1 if to is None else to
    published = publisher_of(office, kind).again(kind, earlier, dates_for(days))
    bring(office, published, WHOLE)
    tell(published.manifest, as_json=as_json, payload_of=earlier)
    if not as_json:
        _say(f"It holds what version {earlier} held; gates that kept that one fetch nothing but the order.")


def status(config: OfficeOption = DEFAULT_OFFICE, *, as_json: JsonOption = False) -> None:
    """Show for each list its version, how far it is to go, who has it, and who refused it and why."""
    office = office_file.load(config)
    catalogue, devices = needed_catalogue(office), frozenset(office.file.devices)
    listed = catalogue.in_force()
    if not listed:
        raise PublishError(f"{catalogue.folder}: nothing is in the catalogue yet")
    reports = asyncio.run(reported_lists(broker_of(office), f"status-{office.file.name}", devices))
    found = {}
    for kind, each in listed.items():
        found[kind] = count_votes(each.version, {d: lists[kind] for d, lists in reports.items() if kind in lists})
    if as_json:
        for kind, each in listed.items():
            print_json(_facts(each, found[kind], len(devices)))
        return
    _show(listed, found, len(devices))


async def reported_lists(
    broker: Broker, identifier: str, devices: frozenset[str]
) -> dict[str, Mapping[str, ListState]]:
    """Return what devices last reported of their lists, by device; the broker keeps it.

    Args:
        broker: The broker.
        identifier: Client id.
        devices: Whose reports count.

    Raises:
        PublishError: The broker cannot be reached.
    """
    found = dict[str, Mapping[str, ListState]]()
    try:
        async with connect(broker, identifier, clean_session=True) as link, asyncio.timeout(_LONGEST_S):
            await link.subscribe(wire.REPORTED_FILTER)
            while devices - found.keys():
                async with asyncio.timeout(_QUIET_S):
                    message = await link.receive()
                try:
                    device = wire.device_of_reported(message.topic)
                    reported = wire.decode(Reported, message.payload)
                except WireError:
                    continue
                if device == reported.device and device in devices:
                    found[device] = reported.lists
    except TimeoutError:
        return found
    except LinkLost as lost:
        raise PublishError(f"{broker.host}:{broker.port}: the broker does not say what devices have: {lost}") from None
    return found


def _show(listed: Mapping[ListKind, Listed], found: Mapping[ListKind, Votes], devices: int) -> None:
    table = Table()
    for heading in ("list", "version", "wave", "fresh until", "devices on it", "refused by"):
        table.add_column(heading, justify="left" if heading == "list" else "right")
    for kind, each in listed.items():
        votes = found[kind]
        spread = f"{each.percent} %" if each.percent else "STOPPED"
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.not_after_s))
        on = f"{len(votes.on)} of {devices}"
        table.add_row(kind.value, str(each.version), spread, until, on, str(len(votes.refused)))
    console = Console(highlight=False, markup=False)
    console.print(table)
    for kind, votes in found.items():
        for device, why in list(votes.refused.items())[:_TOLD]:
            _say(f"{kind} list, {device}: {why}")
        if len(votes.refused) > _TOLD:
            _say(f"{kind} list: and {len(votes.refused) - _TOLD} more; --json names all")


def _facts(listed: Listed, votes: Votes, devices: int) -> dict[str, Any]:
    return {
        "kind": listed.kind.value,
        "version": listed.version,
        "percent": listed.percent,
        "stopped": listed.percent == 0,
        "not_after": listed.not_after_s,
        "devices": devices,
        "on": sorted(votes.on),
        "refused": dict(votes.refused),
    }


def _say(*lines: str) -> None:
    for line in lines:
        Console(highlight=False, markup=False).print(line, soft_wrap=True)

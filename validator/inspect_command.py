"""``validator inspect``: the inspector's tool."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hardware.medium import Reader
from validator import config as gate_file
from validator import inspecting
from validator.commandline import JsonOption, print_json
from validator.config import CardsSection
from validator.families import FAMILIES, families
from validator.holder_secrets import holder_secrets
from validator.inspecting import RUNGS, Inspection
from validator.journal_reader import JournalReader
from validator.known_cards import KnownCardStore
from validator.lists import installed
from validator.lists.errors import ListError
from validator.model import Identity, Reason, Refusal
from validator.profiles.attempt import CardKeys
from validator.publishers import Publishers
from validator.reading import Desk, read_one
from validator.reason_words import REASON_WORDS
from validator.rights import Use
from validator.service import clock_of, place_of, position_of
from validator.vouching import Authorities


def add_to(
    app: typer.Typer,
    open_reader: Callable[[str], Reader],
    card_keys: Callable[[CardsSection, Callable[[str], Path]], CardKeys],
) -> None:
    """Add the command to a command line.

    Args:
        app: The command line.
        open_reader: Returns the driver for a reader's name, not yet open.
        card_keys: Takes the operator keys into use that a configuration names.
    """

    @app.command("inspect")
    def command(
        config: Annotated[Path, typer.Option("--config", help="The inspector's device, a gate's TOML file.")],
        *,
        reader: Annotated[str | None, typer.Option("--reader", help="Another reader than the file's.")] = None,
        can: Annotated[str | None, typer.Option("--can", help="Number on a national card's front; - asks.")] = None,
        mrz: Annotated[str | None, typer.Option("--mrz", help="NUMBER,BIRTH,EXPIRY of a document; - asks.")] = None,
        wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait for a card.", min=0.1)] = 30.0,
        as_json: JsonOption = False,
    ) -> None:
        """Tell the state of a card's ticket here, and how far the card was proved.

        A PIN is never asked for.
        """
        device = gate_file.load(config)
        lists = installed.load(device.lists, Publishers.of(device).keys(), device.file.region)
        if lists.trust is None:
            raise ListError(device.lists, "no trust list: install the network's lists on this device first")
        at = clock_of(device, lists.issued_floor_s * 1000).now()
        told = holder_secrets(can, mrz, None)
        cards = KnownCardStore.in_memory(lists.versions.trust)
        try:
            desk = Desk(
                Authorities(lists.trust, lists.enrolled, lists.enrolled_under),
                families(FAMILIES),
                card_keys(device.file.cards, device.resolve),
                cards,
                told,
                lists.denied,
            )
            found = asyncio.run(read_one(open_reader(reader or device.file.reader.name), desk, at, wait_s))
        finally:
            told.wipe()
            cards.close()
        where = place_of(device)
        inspection = inspecting.inspect(
            found,
            lists,
            where.stale,
            where.place,
            at,
            guest_pass_back_s=where.guest_pass_back_s,
            position=position_of(device)(at),
            uses=_uses(device.journal, found.who),
        )
        if as_json:
            print_json(inspection.to_dict())
        else:
            _show(inspection, Console(highlight=False, soft_wrap=True))


def _show(inspection: Inspection, console: Console) -> None:
    mark, colour = ("✔ VALID", "green") if inspection.verdict.granted else ("✘ NOT VALID", "red")
    console.print(f"{mark}: {REASON_WORDS[inspection.verdict.reason]}", style=f"bold {colour}", markup=False)
    if isinstance(inspection.who, Identity):
        console.print(f"  proved: {RUNGS[inspection.who.assurance]}")
    if inspection.compare_photo:
        console.print("  compare the photo on the card with its holder")
    for ticket in inspection.to_dict()["tickets"]:
        console.print(f"  {_line(ticket)}", markup=False)
    for right in inspection.to_dict()["rights"]:
        console.print(f"  no ride: {right['scheme']}: {_line(right)}", markup=False)
    for tap in inspection.to_dict()["taps"]:
        took = f", {tap['rides']} ride" if tap["rides"] else f", {tap['amount'] / 100:.2f}" if tap["amount"] else ""
        console.print(f"  rode {tap['at']}, {tap['place']}{took}", markup=False)


def _line(held: dict[str, Any]) -> str:
    """Say a product in one line: what, until when, where, for whom, and why not."""
    where = ", ".join([*held["places"], *(f"zone {zone}" for zone in held["zones"]), *held["networks"]]) or "everywhere"
    left = f", {held['rides']} rides" if held["rides"] else f", {held['balance'] / 100:.2f}" if held["balance"] else ""
    people = f", for {held['riders']}" if held["riders"] > 1 else ""
    rider = f", {held['rider']}" if held["rider"] else ""
    why = "" if held["state"] == Reason.VALID.name else f": {REASON_WORDS[Reason[held['state']]]}"
    kind = held["kind"].replace("_", " ")
    return f"{kind}, {held['valid_from']} to {held['valid_until']}, {where}{left}{people}{rider}{why}"


def _uses(journal: Path, who: Identity | Refusal) -> list[Use]:
    """Return what this device granted the card; an inspector's device that never opened a gate has no journal."""
    if not isinstance(who, Identity) or not journal.exists():
        return []
    reader = JournalReader(journal)
    try:
        return reader.uses_of(who.credential_id)
    finally:
        reader.close()

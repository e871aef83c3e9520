"""Reconciled books as people read them."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from backend_sync.money import Money, Unfounded
from backend_sync.reconcile import Books, DeviceBooks

MAX_NAMED = 20
"""So many missing ranges, breaks and the like are named a line; ``--json`` names all."""

_UNFOUNDED = {
    Unfounded.NO_SALE: "takes from what nobody sold",
    Unfounded.OTHER_CREDENTIAL: "takes from what was sold to another credential",
    Unfounded.OTHER_AMOUNT: "takes another amount than its product costs",
}


def show_books(books: Books, console: Console) -> None:
    """Print the books: one line a device and epoch, the money, and the verdict."""
    table = Table(title="Devices", title_justify="left")
    for heading in ("device", "epoch"):
        table.add_column(heading)
    for heading in ("taps", "contiguous", "announced", "missing", "outstanding", "twice", "discarded", "chain breaks"):
        table.add_column(heading, justify="right")
    for device in books.devices:
        chain = device.chain
        counts = (chain.taps, chain.contiguous, chain.announced, chain.missing_count, chain.outstanding)
        faults = (len(chain.duplicated), sum(item.count for item in device.discarded), len(chain.breaks))
        table.add_row(device.device, str(device.epoch), *(str(count) for count in counts + faults))
    console.print(table)
    for device in books.devices:
        for line in _faults(device):
            console.print(line)
    for name in books.silent:
        console.print(f"{name}: registered, and nothing heard")
    console.print(f"{books.granted} granted, {books.denied} denied")
    if books.strays:
        console.print(f"{books.strays} taps belong to no chain")
    for line in _sums(books.money):
        console.print(line)
    for reason, count in books.rejected.items():
        console.print(f"{count} refused: {reason}")
    console.print("The books are closed." if books.closed else "The books are OPEN: see the lines above.")


def _sums(money: Money) -> Iterator[str]:
    yield (
        f"stored value: loaded {_money(money.loaded)} = spent {_money(money.spent)} + left {_money(money.left)}; "
        f"rides: sold {money.rides_sold} = used {money.rides_posted} + left {money.rides_left}"
    )
    if money.settled:
        on_taps, settled = _money(money.fares_on_taps), _money(money.settled)
        yield f"spent {_money(money.spent)} = fares on taps {on_taps} + settled {settled}"
    for balance in money.overspent:
        yield f"product {balance.product_id} is {-balance.amount} {balance.unit} in debt"
    for tap in money.unfounded:
        yield f"tap {tap.device} {tap.epoch} {tap.seq}: {_UNFOUNDED[tap.why]} (product {tap.product_id})"
    for cause in (*money.unbalanced, *money.misposted):
        yield f"{cause}: its postings are wrong"


def _faults(device: DeviceBooks) -> list[str]:
    chain, who = device.chain, f"{device.device} epoch {device.epoch}"
    ranges = [f"{first}" if first == last else f"{first}-{last}" for first, last in chain.missing]
    named = (
        ("missing", ranges),
        ("announced and not here yet", [f"{chain.highest + 1}-{chain.announced}"] if chain.outstanding else []),
        ("acknowledged, and not so", [device.acknowledged] if device.acknowledged != chain.contiguous else []),
        ("present twice", chain.duplicated),
        ("do not follow their predecessor", chain.breaks),
        ("not signed by the device", chain.unsigned),
        ("altered since they were signed", chain.altered),
        ("posted wrongly", chain.misposted),
        ("contradicted by a second entry", device.conflicts),
    )
    return [f"{who}: {what}: {_shortened(items)}" for what, items in named if items]


def _shortened(items: list[str] | list[int] | tuple[int, ...]) -> str:
    shown = ", ".join(str(item) for item in items[:MAX_NAMED])
    return shown if len(items) <= MAX_NAMED else f"{shown} and {len(items) - MAX_NAMED} more"


def _money(minor: int) -> str:
    return f"{minor / 100:.2f}"

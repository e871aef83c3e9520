"""Reconciled books as people read them."""

from rich.console import Console
from rich.table import Table

from backend_sync.reconcile import Books, DeviceBooks

MAX_NAMED = 20
"""So many missing ranges, breaks and the like are named a line; ``--json`` names all."""


def show_books(books: Books, console: Console) -> None:
    """Print the books: one line a device and epoch, the money, and the verdict."""
    table = Table(title="Devices", title_justify="left")
    for heading in ("device", "epoch"):
        table.add_column(heading)
    for heading in ("taps", "contiguous", "head", "missing", "twice", "discarded", "chain breaks"):
        table.add_column(heading, justify="right")
    for device in books.devices:
        chain = device.chain
        counts = (chain.taps, chain.contiguous, chain.head, chain.missing_count)
        faults = (len(chain.duplicated), len(device.discarded), len(chain.breaks))
        table.add_row(device.device, str(device.epoch), *(str(count) for count in counts + faults))
    console.print(table)
    for device in books.devices:
        for line in _faults(device):
            console.print(line)
    money = books.money
    console.print(f"{books.granted} granted, {books.denied} denied")
    console.print(
        f"stored value: loaded {_money(money.loaded)} = spent {_money(money.spent)} + left {_money(money.left)}; "
        f"rides: sold {money.rides_sold} = used {money.rides_posted} + left {money.rides_left}"
    )
    for balance in money.negative:
        console.print(f"product {balance.product_id} is {-balance.amount} {balance.unit} in debt")
    for cause in (*money.unbalanced, *money.misposted):
        console.print(f"{cause}: its postings are wrong")
    for reason, count in books.rejected.items():
        console.print(f"{count} refused: {reason}")
    console.print("The books are closed." if books.closed else "The books are OPEN: see the lines above.")


def _faults(device: DeviceBooks) -> list[str]:
    chain, who = device.chain, f"{device.device} epoch {device.epoch}"
    ranges = [f"{first}" if first == last else f"{first}-{last}" for first, last in chain.missing]
    named = (
        ("missing", ranges),
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

"""How many decimals a currency has (ISO 4217, minor units), and amounts without them."""

import re
from typing import Final

_DECIMALS: Final = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF"), 0
    ),
    **dict.fromkeys(("XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
_AMOUNT: Final = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]*))?", re.ASCII)
CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


def minor_units(amount: str, currency: str) -> int | None:
    """Return an amount in minor units; None where it is none, or has more decimals than its currency."""
    found, decimals = _AMOUNT.fullmatch(amount), _DECIMALS.get(currency, 2)
    if found is None:
        return None
    sign, whole, fraction = found[1], found[2], (found[3] or "").rstrip("0")
    if len(fraction) > decimals:
        return None
    value = int(whole + fraction.ljust(decimals, "0"))
    return -value if sign else value


def in_major(amount: int, currency: str) -> str:
    """Write an amount as people do, ``2.50 EUR``."""
    decimals = _DECIMALS.get(currency, 2)
    whole, fraction = divmod(abs(amount), 10**decimals)
    tail = f".{fraction:0{decimals}}" if decimals else ""
    return f"{'-' if amount < 0 else ''}{whole}{tail} {currency}"

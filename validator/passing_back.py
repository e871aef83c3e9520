"""A tap that follows another at the same place: a torn one repeated, a card passed back, or neither."""

from collections.abc import Mapping, Sequence
from typing import Final

from validator.model import ClockConfidence, Instant, Reason
from validator.rights import Use

RECOVERY_MS: Final = 60_000
"""How long after a tap that was torn away before the signal the passenger may present the card again for nothing."""


def taken_again(windows: Mapping[int | None, int], uses: Sequence[Use], place: str, at: Instant) -> Use | Reason | None:
    """Judge a tap on the way in, or at a place with one way.

    `PASS-BACK-1`: within the window of a product, another tap at the same place is refused, whatever else is held.
    `GROUP-1`: a product without a window lets each tap take another ride. `GROUP-2`: one tap of a product for several
    is for all of them, and then its window runs. `TEAR-1`: a first tap that the passenger may not have seen granted is
    repeated for nothing within a minute. `TEAR-2`: the repetition is not repeatable. `CORRECTION-1`: who has gone out
    may come in again; the tap before was no second person's. `CLOCK-1`: after a restart on a clock that only
    knows a floor, nobody is refused for having been here a moment ago.

    Args:
        windows: Seconds of pass-back by product; None stands for a guest.
        uses: What this device granted the credential, in any order.
        place: Where.
        at: When.

    Returns:
        The use that is repeated, `PASS_BACK`, or None where it is a tap like any other.
    """
    here = [use for use in uses if use.place == place]
    left = {use.product_id: use.seq for use in sorted(here, key=_seq) if use.leaving}
    recent = [
        use
        for use in here
        if use.product_id in windows
        and use.seq > left.get(use.product_id, 0)
        and 0 <= elapsed_ms(use, at) < windows[use.product_id] * 1000
    ]
    if not recent:
        return None
    last = max(recent, key=_seq)
    repeated = last.recovers is not None or any(use.recovers == last.seq for use in uses)
    if not last.ratified and not repeated and elapsed_ms(last, at) < RECOVERY_MS:
        return last
    if last.boot != at.boot and at.confidence is ClockConfidence.FLOOR:
        return None
    return Reason.PASS_BACK


def _seq(use: Use) -> int:
    return use.seq


def elapsed_ms(use: Use, at: Instant) -> int:
    """Milliseconds since a use; negative where the wall clock was set back meanwhile."""
    return at.mono_ms - use.mono_ms if use.boot == at.boot else at.wall_ms - use.wall_ms

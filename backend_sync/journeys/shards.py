"""A day of taps in shards: each has all taps of its cards, so that shards are priced apart, in any order."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from zlib import crc32

from backend_sync.journeys.editions import Rulebook
from backend_sync.journeys.settling import Settled, settle
from backend_sync.journeys.taps import JourneyTap


def shard_of(card: bytes, shards: int) -> int:
    """Return the number of the shard that a card's taps belong to."""
    return crc32(card) % shards


def settle_shard(rulebook: Rulebook, taps: Iterable[JourneyTap], closes_s: int) -> Iterator[tuple[bytes, Settled]]:
    """Price a shard, card by card in the order of their names; the order of the taps changes nothing.

    Args:
        rulebook: What they are judged by.
        taps: Every tap of each of its cards.
        closes_s: When the books close, seconds since 1970 UTC.
    """
    cards = defaultdict[bytes, list[JourneyTap]](list)
    for tap in taps:
        cards[tap.card].append(tap)
    for card, those in sorted(cards.items()):
        yield card, settle(rulebook, those, closes_s)

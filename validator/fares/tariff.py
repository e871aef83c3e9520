"""A tariff: what gates and back office price by, as bytes and as tables to look into.

    "pilet-tariff/1" and two zero bytes | msgpack of `validator.fares.tariff_rows.Tariff`

The same feeds give the same bytes. Whatever else it is given, `parse` refuses.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from validator.fares.errors import TariffError
from validator.fares.soundness import breach
from validator.fares.tariff_rows import FORMAT, Feed, JoinRule, LegRule, Price, Tariff

MAX_BYTES: Final = 64 * 2**20

_MAGIC: Final = b"pilet-tariff/1".ljust(16, b"\0")
_WHERE: Final = "tariff"

LegKey = tuple[int | None, int | None, int | None]


class FeedTables:
    """A feed with what is looked up in it at each leg.

    Attributes:
        feed: Its rows.
        stops: Index of a stop by its id.
        networks: Index of a network by its id.
        routes: Network of a route by its id.
        riders: Index of a rider category by its id.
        media: Index of a medium by its id.
        legs: Leg rules by network, first and last area; None is an empty field.
        asks_end: Networks and first areas of rules that ask where or when a leg ends.
        listed_networks: Networks that leg rules name.
        listed_from: First areas that they name.
        listed_to: Last areas that they name.
        prices: Prices by product, rider and medium.
        joins: Join rules by network.
        listed_from_groups: Groups that transfer rules name as the first.
        listed_to_groups: Groups that they name as the second.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.stops = {each.stop_id: number for number, each in enumerate(feed.stops)}
        self.networks = _numbered(feed.networks)
        self.routes = dict(feed.routes)
        self.riders = _numbered(feed.riders)
        self.media = _numbered(feed.media)
        legs = defaultdict[LegKey, list[LegRule]](list)
        asks_end = defaultdict[tuple[int | None, int | None], bool](bool)
        for rule in feed.leg_rules:
            legs[rule.network, rule.from_area, rule.to_area].append(rule)
            asks_end[rule.network, rule.from_area] |= rule.to_area is not None or rule.to_frames is not None
        self.legs: Mapping[LegKey, list[LegRule]] = dict(legs)
        self.asks_end = frozenset(key for key, asks in asks_end.items() if asks)
        self.listed_networks = frozenset(rule.network for rule in feed.leg_rules)
        self.listed_from = frozenset(rule.from_area for rule in feed.leg_rules)
        self.listed_to = frozenset(rule.to_area for rule in feed.leg_rules)
        self.prices: Mapping[tuple[int, int | None, int | None], Price] = {
            (each.product, each.rider, each.medium): each for each in feed.prices
        }
        joins = defaultdict[int, list[JoinRule]](list)
        for join in feed.join_rules:
            joins[join.network].append(join)
        self.joins: Mapping[int, list[JoinRule]] = dict(joins)
        self.listed_from_groups = frozenset(rule.from_group for rule in feed.transfer_rules)
        self.listed_to_groups = frozenset(rule.to_group for rule in feed.transfer_rules)

    def station(self, stop: int) -> int:
        """Return a stop's station, or the stop where it has none."""
        station = self.feed.stops[stop].station
        return stop if station is None else station


class Tariffs:
    """A parsed tariff.

    Attributes:
        feeds: Tables of each feed, by its name.
    """

    def __init__(self, tariff: Tariff) -> None:
        self.feeds = MappingProxyType({feed.name: FeedTables(feed) for feed in tariff.feeds})

    @classmethod
    def parse(cls, data: bytes, where: object = _WHERE) -> "Tariffs":
        """Read a tariff.

        Args:
            data: Its bytes.
            where: What to call them in an error.

        Raises:
            TariffError: They are not what `encode_tariff` writes.
        """
        if len(data) > MAX_BYTES:
            raise TariffError(where, f"has {len(data)} bytes, more than {MAX_BYTES}")
        if not data.startswith(_MAGIC):
            raise TariffError(where, "not a tariff of this format")
        try:
            tariff = msgspec.msgpack.decode(memoryview(data)[len(_MAGIC) :], type=Tariff)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TariffError(where, f"not a tariff: {error}") from None
        _check(tariff, where)
        if encode_tariff(tariff.feeds) != data:
            raise TariffError(where, "not written as a tariff is")
        return cls(tariff)


def encode_tariff(feeds: Iterable[Feed]) -> bytes:
    """Encode feeds side by side; in any order they give the same bytes.

    Raises:
        TariffError: Two have one name, or a row points beyond its table.
    """
    tariff = Tariff(FORMAT, tuple(sorted(feeds, key=lambda feed: feed.name)))
    _check(tariff, _WHERE)
    return _MAGIC + msgspec.msgpack.encode(tariff)


def _check(tariff: Tariff, where: object) -> None:
    if len({feed.name for feed in tariff.feeds}) != len(tariff.feeds):
        raise TariffError(where, "two feeds have one name")
    for feed in tariff.feeds:
        wrong = breach(feed)
        if wrong is not None:
            raise TariffError(where, f"feed {feed.name}: {wrong}")


def _numbered(ids: Iterable[str]) -> dict[str, int]:
    return {each: number for number, each in enumerate(ids)}

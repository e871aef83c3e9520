"""A gate without news, from the publisher's configuration to the journal: what rides, what does not, and why."""

from pathlib import Path

from backend_sync.demo.population import Card
from backend_sync.publisher import Dates
from tests.flow.lane import HOUR_S, Lane, open_lane
from validator.lists.gate_rules import KEEP, GateRules, StalePolicy
from validator.lists.manifest import ListKind
from validator.model import Reason
from validator.rights import ProductKind

FARE = 120


async def ride(lane: Lane, card: Card) -> tuple[Reason, bool, int]:
    """Tap; say the reason, whether the grant was marked, and what it took."""
    tap = (await lane.present(card)).tap
    return tap.reason, tap.graced, tap.amount


def ask(lane: Lane, policy: StalePolicy) -> None:
    """Publish what the deny list is worth past its date, in a configuration that is past its own date as well."""
    now_s = int(lane.now.timestamp())
    lane.depot.publisher.config(GateRules({ListKind.DENY: policy}), Dates(now_s - 3 * HOUR_S, now_s - 2 * HOUR_S))
    lane.depot.install()
    lane.adopt()


async def test_past_the_deny_lists_date_the_signed_configuration_says_what_rides(tmp_path: Path) -> None:
    async with open_lane(tmp_path) as lane:
        payer, holder = lane.card(), lane.card()
        lane.sell(payer, ProductKind.STORED_VALUE, balance=1000, fare=FARE)
        lane.sell(holder)
        lane.publish()
        assert await ride(lane, payer) == (Reason.VALID, False, FARE)
        now_s = int(lane.now.timestamp())
        lane.depot.publisher.deny([], Dates(now_s - 2 * HOUR_S, now_s - HOUR_S))
        lane.depot.install()
        lane.adopt()
        assert await ride(lane, payer) == (Reason.VALID, True, FARE), "by the gate's own file, any fare"

        ask(lane, StalePolicy(2 * HOUR_S, value_limit=FARE - 1))
        assert await ride(lane, payer) == (Reason.DENY_LIST_STALE, False, 0)
        assert await ride(lane, holder) == (Reason.VALID, True, 0), "a pass costs nothing more"
        ask(lane, StalePolicy(2 * HOUR_S, value_limit=FARE))
        assert await ride(lane, payer) == (Reason.VALID, True, FARE)
        ask(lane, StalePolicy(60))
        assert await ride(lane, payer) == (Reason.DENY_LIST_STALE, False, 0)
        assert await ride(lane, holder) == (Reason.DENY_LIST_STALE, False, 0), "past the grace nobody rides"
        ask(lane, KEEP)
        assert await ride(lane, payer) == (Reason.VALID, True, FARE)
        assert lane.station.lists.manifests[ListKind.CONFIG].version == 4

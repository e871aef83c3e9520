"""What following a national deny list costs one gate in a week: 20,000 changes a day, in virtual time.

A hundred million numbered cards, one in a hundred refused. The list is published at the beginning of the week; every
five minutes some seventy cards change, nine of ten to refused; the publisher folds its changes each hour and signs a
timestamp each hour. The gate's follower is the real one. Bytes are MQTT's own packets, both ways, without TCP.
"""

import asyncio
import random
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from backend_sync import shelf, wire
from backend_sync.announcement import Chain, Rhythm, Signer, advance, resume, standing
from backend_sync.catalogue.fetching import OBJECTS
from backend_sync.catalogue.floors import FloorsFile
from backend_sync.catalogue.repository import METADATA
from backend_sync.catalogue.roles import TIMESTAMP
from backend_sync.change_follower import followers_of
from backend_sync.list_follower import ListFollower
from backend_sync.list_installer import Home, ListInstaller
from backend_sync.mqtt import Message
from backend_sync.publisher import Published
from backend_sync.revocation_word import Word
from backend_sync.telling import DENIALS, Refusals, refusals
from bench.figures import Figure
from bench.list_office import REGION, Office
from validator.card_index import TOKENS
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import DenyChange
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.manifest import ListKind, Manifest, seal_manifest
from validator.model import Credential

CARDS: Final = 100_000_000
REFUSED: Final = 1_000_000
CHANGES_A_DAY: Final = 20_000
EVERY_S: Final = 300
DAYS: Final = 7
RESTORED: Final = 0.1
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
GOAL_B: Final = 500_000

_HEADER: Final = 2 + 2 + 2
"""Of a packet: its kind and length, the length of its topic, its identifier."""
_ANSWER: Final = 4

DenyChain = Chain[DenyList, DenyChange, Refusals]


class Broker:
    """Keeps what is retained, delivers to one gate, and counts."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.moved = 0
        self.follower: ListFollower | None = None
        self._subscribed: set[str] = set()

    async def subscribe(self, topic: str) -> None:
        """Subscribe the gate."""
        self.moved += _HEADER + len(topic) + 1 + _ANSWER + 1
        self._subscribed.add(topic)
        if self.retained.get(topic):
            self._deliver(topic, self.retained[topic])

    async def unsubscribe(self, topic: str) -> None:
        """Have the gate leave a topic."""
        self.moved += _HEADER + len(topic) + _ANSWER
        self._subscribed.discard(topic)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take what the office publishes."""
        if retain:
            self.retained[topic] = payload
        if topic in self._subscribed:
            self._deliver(topic, payload)

    def _deliver(self, topic: str, payload: bytes) -> None:
        long = 1 if len(payload) < 100 else 2 if len(payload) < 16_000 else 3
        self.moved += _HEADER + long - 1 + len(topic) + len(payload) + _ANSWER
        assert self.follower is not None
        self.follower.take(Message(topic, payload, 1, 1))


def week(folder: Path) -> list[Figure]:
    """Live a week, and say what it cost."""
    return asyncio.run(_week(folder))


async def _week(folder: Path) -> list[Figure]:
    rng, now = random.Random(2), int(time.time())
    office = Office.create(folder / "office", 1, ["gate-1"], now)
    role, key = office.catalogue.signer(ListKind.DENY)
    published = _publish(office, rng, now)
    chain = resume(DENIALS, *published, [], Signer(role, key))
    broker, clock = Broker(), [now]
    (folder / "gate" / "uplink").mkdir(parents=True)
    own = Home(
        device="gate-1",
        region=REGION,
        lists=folder / "gate" / "lists",
        folder=folder / "gate" / "uplink" / "catalogue",
        root=office.root,
    )
    with FloorsFile(folder / "gate" / "floors.db") as floors:
        installer = ListInstaller(own, floors, list)
        broker.follower = follower = ListFollower(
            installer=installer,
            changes=followers_of(own.lists, REGION, installer.keys, lambda: clock[0]),
            now_s=lambda: clock[0],
            answer_s=0.01,
        )
        _file(office, broker)
        following = asyncio.create_task(follower.run(broker))
        await _until(lambda: follower.changes[ListKind.DENY].version == 1)
        first = broker.moved
        for _ in range(DAYS * DAY_S // EVERY_S):
            clock[0] += EVERY_S
            chain = _change(chain, rng, clock[0], Signer(role, key), broker)
            await _until(_reached(follower, chain.number))
            if (clock[0] - now) % HOUR_S == 0:
                fresh_until_s = office.catalogue.stamp(clock[0])
                _file(office, broker)
                await _until(_stamped(installer, fresh_until_s))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if installer.refused or follower.changes[ListKind.DENY].refused:
        raise RuntimeError(f"the gate refused something: {installer.refused} {follower.changes[ListKind.DENY].refused}")
    total = broker.moved
    return [
        Figure("a week: the list at its beginning", first, "B", 1),
        Figure("a week: following it, a day", (total - first) / DAYS, "B", DAYS),
        Figure("a week: all of it, a gate and day", total / DAYS, "B", DAYS, goal=GOAL_B),
    ]


def _publish(office: Office, rng: random.Random, now_s: int) -> tuple[DenyList, Manifest]:
    """Put the list of a nation's numbered cards into the catalogue."""
    role, key = office.catalogue.signer(ListKind.DENY)
    section = dense_deny(TOKENS, CARDS, sorted(rng.sample(range(CARDS), REFUSED)))
    content = encode_deny_list([], [section])
    manifest = Manifest(
        ListKind.DENY, REGION, 1, now_s, now_s + 2 * DAYS * DAY_S, sha256(content).digest(), len(content)
    )
    payload, sealed = office.home / "deny", office.home / "deny.manifest"
    payload.write_bytes(content)
    sealed.write_bytes(seal_manifest(manifest, key, role))
    office.catalogue.bring(Published(manifest, REFUSED, sealed, payload), 100, now_s)
    return DenyList.parse(content), manifest


def _change(chain: DenyChain, rng: random.Random, now_s: int, signer: Signer, broker: Broker) -> DenyChain:
    """Make a change and publish it, as `publish announce` does."""
    count = CHANGES_A_DAY * EVERY_S // DAY_S + (rng.random() < CHANGES_A_DAY * EVERY_S / DAY_S % 1)
    section = chain.listed.numbered[TOKENS]
    words = []
    for _ in range(count):
        restored = rng.random() < RESTORED
        number = section.numbers[rng.randrange(len(section))] if restored else rng.randrange(CARDS)
        words.append(Word(Credential(rng.randbytes(16), TOKENS, index=number), revoked=not restored, before=restored))
    made = advance(chain, refusals(chain.published, words), now_s, rhythm=Rhythm(), signer=signer)
    assert made is not None
    following, sealed = made
    for which, payload in standing([following]).items():
        broker.publish(wire.list_change(REGION, ListKind.DENY, which), payload, retain=True)
    broker.publish(wire.list_change(REGION, ListKind.DENY, "next"), sealed, retain=False)
    return following


def _file(office: Office, broker: Broker) -> None:
    """Leave the catalogue's files at the broker, the timestamp last."""
    home = office.catalogue.folder
    for path in (home / OBJECTS).iterdir():
        broker.retained[shelf.topic_of(REGION, f"{OBJECTS}/{path.name}")] = path.read_bytes()
    for path in (home / METADATA).glob("[0-9]*.json"):
        broker.retained[wire.list_metadata(REGION, path.name)] = path.read_bytes()
    name = f"{TIMESTAMP}.json"
    broker.publish(wire.list_metadata(REGION, name), (home / METADATA / name).read_bytes(), retain=True)


def _reached(follower: ListFollower, number: int) -> Callable[[], bool]:
    return lambda: follower.changes[ListKind.DENY].number == number


def _stamped(installer: ListInstaller, fresh_until_s: int) -> Callable[[], bool]:
    return lambda: installer.catalogue is not None and installer.catalogue.fresh_until_s == fresh_until_s


async def _until(true: Callable[[], bool]) -> None:
    """Wait for the gate's thread.

    Raises:
        TimeoutError: It does not get there.
    """
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 - a thread has no event to wait for
            await asyncio.sleep(0.001)

"""Supervision against a real datagram socket, with time in our hands."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.supervision import Notifier, Progress, SupervisionError, watch


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


@contextmanager
def full(manager: socket.socket) -> Iterator[None]:
    """Fill the manager's queue. One sender runs out of its own memory first where systemd made queues long."""
    with ExitStack() as senders:
        while True:
            noise = senders.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            noise.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    noise.sendto(b"noise", manager.getsockname())
                    sent += 1
            if not sent:
                break
        yield


def notifier_to(manager: socket.socket, watchdog_s: float | None = None) -> Notifier:
    return Notifier(manager.getsockname(), watchdog_s)


def test_each_message_is_one_datagram(manager: socket.socket) -> None:
    with notifier_to(manager) as notifier:
        notifier.ready("serving nfcpy:usb")
        notifier.status("42 taps")
        notifier.feed()
        notifier.stopping()
    assert heard(manager) == ["READY=1\nSTATUS=serving nfcpy:usb", "STATUS=42 taps", "WATCHDOG=1", "STOPPING=1"]


def test_an_abstract_socket() -> None:
    name = f"pilet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        with Notifier("@" + name) as notifier:
            notifier.feed()
        assert manager.recv(64) == b"WATCHDOG=1"


def test_a_status_cannot_smuggle_an_assignment(manager: socket.socket) -> None:
    with notifier_to(manager) as notifier:
        notifier.status("card says\nMAINPID=1\r\nREADY=1")
    assert heard(manager) == ["STATUS=card says MAINPID=1 READY=1"]


def test_without_a_service_manager_nothing_is_said() -> None:
    with Notifier.from_environment({"WATCHDOG_USEC": "20000000"}, pid=7) as notifier:
        assert notifier.watchdog_s is None
        notifier.ready("by hand")
        notifier.feed()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, None),
    ],
)
def test_the_watchdog_of_this_process(environ: dict[str, str], watchdog_s: float | None) -> None:
    with Notifier.from_environment({"NOTIFY_SOCKET": "/run/notify", **environ}, pid=7) as notifier:
        assert notifier.watchdog_s == watchdog_s


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "NOTIFY_SOCKET"),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC"),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC"),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "²"}, "WATCHDOG_USEC"),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "-1"}, "WATCHDOG_PID"),
    ],
)
def test_a_bad_environment_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SupervisionError, match=named):
        Notifier.from_environment(environ, pid=7)


def test_a_manager_that_does_not_listen_is_named(tmp_path: Path) -> None:
    with Notifier(str(tmp_path / "nobody")) as notifier, pytest.raises(SupervisionError, match="nobody"):
        notifier.ready("anybody?")


def test_a_full_queue_delays_a_message_and_loses_none(manager: socket.socket) -> None:
    with notifier_to(manager) as notifier, full(manager):
        notifier.ready("first")
        notifier.status("second")
        assert set(heard(manager)) == {"noise"}
        notifier.feed()
        assert heard(manager) == ["READY=1\nSTATUS=second\nWATCHDOG=1"]
        notifier.feed()
        assert heard(manager) == ["WATCHDOG=1"]


# An activity, what happens to it, and how many seconds later.
steps = st.lists(
    st.tuples(st.sampled_from(["reader", "journal"]), st.sampled_from(["moved", "rests", "wait"]), st.integers(0, 9))
)


@given(steps)
def test_late_is_exactly_what_moved_last_before_its_deadline(events: list[tuple[str, str, int]]) -> None:
    deadlines_s = {"reader": 5.0, "journal": 3.0}
    progress, now = Progress(deadlines_s, 0.0), 0.0
    expected: dict[str, float | None] = dict.fromkeys(deadlines_s, 0.0)
    for activity, event, after_s in events:
        now += after_s
        if event == "moved":
            progress.moved(activity, now)
            expected[activity] = now
        elif event == "rests":
            progress.rests(activity)
            expected[activity] = None
        late = tuple(name for name, at in expected.items() if at is not None and now - at > deadlines_s[name])
        assert progress.late(now) == late


def test_a_counter_that_stands_still_is_no_progress() -> None:
    progress = Progress({"reader": 5.0}, 0.0)
    progress.counted("reader", 10, 4.0)
    progress.counted("reader", 10, 8.0)
    assert progress.late(9.0) == ()
    assert progress.late(9.5) == ("reader",)
    progress.counted("reader", 11, 9.5)
    assert progress.late(9.5) == ()


def test_unknown_activities_and_senseless_deadlines_are_refused() -> None:
    progress = Progress({"reader": 5.0}, 0.0)
    with pytest.raises(KeyError, match="raeder"):
        progress.moved("raeder", 1.0)
    with pytest.raises(KeyError, match="raeder"):
        progress.rests("raeder")
    with pytest.raises(KeyError, match="raeder"):
        progress.counted("raeder", 1, 1.0)
    for deadline_s in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="reader"):
            Progress({"reader": deadline_s}, 0.0)


class World:
    """A clock that moves only when somebody sleeps, and what happens meanwhile."""

    def __init__(self, meanwhile: Callable[["World"], None], until_s: float) -> None:
        self.now_s, self._meanwhile, self._until_s = 100.0, meanwhile, 100.0 + until_s
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        if self.now_s > self._until_s:
            raise asyncio.CancelledError
        self._meanwhile(self)


async def test_the_watchdog_is_fed_at_half_its_time_while_everything_moves(manager: socket.socket) -> None:
    progress = Progress({"reader": 5.0, "journal": 5.0}, 100.0)
    progress.rests("journal")
    polls = [0]

    def poll(_: World) -> None:
        polls[0] += 1

    world = World(poll, until_s=40.0)
    with notifier_to(manager, 20.0) as notifier, pytest.raises(asyncio.CancelledError):
        await watch(notifier, progress, world.clock, counters={"reader": lambda: polls[0]}, pause=world.pause)
    assert heard(manager) == ["WATCHDOG=1"] * 5
    assert set(world.slept) == {10.0}


async def test_one_late_activity_starves_the_watchdog_until_it_moves_again(manager: socket.socket) -> None:
    progress = Progress({"reader": 12.0, "uplink": 12.0}, 100.0)

    def uplink_hangs_for_a_while(world: World) -> None:
        progress.moved("reader", world.now_s)
        if world.now_s >= 140.0:
            progress.moved("uplink", world.now_s)

    world = World(uplink_hangs_for_a_while, until_s=50.0)
    with notifier_to(manager, 20.0) as notifier, pytest.raises(asyncio.CancelledError):
        await watch(notifier, progress, world.clock, pause=world.pause)
    assert heard(manager) == [
        "WATCHDOG=1",  # 100 s
        "WATCHDOG=1",  # 110 s
        "STATUS=no progress: uplink",  # 120 s, and nothing at 130 s
        "WATCHDOG=1",  # 140 s
        "STATUS=progress again",
        "WATCHDOG=1",  # 150 s
    ]


async def test_nobody_watches(manager: socket.socket) -> None:
    with notifier_to(manager) as notifier:
        await watch(notifier, Progress({"reader": 5.0}, 0.0), clock=lambda: 1e9)
    assert heard(manager) == []

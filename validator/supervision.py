"""Supervision by systemd: readiness, status, and a watchdog that only progress feeds.

The protocol is datagrams of ``KEY=value`` lines on ``$NOTIFY_SOCKET`` (sd_notify(3), sd_watchdog_enabled(3)). A timer
that feeds the watchdog would go on while the reader's thread hangs; so each activity of the process has a deadline, and
one that misses it starves the watchdog. Both processes of a device use this.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

import structlog

log = structlog.get_logger()

_NO_COUNTERS: Mapping[str, Callable[[], int]] = MappingProxyType({})


class SupervisionError(Exception):
    """The service manager gave an environment that cannot be used, or does not listen."""


class Notifier:
    """Speaks to the service manager; says nothing where there is none.

    A message that finds the manager's queue full is kept and goes out with the next one, so that a busy manager never
    blocks the event loop.

    Args:
        address: Path of the socket, or ``@`` and a name for an abstract one; None without a service manager.
        watchdog_s: Seconds after which the manager gives up on us; None where it does not watch.

    Raises:
        SupervisionError: The address is neither a path nor an abstract name.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        if address is not None and address[:1] not in ("/", "@"):
            raise SupervisionError(f"NOTIFY_SOCKET: {address!r} is neither a path nor an abstract socket (@name)")
        self.watchdog_s = watchdog_s
        self._address = address
        self._unsent: dict[str, str] = {}
        self._socket: socket.socket | None = None
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Self:
        """Read what the service manager said: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC``, ``WATCHDOG_PID``.

        Args:
            environ: The process's environment.
            pid: The process's id; a watchdog meant for another process is left to it.

        Raises:
            SupervisionError: A variable has a value that the protocol does not allow.
        """
        address = environ.get("NOTIFY_SOCKET") or None
        return cls(address, _watchdog_s(environ, pid) if address else None)

    def ready(self, status: str) -> None:
        """Say that start-up is done and taps are served."""
        self._tell(READY="1", STATUS=status)

    def status(self, text: str) -> None:
        """Say one line for ``systemctl status``."""
        self._tell(STATUS=text)

    def feed(self) -> None:
        """Feed the watchdog."""
        self._tell(WATCHDOG="1")

    def stopping(self) -> None:
        """Say that shutdown has begun."""
        self._tell(STOPPING="1")

    def close(self) -> None:
        """Release the socket; what is told afterwards is not sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, **assignments: str) -> None:
        if self._socket is None or self._address is None:
            return
        # A line break would start an assignment of the text's own.
        self._unsent |= {key: " ".join(value.split()) for key, value in assignments.items()}
        message = "\n".join(f"{key}={value}" for key, value in self._unsent.items())
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), target)
        except BlockingIOError:
            return
        except OSError as error:
            raise SupervisionError(f"NOTIFY_SOCKET: {self._address} does not listen: {error.strerror}") from None
        self._unsent.clear()


class Progress:
    """When each activity of the process last moved, and which of them are late.

    A reader or a link is expected to move all the time. A writer has nothing to do while nobody taps: it says `moved`
    when it is given work and `rests` when that work is done. An attempt is progress too: a reader that is unplugged and
    is tried again every few seconds is a fault for the lamp, not for the watchdog.

    Args:
        deadlines_s: Seconds within which each activity moves, by its name.
        mono_s: Now, by the monotonic clock; every activity starts as if it had just moved.

    Raises:
        ValueError: A deadline is not above zero.
    """

    def __init__(self, deadlines_s: Mapping[str, float], mono_s: float) -> None:
        for activity, deadline_s in deadlines_s.items():
            if not deadline_s > 0:
                raise ValueError(f"activity {activity!r}: a deadline of {deadline_s} s is not above zero")
        self._deadlines_s = dict(deadlines_s)
        self._moved_s = dict.fromkeys(deadlines_s, mono_s)
        self._counts: dict[str, int] = {}

    def moved(self, activity: str, mono_s: float) -> None:
        """Record that an activity got on; its deadline starts anew.

        Raises:
            KeyError: No such activity was named at the start.
        """
        self._moved_s[self._known(activity)] = mono_s

    def rests(self, activity: str) -> None:
        """Record that nothing waits for an activity: it has no deadline until it moves again.

        Raises:
            KeyError: No such activity was named at the start.
        """
        self._moved_s.pop(self._known(activity), None)

    def counted(self, activity: str, count: int, mono_s: float) -> None:
        """Record a counter of an activity; it moved if the counter differs from the last one seen.

        Raises:
            KeyError: No such activity was named at the start.
        """
        if self._counts.get(self._known(activity)) != count:
            self._counts[activity] = count
            self.moved(activity, mono_s)

    def late(self, mono_s: float) -> tuple[str, ...]:
        """Return the activities that missed their deadline, in the order in which they were named."""
        return tuple(
            activity
            for activity, deadline_s in self._deadlines_s.items()
            if activity in self._moved_s and mono_s - self._moved_s[activity] > deadline_s
        )

    def _known(self, activity: str) -> str:
        if activity not in self._deadlines_s:
            raise KeyError(f"activity {activity!r} was not named when supervision began")
        return activity


async def watch(
    notifier: Notifier,
    progress: Progress,
    clock: Callable[[], float],
    *,
    counters: Mapping[str, Callable[[], int]] = _NO_COUNTERS,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Feed the watchdog at half its time for as long as every activity keeps its deadline. Runs until cancelled.

    Returns at once where nobody watches. While an activity is late nothing is fed, and the status names it: the service
    manager ends a process that does not recover, and its log says why.

    Args:
        notifier: The way to the service manager.
        progress: The activities.
        clock: The monotonic clock, in seconds; the same one that `progress` is told.
        counters: Counters to look at before each meal, by activity, for example a reader's `polls`.
        pause: Sleeps for so many seconds.

    Raises:
        SupervisionError: The service manager went away.
        KeyError: A counter belongs to no activity.
    """
    if notifier.watchdog_s is None:
        return
    before: tuple[str, ...] = ()
    while True:
        now = clock()
        for activity, read in counters.items():
            progress.counted(activity, read(), now)
        late = progress.late(now)
        if not late:
            notifier.feed()
        if late != before:
            _tell_change(notifier, late)
            before = late
        await pause(notifier.watchdog_s / 2)


def _tell_change(notifier: Notifier, late: tuple[str, ...]) -> None:
    if late:
        log.critical("no progress; the watchdog is not fed", late=late)
        notifier.status(f"no progress: {', '.join(late)}")
    else:
        log.warning("progress again; the watchdog is fed")
        notifier.status("progress again")


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    watchdog_us = environ.get("WATCHDOG_USEC")
    if watchdog_us is None:
        return None
    owner = environ.get("WATCHDOG_PID", str(pid))
    for name, value in (("WATCHDOG_USEC", watchdog_us), ("WATCHDOG_PID", owner)):
        if not (value.isascii() and value.isdecimal() and int(value)):
            raise SupervisionError(f"{name}: {value!r} is not a number above zero")
    return int(watchdog_us) / 1e6 if int(owner) == pid else None

"""A thread of one's own for what blocks: a reader that cannot be polled otherwise, a database with one writer.

A hop to the thread and back costs about half of what `loop.run_in_executor` takes, and a tap makes several.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

_T = TypeVar("_T")


class Worker:
    """One thread that does one job after the other; a daemon, so that a job that hangs does not hold up the exit.

    Args:
        name: Of the thread, for debuggers.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[], _T]) -> _T:
        """Run a job in the thread, and return or raise what it does.

        A caller that is cancelled before its job begins leaves it undone; one that is cancelled later leaves it to end
        by itself.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Callable[[], _T]] = loop.create_future()

        def begin() -> None:
            if not outcome.cancelled():
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_resolve, outcome, _outcome_of(job))

        self._jobs.put(begin)
        return (await outcome)()

    def later(self, job: Callable[[], None]) -> None:
        """Run a job in the thread after those that wait there; it raises nothing."""
        self._jobs.put(job)

    def end(self) -> None:
        """Let the thread end after what waits, without waiting for it."""
        self._jobs.put(None)

    def join(self) -> None:
        """Let the thread end after what waits, and wait for it."""
        self.end()
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _outcome_of(job: Callable[[], _T]) -> Callable[[], _T]:
    try:
        value = job()
    except BaseException as error:  # noqa: BLE001 - handed to the caller, who awaits it
        return partial(_raise, error)
    return lambda: value


def _raise(error: BaseException) -> NoReturn:
    raise error


def _resolve(outcome: "asyncio.Future[_T]", value: _T) -> None:
    if not outcome.done():  # the caller may have been cancelled meanwhile
        outcome.set_result(value)

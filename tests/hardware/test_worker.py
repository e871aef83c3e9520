"""One thread for what blocks: jobs in order, results and errors brought back, callers that give up."""

import asyncio
import threading
from functools import partial

import pytest

from hardware.worker import Worker


@pytest.fixture
def worker() -> Worker:
    return Worker("test")


async def test_jobs_run_in_one_thread_and_in_order(worker: Worker) -> None:
    done: list[int] = []

    def note(number: int) -> int:
        done.append(number)
        return threading.get_ident()

    names = await asyncio.gather(*(worker.run(partial(note, number)) for number in range(50)))
    assert done == list(range(50))
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()
    worker.join()


async def test_an_error_comes_back_to_who_asked(worker: Worker) -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await worker.run(fail)
    assert await worker.run(lambda: 7) == 7
    worker.join()


async def test_a_job_whose_caller_gave_up_is_not_begun(worker: Worker) -> None:
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        gate.wait()

    worker.later(hold)
    waiting = asyncio.create_task(worker.run(begun.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await worker.run(lambda: None)
    assert not begun.is_set()
    worker.join()


async def test_joining_waits_for_what_was_asked_before(worker: Worker) -> None:
    done = threading.Event()
    worker.later(done.set)
    worker.join()
    assert done.is_set()

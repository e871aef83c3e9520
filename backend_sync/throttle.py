"""Complaints in the log: once per source and minute, however much one source sends."""

import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

_MINUTE = 60.0
_SOURCES = 1000


class LogThrottle:
    """Remembers when each source was last complained about, for at most a thousand sources."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def allows(self, source: str, now: float) -> int | None:
        """Return how often `source` was held back since its last line if a line is due, else None.

        Args:
            source: What the complaint is about; with a thousand others in the same minute it is held back.
            now: Seconds of a monotonic clock.
        """
        last = self._last.get(source)
        if last is not None and now - last[0] < _MINUTE:
            self._last[source] = (last[0], last[1] + 1)
            return None
        if last is None and len(self._last) >= _SOURCES:
            self._last = {name: seen for name, seen in self._last.items() if now - seen[0] < _MINUTE}
            if len(self._last) >= _SOURCES:
                return None
        self._last[source] = (now, 0)
        return 0 if last is None else last[1]


class Complaints:
    """Logs warnings, each with how many like it were held back since the last one.

    Args:
        log: Where to.
        now_s: Seconds of a monotonic clock.
    """

    def __init__(self, log: FilteringBoundLogger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._now_s = log, now_s
        self._throttle = LogThrottle()

    def warn(self, source: str, event: str, **facts: object) -> None:
        """Log an event with its facts, unless this source complained less than a minute ago."""
        held_back = self._throttle.allows(source, self._now_s())
        if held_back is not None:
            self._log.warning(event, held_back=held_back, **facts)


def first_cause(group: BaseExceptionGroup[Exception]) -> str:
    """Return what the first error says that a task group ended with."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)

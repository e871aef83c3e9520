"""Says when a repeated complaint may be logged again: once per source and minute, however much one source sends."""

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

"""What is wrong with a feed. All of it is said at once, and nothing is compiled while there is anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend.

    Attributes:
        file: Its name in the feed.
        line: Counted from 1 for the heading; 0 for the file itself.
        field: The column; empty for the whole line.
        meaning: What is wrong.
        remedy: What to do.
    """

    file: str
    line: int
    field: str
    meaning: str
    remedy: str

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}" if self.line else self.file
        return f"{at}: {self.field + ': ' if self.field else ''}{self.meaning}; {self.remedy}"


@dataclass(slots=True)
class Problems:
    """What was found so far."""

    found: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, field: str, meaning: str, remedy: str) -> None:
        """Note a problem."""
        self.found.append(Problem(file, line, field, meaning, remedy))


class FeedRefused(Exception):  # noqa: N818 - names what happened to the feed
    """A feed is not compiled.

    Attributes:
        feed: Its name.
        problems: All that is wrong with it, by file and line.
    """

    def __init__(self, feed: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{feed}: {len(problems)} problems, nothing is compiled; the first: {problems[0]}")
        self.feed = feed
        self.problems = tuple(problems)


class FeedMissing(Exception):  # noqa: N818 - names the feed that has to be brought
    """A feed cannot be read at all."""

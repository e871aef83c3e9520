"""A disk that forgets what was not synchronised, and a power cut at the n-th step, for programs that write files.

The program under test runs on the real file system. Its calls to make, rename, remove and synchronise are counted; the
cut comes before the chosen one. `recover` then takes away what a disk may have lost: files that were written and not
synchronised are empty, renames whose folder was not synchronised are undone.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COUNTED = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")

_State = tuple[int, int, int]


class PowerCut(BaseException):
    """Nothing in the program may catch it: there is no program any more."""


@dataclass
class ForgetfulDisk:
    """Watches one folder.

    Attributes:
        root: The folder.
        cut_at: Number of the step before which the power goes; None for never.
        syncs: Whether the disk does what fsync asks for.
        steps: Steps done so far.
    """

    root: Path
    cut_at: int | None = None
    syncs: bool = True
    steps: int = 0
    _safe: set[_State] = field(default_factory=set)
    _renames: list[tuple[Path, Path, bytes | None]] = field(default_factory=list)

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        """Start watching; what is there already is safe."""
        self._safe = {_state(path.stat()) for path in self.root.rglob("*") if path.is_file()}
        for call in COUNTED:
            patch.setattr(os, call, self._counted(call, getattr(os, call)))

    def recover(self) -> None:
        """Lose what was not synchronised."""
        for path in self.root.rglob("*"):
            if path.is_file() and _state(path.stat()) not in self._safe:
                path.write_bytes(b"")
        for source, target, overwritten in reversed(self._renames):
            if not target.exists():
                continue
            target.rename(source)
            if overwritten is not None:
                target.write_bytes(overwritten)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.steps == self.cut_at:
                raise PowerCut
            self.steps += 1
            if name == "fsync":
                self._sync(args[0])
            elif name in {"rename", "replace"}:
                source, target = Path(args[0]), Path(args[1])
                self._renames.append((source, target, target.read_bytes() if target.is_file() else None))
            return call(*args, **kwargs)

        return counted

    def _sync(self, descriptor: int) -> None:
        if not self.syncs:
            return
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self._renames = [rename for rename in self._renames if rename[1].parent != path]
        else:
            self._safe.add(_state(os.fstat(descriptor)))


def _state(found: os.stat_result) -> _State:
    return found.st_ino, found.st_size, found.st_mtime_ns

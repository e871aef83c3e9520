"""A disk that forgets: a SQLite VFS that logs every write, truncation and sync, and the images a power cut may leave.

What a power cut may do, per file: everything up to the last sync of that file is there; of what was written since, each
operation may be lost, whole, or torn at 512-byte sectors, in any order, and a lost write beyond the end may leave zeros
of its length. Per folder: files made, and files deleted, since the last sync of the folder may be as before. SQLite
syncs the folder with the first sync of a log or rollback journal that it made, and with a deletion when told to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
_NUMBER = count()
_LOGS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
_LOGGED = apsw.SQLITE_OPEN_MAIN_DB | _LOGS


@dataclass(frozen=True, slots=True)
class Made:
    """A file came into the folder."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A file left the folder."""

    name: str


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """What was made and deleted so far is on the disk."""


@dataclass(frozen=True, slots=True)
class Written:
    """Octets were handed to the operating system."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file was cut or stretched."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """What was written to a file so far is on the disk."""

    inode: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The journal said that this entry is safe: the moment in which a gate opens."""

    seq: int


Event = Made | Gone | FolderSynced | Written | Truncated | Synced | Acknowledged


@dataclass(slots=True)
class Disk:
    """What happened on a disk, from what was on it at first.

    Attributes:
        before: Contents by file name, all of it safe.
        events: What happened since, in order.
    """

    before: dict[str, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def cut(self, at: int, rng: Random) -> dict[str, bytes]:
        """Return what a power cut after `at` events leaves, by file name."""
        past = self._replay(at)
        names = past.names_after(rng.randint(0, len(past.renamed)))
        return {name: _survived(past.safe[inode], past.unsynced[inode], rng) for name, inode in names.items()}

    def unsynced(self) -> list["Written | Truncated"]:
        """Return what no sync has followed yet."""
        return [
            operation for operations in self._replay(len(self.events)).unsynced.values() for operation in operations
        ]

    def acknowledged(self, at: int) -> set[int]:
        """Return the entries that were said to be safe among the first `at` events."""
        return {event.seq for event in self.events[:at] if isinstance(event, Acknowledged)}

    def _replay(self, at: int) -> "_Past":
        names = {name: first_inode(number) for number, name in enumerate(self.before)}
        past = _Past(names, {names[name]: bytearray(content) for name, content in self.before.items()}, {})
        past.unsynced.update({inode: [] for inode in past.safe})
        for event in self.events[:at]:
            match event:
                case Made(_, inode):
                    past.renamed.append(event)
                    past.safe[inode], past.unsynced[inode] = bytearray(), []
                case Gone():
                    past.renamed.append(event)
                case FolderSynced():
                    past.names = past.names_after(len(past.renamed))
                    past.renamed.clear()
                case Written(inode) | Truncated(inode):
                    past.unsynced[inode].append(event)
                case Synced(inode):
                    for operation in past.unsynced[inode]:
                        _do(past.safe[inode], operation)
                    past.unsynced[inode].clear()
        return past


def first_inode(number: int) -> int:
    """Number the files that were there before the log began; those that come later count up from 1."""
    return -1 - number


@dataclass(slots=True)
class _Past:
    """The disk at one moment: what is safe, and what is still on its way there."""

    names: dict[str, int]
    safe: dict[int, bytearray]
    unsynced: dict[int, list[Written | Truncated]]
    renamed: list[Made | Gone] = field(default_factory=list)

    def names_after(self, changes: int) -> dict[str, int]:
        """Return inodes by name, if that many of the folder's last changes reached the disk."""
        names = dict(self.names)
        for change in self.renamed[:changes]:
            if isinstance(change, Made):
                names[change.name] = change.inode
            else:
                names.pop(change.name, None)
        return names


def _survived(safe: bytearray, operations: list[Written | Truncated], rng: Random) -> bytes:
    """Return a file after the cut: some of the operations since its last sync, in some order, some of them torn."""
    data = bytearray(safe)
    survival, tearing = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)), rng.choice((0.0, 0.3, 0.9))
    for operation in rng.sample(operations, len(operations)) if rng.random() < 0.5 else operations:
        if rng.random() < survival:
            if isinstance(operation, Written) and rng.random() < tearing:
                _tear(data, operation, rng)
            else:
                _do(data, operation)
        elif isinstance(operation, Written) and rng.random() < 0.2:
            _stretch(data, operation.offset + len(operation.data))
    return bytes(data)


def _do(data: bytearray, operation: Written | Truncated) -> None:
    match operation:
        case Written(_, offset, octets):
            _stretch(data, offset)
            data[offset : offset + len(octets)] = octets
        case Truncated(_, size):
            del data[size:]
            _stretch(data, size)


def _tear(data: bytearray, write: Written, rng: Random) -> None:
    """Write only some sectors; the parts of a write in one sector share its fate."""
    end = write.offset + len(write.data)
    for sector in range(write.offset // SECTOR, (end - 1) // SECTOR + 1):
        if rng.random() < 0.5:
            start, stop = max(write.offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            _do(data, Written(write.inode, start, write.data[start - write.offset : stop - write.offset]))


def _stretch(data: bytearray, size: int) -> None:
    data.extend(bytes(max(0, size - len(data))))


class CrashVfs(apsw.VFS):
    """The operating system's files, with a log of what happens to a database, its log and its rollback journal."""

    def __init__(self, folder: Path) -> None:
        self.vfs_name = f"crash-{next(_NUMBER)}"
        self.disk = Disk({path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")})
        self._inodes = {name: first_inode(number) for number, name in enumerate(self.disk.before)}
        self._next_inode = count(1)
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        if name is None or not flags[0] & _LOGGED:
            return apsw.VFSFile("", name, flags)
        path = Path(name if isinstance(name, str) else name.filename())
        made = path.name not in self._inodes
        opened = _LoggedFile(self.disk, name, flags)
        if made:
            self._inodes[path.name] = next(self._next_inode)
            self.disk.events.append(Made(path.name, self._inodes[path.name]))
        opened.inode = self._inodes[path.name]
        opened.syncs_folder = made and bool(flags[0] & _LOGS)
        return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's signature
        super().xDelete(filename, syncdir)
        if self._inodes.pop(Path(filename).name, None) is not None:
            self.disk.events.append(Gone(Path(filename).name))
        if syncdir:
            self.disk.events.append(FolderSynced())


class _LoggedFile(apsw.VFSFile):
    inode: int
    syncs_folder: bool

    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: "bytes | bytearray | memoryview", offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._disk.events.append(Written(self.inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(newsize)
        self._disk.events.append(Truncated(self.inode, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        # The files of the test need not survive this machine's own power cut.
        del flags
        self._disk.events.append(Synced(self.inode))
        if self.syncs_folder:
            self.syncs_folder = False
            self._disk.events.append(FolderSynced())


@contextmanager
def crash_vfs(folder: Path) -> Iterator[CrashVfs]:
    """Register a disk that forgets, for the files of one folder."""
    vfs = CrashVfs(folder)
    try:
        yield vfs
    finally:
        vfs.unregister()

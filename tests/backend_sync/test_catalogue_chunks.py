"""Large objects in chunks: split and put together again, resumed after any cut, bounded by what the catalogue says."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.catalogue.chunks import Index, collect, decode_index, encode_index, split
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.fetching import Fetch
from backend_sync.catalogue.roles import Kind
from backend_sync.catalogue.target import MAX_INDEX_BYTES, Custom, IndexReference, Target
from tests.backend_sync.catalogue_office import NOW, Mirror
from tests.hostile import hostile

CHUNK = 1024
CUSTOM = Custom(Kind.DENY, "north", 1, NOW, NOW + 60)


def published(folder: Path, payload: bytes) -> tuple[Target, Mirror]:
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    (folder / "payload").write_bytes(payload)
    parts = split(folder / "payload", objects, CHUNK)
    target = Target("north/deny/list", parts.length, parts.sha256, CUSTOM, parts.index)
    return target, Mirror({f"objects/{path.name}": path.read_bytes() for path in objects.iterdir()})


def refusal(fetch: Fetch, target: Target, home: Path) -> Refusal | None:
    try:
        collect(fetch, target, home / "store", home / "list")
    except CatalogueRefused as refused:
        return refused.reason
    return None


def payload(length: int) -> bytes:
    return bytes(number * 37 % 251 for number in range(length))


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 7])
def test_an_object_comes_out_as_it_went_in(tmp_path: Path, length: int) -> None:
    target, mirror = published(tmp_path, payload(length))
    collect(mirror, target, tmp_path / "store", tmp_path / "list")
    assert (tmp_path / "list").read_bytes() == payload(length)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 8), max_size=6))
def test_a_transfer_goes_on_where_it_was_cut(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """However often the line breaks, each object is carried once, and the file is there only when it is whole."""
    home = tmp_path_factory.mktemp("cut")
    target, mirror = published(home, payload(7 * CHUNK + 3))
    delivered: list[str] = []

    def breaking(after: int) -> Fetch:
        left = after

        def fetch(name: str, max_bytes: int) -> Iterator[bytes]:
            nonlocal left
            if not left:
                raise ConnectionResetError("cut")
            left -= 1
            yield from mirror(name, max_bytes)
            delivered.append(name)

        return fetch

    for cut in cuts:
        outcome = refusal(breaking(cut), target, home)
        assert outcome in {None, Refusal.NOT_REACHED}
        if outcome:
            assert not (home / "list").exists()
    collect(mirror, target, home / "store", home / "list")
    assert (home / "list").read_bytes() == payload(7 * CHUNK + 3)
    assert sorted(mirror.asked) == sorted({*mirror.asked})
    assert len(mirror.asked) == 9


def test_a_chunk_that_the_disk_spoilt_is_asked_for_again(tmp_path: Path) -> None:
    target, mirror = published(tmp_path, payload(3 * CHUNK))
    collect(mirror, target, tmp_path / "store", tmp_path / "list")
    mirror.asked.clear()
    spoilt = min(path for path in (tmp_path / "store").iterdir() if path.stat().st_size == CHUNK)
    spoilt.write_bytes(b"")
    collect(mirror, target, tmp_path / "store", tmp_path / "list")
    assert mirror.asked == [f"objects/{spoilt.name}"]


def test_what_is_published_already_is_not_written_again(tmp_path: Path) -> None:
    published(tmp_path, payload(3 * CHUNK))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "objects").iterdir()}
    published(tmp_path, payload(3 * CHUNK))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "objects").iterdir()} == before


class TestRefused:
    def test_a_chunk_of_other_bytes(self, tmp_path: Path) -> None:
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        name = next(name for name in mirror.files if len(mirror.files[name]) == CHUNK)
        mirror.files[name] = bytes(CHUNK)
        assert self.reason(tmp_path, target, mirror) is Refusal.MIX_AND_MATCH
        assert not (tmp_path / "store" / name.removeprefix("objects/")).exists()

    def test_a_chunk_that_never_ends(self, tmp_path: Path) -> None:
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        for name, content in mirror.files.items():
            if len(content) == CHUNK:
                mirror.files[name] = content + b"\0"
        assert self.reason(tmp_path, target, mirror) is Refusal.ENDLESS_DATA

    def test_a_chunk_that_is_not_there(self, tmp_path: Path) -> None:
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        del mirror.files[next(name for name in mirror.files if len(mirror.files[name]) == CHUNK)]
        assert self.reason(tmp_path, target, mirror) is Refusal.NOT_REACHED

    def test_an_index_of_another_length(self, tmp_path: Path) -> None:
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        longer = Target(target.path, target.length + 1, target.sha256, CUSTOM, target.index)
        assert self.reason(tmp_path, longer, mirror) is Refusal.MIX_AND_MATCH
        assert len(mirror.asked) == 1

    def test_chunks_of_another_object(self, tmp_path: Path) -> None:
        """A thief of the region's key lists the hash of one object and the index of another, equally long."""
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        other = Target(target.path, target.length, hashlib.sha256(b"other").hexdigest(), CUSTOM, target.index)
        assert self.reason(tmp_path, other, mirror) is Refusal.MIX_AND_MATCH
        assert sorted(path.name for path in tmp_path.iterdir()) == ["objects", "payload", "store"]

    def test_an_index_that_is_none(self, tmp_path: Path) -> None:
        junk = b"\xc1" * 40
        name = hashlib.sha256(junk).hexdigest()
        target = Target("north/deny/list", 3, "0" * 64, CUSTOM, IndexReference(name, len(junk)))
        assert self.reason(tmp_path, target, Mirror({f"objects/{name}": junk})) is Refusal.MALFORMED

    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        target, mirror = published(tmp_path, payload(3 * CHUNK))
        (tmp_path / "list").mkdir()  # a rename onto it fails, as a write on a full disk would
        with pytest.raises(CatalogueRefused) as refusal:
            collect(mirror, target, tmp_path / "store", tmp_path / "list")
        assert refusal.value.reason is Refusal.STORAGE
        assert not list(tmp_path.glob(".incoming-*"))

    def reason(self, home: Path, target: Target, mirror: Mirror) -> Refusal:
        with pytest.raises(CatalogueRefused) as refusal:
            collect(mirror, target, home / "store", home / "list")
        assert not (home / "list").exists()
        return refusal.value.reason


@given(
    chunk_bytes=st.integers(1024, 1024 * 1024),
    digests=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=9),
    tail=st.floats(0.0001, 1),
)
def test_an_index_is_read_as_it_was_written(chunk_bytes: int, digests: list[bytes], tail: float) -> None:
    length = chunk_bytes * (len(digests) - 1) + max(1, int(chunk_bytes * tail))
    index = Index(chunk_bytes, length, tuple(digests))
    assert decode_index(encode_index(index), "index") == index
    assert sum(size for _, size in index.chunks()) == length


@hostile
@given(data=st.binary(max_size=200) | st.integers(0, 255).map(lambda octet: bytes([octet]) * 100))
def test_an_index_of_arbitrary_bytes(data: bytes) -> None:
    try:
        index = decode_index(data, "index")
    except CatalogueRefused as refused:
        reason = refused.reason
    else:
        assert sum(size for _, size in index.chunks()) == index.length
        return
    assert reason is Refusal.MALFORMED


@pytest.mark.parametrize(
    "index",
    [
        [2, CHUNK, 1, bytes(32)],
        [1, 0, 0, b""],
        [1, 1023, 1, bytes(32)],
        [1, 1024 * 1024 + 1, 1, bytes(32)],
        [1, CHUNK, 2**53, bytes(32)],
        [1, CHUNK, CHUNK + 1, bytes(32)],
        [1, CHUNK, CHUNK, bytes(31)],
        [1, CHUNK, CHUNK, bytes(64)],
        [1, CHUNK, -1, b""],
        [1, CHUNK, 0, b"", 0],
        [1, CHUNK, 1.0, bytes(32)],
    ],
)
def test_an_index_that_does_not_add_up(index: list[object]) -> None:
    with pytest.raises(CatalogueRefused) as refusal:
        decode_index(msgpack.packb(index), "index")
    assert refusal.value.reason is Refusal.MALFORMED


def test_an_index_that_is_too_long() -> None:
    with pytest.raises(CatalogueRefused) as refusal:
        decode_index(bytes(MAX_INDEX_BYTES + 1), "index")
    assert refusal.value.reason is Refusal.ENDLESS_DATA

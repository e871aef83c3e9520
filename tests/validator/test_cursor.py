from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from validator.cursor import CursorFile

numbers = st.integers(0, 2**63 - 1)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


@same_folder
@given(epoch=numbers, seq=numbers, other=numbers)
def test_what_was_stored_is_loaded_for_its_epoch_and_no_other(tmp_path: Path, epoch: int, seq: int, other: int) -> None:
    cursor = CursorFile(tmp_path / "cursor", "gate-1")
    cursor.store(epoch, seq)
    assert cursor.load(epoch) == seq
    assert other == epoch or cursor.load(other) == 0
    assert CursorFile(tmp_path / "cursor", "gate-2").load(epoch) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cursor"]


@same_folder
@given(seq=st.integers(1, 2**63 - 1), data=st.data())
def test_a_damaged_file_means_from_the_start(tmp_path: Path, seq: int, data: st.DataObject) -> None:
    path = tmp_path / "cursor"
    CursorFile(path, "gate-1").store(7, seq)
    octets = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        octets = octets[: data.draw(st.integers(0, len(octets) - 1))]
    path.write_bytes(bytes(octets))
    assert CursorFile(path, "gate-1").load(7) == 0


@same_folder
@given(st.binary(max_size=100))
def test_any_content_is_harmless(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cursor"
    path.write_bytes(content)
    assert CursorFile(path, "gate-1").load(7) == 0


def test_no_file_means_from_the_start(tmp_path: Path) -> None:
    assert CursorFile(tmp_path / "cursor", "gate-1").load(7) == 0


def test_a_write_that_was_cut_short_leaves_the_old_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = CursorFile(tmp_path / "cursor", "gate-1")
    cursor.store(7, 10)
    (tmp_path / "cursor.new").write_bytes(b"half")
    assert cursor.load(7) == 10

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        cursor.store(7, 20)
    assert cursor.load(7) == 10

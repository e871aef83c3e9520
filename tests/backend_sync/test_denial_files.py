"""Files of refused cards: what is in them is read, and whatever else is in them is named by its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.denial_files import credential_ids_in, numbers_in
from backend_sync.publish_errors import InputMissing, PublishError
from validator.lists.dense_deny import MAX_COVERS

ISSUER = b"a foreign issuer"


@given(
    numbers=st.lists(st.integers(0, MAX_COVERS - 1), max_size=30),
    beyond=st.integers(0, 9),
    heading=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
    at=st.integers(0, 40),
)
def test_numbers_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, *, numbers: list[int], beyond: int, heading: bool, ending: str, at: int
) -> None:
    covers = min(max(numbers, default=-1) + 1 + beyond, MAX_COVERS)
    lines = ["number"] * heading + [f"{number}" for number in numbers]
    lines.insert(at % (len(lines) + 1), f"# covers {covers}")
    path = tmp_path_factory.mktemp("numbers") / "numbers.csv"
    path.write_text(f"{ending}# lost{ending}".join(lines), newline="")
    section = numbers_in(path, ISSUER)
    assert (section.issuer, section.covers) == (ISSUER, covers)
    assert list(section.numbers) == sorted(set(numbers))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("1\n2\n", "add a line `# covers N`"),
        ("# covers 9\n1\nx\n", "line 3: is not the number of a card"),
        ("# covers 9\n-1\n", "line 2: is not the number"),
        ("# covers 9\n1,2\n", "line 2: is not the number"),
        ("# covers 9\n1\nnumber\n", "line 3: is not the number"),
        ("# covers 9\n٣\n", "line 2: is not the number"),
        ("# covers 9\n4294967296\n", "line 2: is not the number"),
        ("3\n12\n4\n# covers 9\n", "line 2: card 12 is beyond the 9"),
        ("# covers 9\n# covers 9\n", "line 2: says a second time"),
        ("# covers 4294967297\n", "line 1: covers 4294967297 cards"),
    ],
)
def test_what_is_no_number_is_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PublishError, match=why) as refused:
        numbers_in(path, ISSUER)
    assert str(refused.value).startswith(str(path))


def test_ids(tmp_path: Path) -> None:
    path = tmp_path / "denied.txt"
    path.write_text(
        f"\ufeff{bytes(16).hex()} # found on a train\n\n# more\n{bytes(range(16)).hex().upper()}\n", "utf-8"
    )
    assert list(credential_ids_in(path)) == [bytes(16), bytes(range(16))]
    path.write_text(f"{bytes(16).hex()}\n{bytes(15).hex()}\n")
    with pytest.raises(PublishError, match="line 2: a credential id has 32"):
        list(credential_ids_in(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PublishError, match="is not text"):
        list(credential_ids_in(path))
    with pytest.raises(InputMissing, match="absent"):
        list(credential_ids_in(tmp_path / "absent.txt"))

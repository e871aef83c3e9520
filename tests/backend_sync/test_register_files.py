"""A nation's register from CSV files: each card comes out as it went in, and what is no card is named by its line."""

import datetime as dt
import gzip
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync import register_files
from backend_sync.clubcard_builder import Built
from backend_sync.clubcard_check import id_bytes
from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.register_files import RegisterFiles
from backend_sync.register_rows import COLUMNS, WrongRowError, heading_of, rows_of
from tests.hostile import hostile
from validator.lists.clubcard import Clubcard, Status
from validator.lists.deny_list import DenyList, encode_deny_list, register_block
from validator.model import Credential

LAST_S = 253402300799
ISSUERS = [b"a foreign issuer", bytes(16), b"\xff" * 16]
HEADING = ",".join(COLUMNS)
YEARS = [int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in (1971, 2000, 2024, 2025)]
Card = tuple[Credential, bool]

times = st.one_of(
    st.integers(0, LAST_S),
    st.builds(lambda begin, around: begin + around, st.sampled_from(YEARS), st.integers(-1, 1)),
)
cards = st.builds(
    lambda card_id, issuer, issued, revoked: (Credential(card_id, issuer, issued), revoked),
    st.binary(min_size=16, max_size=16),
    st.sampled_from(ISSUERS),
    times,
    st.booleans(),
)
registers = st.lists(cards, max_size=40, unique_by=lambda card: card[0].id)


def line(card: Card, columns: Sequence[str] = COLUMNS) -> str:
    credential, revoked = card
    cells = (credential.id.hex(), credential.issuer_id.hex(), str(credential.issued_s), str(int(revoked)))
    told = dict(zip(COLUMNS, cells, strict=True))
    return ",".join(told[name] for name in columns)


def write(path: Path, lines: Iterable[str], ending: str = "\n") -> Path:
    path.parent.mkdir(exist_ok=True)
    text = ending.join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def built(folder: Path) -> tuple[RegisterFiles, Built]:
    with tempfile.TemporaryDirectory() as spool:
        files = RegisterFiles(folder, Path(spool))
        return files, files.build(b"a seed")


class TestRows:
    @given(registers, st.permutations(COLUMNS), st.data())
    def test_each_row_is_read_in_any_order_of_columns(
        self, cards: list[Card], columns: list[str], data: st.DataObject
    ) -> None:
        blank = data.draw(st.lists(st.booleans(), min_size=len(cards), max_size=len(cards)))
        ending = data.draw(st.sampled_from(["\n", "\r\n"]))
        text = "".join(
            ending * left + line(card, columns) + ending for card, left in zip(cards, blank, strict=True)
        ).encode()
        rows = rows_of(text, heading_of(b"\xef\xbb\xbf" + ",".join(columns).encode() + b"\r\n"))
        read = [
            (Credential(id_bytes(rows.ids[place]), id_bytes(rows.issuers[place]), int(rows.issued_s[place])), revoked)
            for place, revoked in enumerate(rows.revoked.tolist())
        ]
        assert read == cards

    @hostile
    @given(registers, st.binary(max_size=120), st.data())
    def test_any_line_is_a_card_or_is_named(self, cards: list[Card], octets: bytes, data: st.DataObject) -> None:
        octets = octets.replace(b"\n", b"")
        at = data.draw(st.integers(0, len(cards)))
        lines = [line(card).encode() for card in cards]
        lines.insert(at, octets)
        with pytest.raises(WrongRowError) as refused:  # noqa: PT012 - a blank line is none, and is passed over
            rows_of(b"".join(each + b"\n" for each in lines), COLUMNS)
            assert octets in {b"", b"\r"}
            raise WrongRowError(at, "")
        assert refused.value.line == at

    @given(cards, st.sampled_from(COLUMNS), st.integers(0, 31), st.sampled_from("gG/:@`x-+., \0"))
    def test_one_wrong_character_is_found(self, card: Card, column: str, place: int, other: str) -> None:
        cells = line(card).split(",")
        at = COLUMNS.index(column)
        place %= len(cells[at])
        cells[at] = cells[at][:place] + other + cells[at][place + 1 :]
        with pytest.raises(WrongRowError):
            rows_of(f"{','.join(cells)}\n".encode(), COLUMNS)

    @pytest.mark.parametrize("issued", ["", "1" * 12 + "1", str(LAST_S + 1), "-1", "1e3", "٣"])
    def test_no_time(self, issued: str) -> None:
        with pytest.raises(WrongRowError, match="a time of issue"):
            rows_of(f"{bytes(16).hex()},{bytes(16).hex()},{issued},0\n".encode(), COLUMNS)

    @pytest.mark.parametrize("heading", ["", "credential,issuer,issued", f"{HEADING},name", f"{HEADING},issuer"])
    def test_another_heading(self, heading: str) -> None:
        with pytest.raises(WrongRowError, match="credential,issuer,issued,revoked"):
            heading_of(heading.encode())


class TestRegister:
    @settings(max_examples=60, deadline=None)
    @given(cards=registers.filter(len), chunk=st.integers(1, 200), parts=st.integers(1, 3), packed=st.booleans())
    def test_a_gate_refuses_just_the_revoked_of_any_register(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        *,
        cards: list[Card],
        chunk: int,
        parts: int,
        packed: bool,
    ) -> None:
        folder = tmp_path_factory.mktemp("register")
        for part in range(parts):
            name = f"part-{part}.csv" + ".gz" * (packed and part == 0)
            write(folder / name, [HEADING, *(line(card) for card in cards[part::parts])])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(register_files, "CHUNK_BYTES", chunk)
            files, made = built(folder)
        assert (made.good + made.revoked, made.revoked) == (len(cards), sum(revoked for _, revoked in cards))
        listed = DenyList.parse(encode_deny_list([], register=made.payload))
        assert [listed.denied(card) for card, _ in cards] == [revoked for _, revoked in cards]
        assert set(files.sample) <= set(cards)
        covered = {name: block.covered_until_s for name, block in Clubcard.parse(made.payload).blocks.items()}
        assert covered == {
            name: max(each.issued_s for each, _ in cards if register_block(each.issuer_id, each.issued_s) == name)
            for name in {register_block(each.issuer_id, each.issued_s) for each, _ in cards}
        }

    def test_a_later_card_is_not_covered(self, tmp_path: Path) -> None:
        card = Credential(bytes(16), ISSUERS[0], YEARS[2])
        write(tmp_path / "r" / "a.csv", [HEADING, line((card, True))])
        register = Clubcard.parse(built(tmp_path / "r")[1].payload)
        block = register_block(card.issuer_id, card.issued_s)
        assert register.status(block, card.id, card.issued_s) is Status.DENIED
        assert register.status(block, card.id, card.issued_s + 1) is Status.UNCOVERED

    def test_samples_are_of_each_sort_and_few(self, tmp_path: Path) -> None:
        ids = np.random.default_rng(1).bytes(16 * 900)
        cards = [
            (Credential(ids[at : at + 16], ISSUERS[at % 2], YEARS[2]), at % 160 == 0) for at in range(0, len(ids), 16)
        ]
        write(tmp_path / "r" / "a.csv", [HEADING, *map(line, cards)])
        sample = list(built(tmp_path / "r")[0].sample)
        assert set(sample) < set(cards)
        assert sum(revoked for _, revoked in sample) == register_files.SAMPLE
        assert len(sample) == 2 * register_files.SAMPLE

    def test_progress_is_told(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r" / "a.csv", [HEADING, line((Credential(bytes(16), ISSUERS[0], 5), True))])
        told = list[tuple[str, int, int]]()
        (tmp_path / "spool").mkdir()
        RegisterFiles(path.parent, tmp_path / "spool", lambda *each: told.append(each)).build(b"")
        assert told[0] == ("read", path.stat().st_size, path.stat().st_size)
        assert {"read", "count", "check"} <= {phase for phase, _, _ in told}


class TestRefused:
    GOOD = line((Credential(bytes(16), ISSUERS[0], YEARS[2]), False))

    def refused(self, folder: Path, why: str, error: type[PublishError] = PublishError) -> None:
        with pytest.raises(error, match=why):
            built(folder)

    @pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            (["credential,number"], "line 1: the heading has to name"),
            ([], "line 1: the heading has to name"),
            ([HEADING, GOOD, "", GOOD.replace(",0", ",2"), "x"], "line 4: revoked is 0 or 1"),
            ([HEADING, GOOD, GOOD + ","], "line 3: has 5 cells, 4 are wanted"),
            ([HEADING, GOOD, "g" + GOOD[1:]], "line 3: a credential has 32 hexadecimal digits"),
            ([HEADING, GOOD, GOOD.replace(ISSUERS[0].hex(), "")], "line 3: an issuer has 32 hexadecimal digits"),
        ],
    )
    def test_lines_that_are_no_cards(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lines: list[str], why: str, name: str, chunk: int
    ) -> None:
        monkeypatch.setattr(register_files, "CHUNK_BYTES", chunk)
        write(tmp_path / "r" / name, lines)
        self.refused(tmp_path / "r", f"{name}, {why}")

    def test_a_line_without_an_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(register_files, "CHUNK_BYTES", 100)
        write(tmp_path / "r" / "a.csv", [HEADING, self.GOOD, "0" * 100_000])
        self.refused(tmp_path / "r", "line 3: is longer than any card's")

    def test_a_folder_that_is_none_or_holds_something_else(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "absent", "absent: No such", InputMissing)
        (tmp_path / "r").mkdir()
        self.refused(tmp_path / "r", "has no .csv")
        write(tmp_path / "r" / "a.csv", [HEADING, self.GOOD])
        for name in (".b.csv", "notes.txt"):
            (tmp_path / "r" / name).touch()
            self.refused(tmp_path / "r", f"{name}: is no .csv")
            (tmp_path / "r" / name).unlink()
        (tmp_path / "r" / "c.csv").mkdir()
        self.refused(tmp_path / "r", "c.csv: is no .csv")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        write(tmp_path / "r" / "a.csv", [HEADING, self.GOOD]).chmod(0)
        self.refused(tmp_path / "r", "a.csv: Permission denied", InputMissing)

    def test_a_packed_file_cut_short_or_spoilt(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r" / "a.csv.gz", [HEADING, *[self.GOOD] * 50])
        whole = path.read_bytes()
        for content in (whole[:-9], whole[: len(whole) // 2], b"plain text", whole[:-8] + bytes(8)):
            path.write_bytes(content)
            self.refused(tmp_path / "r", r"a\.csv\.gz(: is no whole gzip file|, line 1)")

    def test_a_card_that_is_both_good_and_revoked_is_named(self, tmp_path: Path) -> None:
        twice = Credential(b"in both of them.", ISSUERS[0], YEARS[2])
        others = [self.GOOD, line((Credential(b"\1" * 16, ISSUERS[0], YEARS[2]), True))]
        write(tmp_path / "r" / "a.csv", [HEADING, *others, line((twice, True)), line((twice, False))])
        self.refused(tmp_path / "r", f"r: {twice.id.hex()} is there as a good card and as a revoked one")

    def test_columns_that_were_mixed_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(register_files, "MAX_BLOCKS", 5)
        cards = [line((Credential(ISSUERS[0], bytes([number]) * 16, YEARS[2]), False)) for number in range(6)]
        write(tmp_path / "r" / "a.csv", [HEADING, *cards])
        self.refused(tmp_path / "r", "more than 5 issuers and years")

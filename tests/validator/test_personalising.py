"""Cards made at a desk: torn at any command they end as one card that is right, and nobody's card is written over."""

import asyncio
import json
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import ev2
from hardware import ultralight_aes as aes
from hardware.medium import Medium, MediumLost, ReaderError, Target, Technology, Transceive
from hardware.type2 import TagAnswer
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.ntag424_files import ISSUED_ACCESS, TOKEN_FILE, as_delivered
from hardware.virtual.ultralight_aes import ACCESS_PAGE, KEY_LOCK_PAGE, OPEN, Settings, UltralightAes
from tests.conversing import MeetsByWaiting
from validator import choice
from validator.card_records import CardRecord, PersonalisationError, load_records
from validator.dialogue import Traffic, drive
from validator.families import FAMILIES
from validator.operator_keys import FileKey, OperatorKeys
from validator.personalisation import LAYOUTS, MAX_REFUSALS, Desk, Event, Told, personalise
from validator.personalisation_report import FAILED, OK, Report
from validator.personalise_command import words
from validator.personalising import ntag424
from validator.personalising.making import Making, NotBlank
from validator.profiles import ntag424 as ntag424_profile
from validator.profiles import ultralight_aes as ultralight_aes_profile
from validator.profiles.attempt import Attempt
from validator.profiles.errors import CardMalformed, ProfileError
from validator.proof import CardToken, Mutual
from validator.secret_files import SecretError

T = TypeVar("T")
Chip = Ntag424Chip | UltralightAes

ZEROS = bytes(16)
VERSION = 2
NTAG, ULTRALIGHT = ntag424_profile.NAME, ultralight_aes_profile.NAME
KEYS = OperatorKeys(
    {
        name: {VERSION: FileKey(bytearray(range(seed, seed + 16))), 1: FileKey(bytearray(range(seed + 1, seed + 17)))}
        for seed, layout in enumerate(LAYOUTS.values())
        for name in layout.KEY_NAMES
    }
)
ORIGINALITY = json.loads((Path(__file__).parents[1] / "vectors" / "originality.json").read_text())["vectors"]
RECORDS = tuple(CardRecord(serial, bytes([serial]) * 15 + b"t", VERSION) for serial in (7, 8, 9))


def uid(number: int) -> bytes:
    return b"\x04" + number.to_bytes(6)


def blank(family: str, number: int = 1) -> Chip:
    if family == NTAG:
        return Ntag424Chip(uid(number), [ZEROS] * 5, None)
    settings = Settings(cmac=False, auth0=OPEN, reads_too=False)
    return UltralightAes(uid=uid(number), data_key=ZEROS, settings=settings)


def with_bit(page: int, bit: int) -> UltralightAes:
    """A delivered tag in which somebody has set a lock bit."""
    chip = blank(ULTRALIGHT)
    assert isinstance(chip, UltralightAes)
    chip.memory[page * 4] |= bit
    return chip


def uid_of(chip: Chip) -> bytes:
    return chip._uid


@dataclass
class Tear:
    """Where a card is torn away: before the command with this number, or after it but before its answer arrives.

    A page that is being written keeps the bits of `old` and takes the others.
    """

    at: int
    done: bool = False
    old: int | None = None


@dataclass
class Held:
    """A card in the field of a reader without air."""

    chip: Chip
    tear: Tear | None = None
    asked: int = 0
    fresh: bool = True
    lost: bool = False
    card_s: float = 0.0
    found_s: float = 0.0

    @property
    def target(self) -> Target:
        isodep = isinstance(self.chip, Ntag424Chip)
        return Target(Technology.TYPE_A, uid_of(self.chip), b"\x80" * isodep, 0x20 * isodep, apdus=isodep)

    async def converse(self, dialogue: Callable[[Transceive], T]) -> T:
        try:
            return dialogue(self.transceive)
        except ProfileError:
            self.lost = True  # a reader looks around after a dialogue that failed, which ends the activation
            raise

    async def present(self) -> bool:
        if isinstance(self.chip, UltralightAes):
            self.chip.reset()
            self.fresh = True
        return not self.lost

    async def removed(self) -> None:
        self.chip.reset()

    def transceive(self, sent: bytes) -> bytes:
        self.asked += 1
        if self.lost or (self.tear is not None and self.asked > self.tear.at):
            self.leave(sent)
        answer = self.chip.process(sent).response
        if answer is None:
            if not self.fresh:
                self.leave(b"")
            return b""
        self.fresh = isinstance(self.chip, UltralightAes) and TagAnswer.from_bytes(answer).refused
        return answer

    def leave(self, sent: bytes) -> None:
        if not self.lost and self.tear is not None:
            if self.tear.done:
                self.chip.process(sent)
            elif self.tear.old is not None and isinstance(self.chip, UltralightAes) and sent[0] == aes.WRITE:
                page, mask = sent[1] * 4, self.tear.old
                before, wanted = self.chip.memory[page : page + 4], sent[2:6]
                kept = int.from_bytes(before) & mask | int.from_bytes(wanted) & ~mask
                self.chip.tear(sent, kept.to_bytes(4))
        self.lost = True
        self.chip.reset()
        raise MediumLost("test", "gone")


@dataclass
class Bench(MeetsByWaiting):
    """A reader that is shown cards in their order, and a desk with its report."""

    folder: Path
    family: str
    keys: OperatorKeys = KEYS
    told: list[Told] = field(default_factory=list)
    shown: list[Held] = field(default_factory=list)
    name: str = "test"
    polls: int = 0

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def wait(self) -> Medium:
        if not self.shown:
            raise ReaderError(self.name, "nobody is left")
        return self.shown.pop(0)

    @property
    def path(self) -> Path:
        return self.folder / "report.csv"

    def present(self, records: Sequence[CardRecord], *held: Held, genuine_only: bool = False) -> list[Told]:
        """Run a desk until all cards were shown, or all are made."""
        self.told, self.shown = [], list(held)
        with Report.open(self.path) as report:
            desk = Desk(self.family, self.keys, report, self.told.append, 5, genuine_only)
            try:
                asyncio.run(personalise(self, desk, records))
            except ReaderError:
                assert not self.shown
        return self.told

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()[1:]


def events(told: Sequence[Told]) -> list[str]:
    return [one.event.value for one in told if one.event is not Event.WAITING]


def attempt(chip: Chip, keys: Any = KEYS) -> Attempt:
    return Attempt("", "", 0, uid_of(chip), bytes, lambda _key: None, lambda _shown: None, keys)


def whole(dialogue: Generator[Any, Any, Any], carry: Callable[[bytes], bytes]) -> None:
    drive(dialogue, carry, Traffic())


def token_of(family: str, chip: Chip) -> bytes:
    """What a gate believes of a card."""
    held = Held(chip)
    asked = choice.authenticate((FAMILIES[family],), held.target, attempt(chip))
    proof = drive(asked, held.transceive, Traffic())
    chip.reset()
    assert isinstance(proof.evidence, Mutual)
    assert len(proof.evidence.expected) > 0
    assert proof.evidence.expected == proof.evidence.received
    assert isinstance(proof.shown, CardToken)
    return proof.shown.octets


def key_of(name: str, chip: Chip) -> bytes:
    with KEYS.card_key(name, VERSION, b"" if name.endswith("-uid") else uid_of(chip)) as key:
        return bytes(key)


def assert_made(family: str, chip: Chip, record: CardRecord) -> None:
    """The card is the record's, and nothing in it opens under a key that everybody knows."""
    assert token_of(family, chip) == record.token
    if isinstance(chip, Ntag424Chip):
        issuer = key_of(ntag424.ISSUER_KEY, chip)
        expected = [issuer, key_of(ntag424_profile.OPERATOR_KEY, chip), issuer, issuer, issuer]
        assert [chip._keys.octets(number) for number in range(5)] == expected
        assert [key.version for key in chip._keys._keys] == [VERSION] * 5
        file = chip._files[TOKEN_FILE]
        assert (file.access, file.mode) == (ISSUED_ACCESS, ev2.CommMode.MAC)
        assert bytes(file.content) == record.token.ljust(128, b"\0")
    else:
        assert chip.memory[0xC0:0xD0] == key_of("ultralight-data", chip)[::-1]
        assert chip.memory[0xD0:0xE0] == key_of("ultralight-uid", chip)[::-1]
        assert chip.memory[0xA4:0xAC] == bytes.fromhex("02000004 80050000")
        for frame in ("3004", "A20400000000", "A22900000000", "A23000000000"):
            answer = chip.process(bytes.fromhex(frame)).response
            assert answer is not None
            assert TagAnswer.from_bytes(answer).refused, frame


def assert_untouched(chip: Chip) -> None:
    if isinstance(chip, Ntag424Chip):
        assert [chip._keys.octets(number) for number in range(5)] == [ZEROS] * 5
        assert chip._files == as_delivered()
    else:
        fresh = blank(ULTRALIGHT, int.from_bytes(uid_of(chip)[1:]))
        assert isinstance(fresh, UltralightAes)
        assert chip.memory == fresh.memory


@pytest.fixture(params=list(LAYOUTS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


def test_blank_cards_become_the_cards_of_a_batch(bench: Bench) -> None:
    chips = [blank(bench.family, number) for number in range(3)]
    told = bench.present(RECORDS, *map(Held, chips))
    assert [one.event for one in told] == [Event.WAITING, Event.DONE] * 3
    assert [(one.number, one.of) for one in told[::2]] == [(1, 3), (2, 3), (3, 3)]
    for chip, record in zip(chips, RECORDS, strict=True):
        assert_made(bench.family, chip, record)
    assert bench.lines() == [f"{serial},{uid(number).hex()},ok" for number, serial in enumerate((7, 8, 9))]
    assert bench.present(RECORDS) == [], "nothing is left to do"
    assert [path.name for path in bench.folder.iterdir()] == ["report.csv"]


def genuine_chip() -> Ntag424Chip:
    """A blank chip with the UID and the originality signature of a real one."""
    (sample, *_) = (one["inputs"] for one in ORIGINALITY if one["inputs"]["product"] == "NTAG 424 DNA")
    return Ntag424Chip(bytes.fromhex(sample["uid"]), [ZEROS] * 5, None, signature=bytes.fromhex(sample["signature"]))


def test_where_a_chip_comes_from_is_told_and_can_be_asked_for(tmp_path: Path) -> None:
    bench, copy, genuine = Bench(tmp_path, NTAG), blank(NTAG), genuine_chip()
    refused, done = bench.present(RECORDS[:1], Held(copy), Held(genuine), genuine_only=True)[1:]
    assert (refused.event, refused.why) == (
        Event.REFUSED,
        "NXP signed no chip with this UID: it is a copy, or of another make",
    )
    assert_untouched(copy)
    assert (done.event, done.genuine) == (Event.DONE, True)
    assert_made(NTAG, genuine, RECORDS[0])
    assert bench.present(RECORDS[:2], Held(copy))[-1].genuine is False, "told, and made, where nobody asked for more"


def test_an_ultralight_whose_signature_is_of_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ULTRALIGHT)
    assert events(bench.present(RECORDS[:1], Held(blank(ULTRALIGHT)), genuine_only=True)) == ["refused"]
    assert bench.present(RECORDS[:1], Held(blank(ULTRALIGHT)))[-1].genuine is False


@pytest.mark.parametrize(
    ("genuine", "words_at_the_end"), [(True, "take it away"), (None, "take it away"), (False, "with this UID)")]
)
def test_people_are_told_of_a_chip_that_nobody_signed(*, genuine: bool | None, words_at_the_end: str) -> None:
    told = Told(Event.DONE, 7, 1, 1, "04", genuine=genuine)
    assert words(told).endswith(words_at_the_end)


def commands(family: str) -> int:
    """How many commands it takes to make a card."""
    held = Held(blank(family))
    with TemporaryDirectory() as folder:
        Bench(Path(folder), family).present(RECORDS[:1], held)
    return held.asked


COMMANDS = {family: commands(family) for family in LAYOUTS}
TEARS = [(family, at, done) for family in LAYOUTS for at in range(COMMANDS[family]) for done in (False, True)]


@pytest.mark.parametrize(("family", "at", "done"), TEARS)
def test_torn_at_any_command_a_card_is_finished_and_no_other_becomes_it(
    tmp_path: Path, family: str, at: int, *, done: bool
) -> None:
    bench, chip, other = Bench(tmp_path, family), blank(family, 1), blank(family, 2)
    assert events(bench.present(RECORDS[:1], Held(chip, Tear(at, done)))) == ["torn"]
    begun = (tmp_path / "report.csv.begun").exists()
    assert bench.lines() == []
    if begun:
        told = bench.present(RECORDS[:1], Held(other))
        assert events(told) == ["refused"]
        assert told[0].uid == uid(1).hex(), "the card that is waited for"
        assert_untouched(other)
    else:
        assert_untouched(chip)
    assert events(bench.present(RECORDS[:1], Held(chip))) == ["done"]
    assert_made(family, chip, RECORDS[0])
    assert events(bench.present(RECORDS[:2], Held(chip), Held(other))) == ["refused", "done"]
    assert_made(family, chip, RECORDS[0])
    assert_made(family, other, RECORDS[1])
    assert bench.lines() == [f"7,{uid(1).hex()},ok", f"8,{uid(2).hex()},ok"]


@st.composite
def tears(draw: st.DrawFn, family: str) -> Tear:
    last = COMMANDS[family] - 1
    at = draw(st.integers(0, last) | st.integers(last - 6, last))
    return Tear(at, draw(st.booleans()), draw(st.none() | st.integers(0, 2**32 - 1)))


@given(st.data(), st.sampled_from(list(LAYOUTS)))
def test_torn_again_and_again_it_ends_as_one_card(data: st.DataObject, family: str) -> None:
    """Also with pages that were written in part, and with the desk's process ending in between."""
    chip = blank(family)
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder), family)
        for _ in range(data.draw(st.integers(1, 4))):
            held = [Held(chip, tear) for tear in data.draw(st.lists(tears(family), min_size=1, max_size=3))]
            bench.present(RECORDS[:1], *held)
            assert set(events(bench.told)) <= {"torn", "done", "refused"}
            if bench.lines():
                break
        if not bench.lines():
            assert events(bench.present(RECORDS[:1], Held(chip))) == ["done"]
        assert bench.lines() == [f"7,{uid(1).hex()},ok"]
    assert_made(family, chip, RECORDS[0])


@pytest.mark.parametrize("before_reading", [5, 6])
def test_torn_as_protection_is_switched_on_a_tag_keeps_any_of_the_bits(tmp_path: Path, before_reading: int) -> None:
    """CMAC mode and AUTH0 share a page: every mixture of what it held and what was written."""
    for number, kept in enumerate(cmac | auth0 for cmac in (0, 0x02000000) for auth0 in range(0, 0x40, 4)):
        bench = Bench(tmp_path / str(number), ULTRALIGHT)
        bench.folder.mkdir()
        chip = blank(ULTRALIGHT)
        held = Held(chip, Tear(COMMANDS[ULTRALIGHT] - before_reading, old=kept))
        assert events(bench.present(RECORDS[:1], held, Held(chip))) == ["torn", "done"]
        assert_made(ULTRALIGHT, chip, RECORDS[0])


def test_what_is_finished_is_not_begun_again(bench: Bench) -> None:
    chip = blank(bench.family)
    bench.present(RECORDS[:1], Held(chip))
    making = Making(attempt(chip), RECORDS[1].token, VERSION)
    for dialogue in (LAYOUTS[bench.family].check(making), LAYOUTS[bench.family].write(making, resumed=False)):
        chip.reset()
        with pytest.raises(NotBlank):
            whole(dialogue, Held(chip).transceive)
    chip.reset()
    assert_made(bench.family, chip, RECORDS[0])


def test_a_card_that_was_made_elsewhere_is_named_and_left_as_it_is(bench: Bench) -> None:
    chip = blank(bench.family)
    bench.present(RECORDS[:1], Held(chip))
    other_desk = Bench(bench.folder / "other", bench.family)
    other_desk.folder.mkdir()
    told = other_desk.present(RECORDS[1:2], Held(chip))
    assert events(told) == ["refused"]
    assert (told[1].uid, told[1].why) == (uid(1).hex(), "this card was personalised before")
    assert other_desk.lines() == []
    assert_made(bench.family, chip, RECORDS[0])


def test_a_card_held_twice_does_not_get_two_serial_numbers(bench: Bench) -> None:
    chip = blank(bench.family)
    told = bench.present(RECORDS[:2], Held(chip), Held(chip))
    assert events(told) == ["done", "refused"]
    assert told[-1].why == "this card is serial number 7 already"


@pytest.mark.parametrize(
    "chip",
    [
        *(Ntag424Chip(uid(1), [b"x" * 16 if at == number else ZEROS for at in range(5)], None) for number in range(5)),
        UltralightAes(uid=uid(1), data_key=b"x" * 16, settings=Settings(auth0=OPEN)),
        UltralightAes(uid=uid(1), data_key=ZEROS, settings=Settings(cmac=False)),
        UltralightAes(uid=uid(1), data_key=ZEROS, settings=Settings(auth0=0x29, reads_too=False)),
        UltralightAes(uid=uid(1), data_key=ZEROS, settings=Settings(auth0=OPEN, locked_pages=frozenset({5}))),
        with_bit(ACCESS_PAGE, 0x40),
        with_bit(KEY_LOCK_PAGE, 0x01),
    ],
)
def test_somebodys_card_is_left_as_it_is(tmp_path: Path, chip: Chip) -> None:
    family = NTAG if isinstance(chip, Ntag424Chip) else ULTRALIGHT
    before = bytes(chip.memory) if isinstance(chip, UltralightAes) else chip._files
    told = Bench(tmp_path, family).present(RECORDS, Held(chip))
    assert events(told) == ["refused"]
    assert "not blank" in str(told[-1].why)
    assert before == (bytes(chip.memory) if isinstance(chip, UltralightAes) else as_delivered())
    assert not (tmp_path / "report.csv.begun").exists()


def test_a_delivered_tag_may_be_in_cmac_mode(tmp_path: Path) -> None:
    chip = UltralightAes(uid=uid(1), data_key=ZEROS, settings=Settings(auth0=OPEN, reads_too=False))
    assert events(Bench(tmp_path, ULTRALIGHT).present(RECORDS[:1], Held(chip))) == ["done"]
    assert_made(ULTRALIGHT, chip, RECORDS[0])


def test_a_card_of_another_family_is_refused(bench: Bench) -> None:
    other = NTAG if bench.family == ULTRALIGHT else ULTRALIGHT
    told = bench.present(RECORDS, Held(blank(other)))
    assert events(told) == ["refused"]
    assert f"no {bench.family} card" in str(told[-1].why)


def test_a_card_that_goes_on_refusing_is_reported_as_failed(tmp_path: Path) -> None:
    """Somebody changed key 0 of a card that was torn away: no key that we have opens it."""
    bench, chip = Bench(tmp_path, NTAG), blank(NTAG)
    assert isinstance(chip, Ntag424Chip)
    bench.present(RECORDS[:1], Held(chip, Tear(COMMANDS[NTAG] - 10)))
    chip._keys.replace(0, b"x" * 16, 0)
    told = bench.present(RECORDS[:2], *(Held(chip) for _ in range(MAX_REFUSALS)), Held(blank(NTAG, 2)))
    assert events(told) == ["refused", "failed", "done"], "what is said twice is told once"
    assert bench.lines() == [f"7,{uid(1).hex()},failed", f"8,{uid(2).hex()},ok"]


def test_a_card_that_was_begun_can_be_given_up(bench: Bench) -> None:
    bench.present(RECORDS[:1], Held(blank(bench.family), Tear(COMMANDS[bench.family] - 6)))
    with Report.open(bench.path) as report:
        report.finish(FAILED)
    other = blank(bench.family, 2)
    assert events(bench.present(RECORDS[:2], Held(other))) == ["done"]
    assert bench.lines() == [f"7,{uid(1).hex()},failed", f"8,{uid(2).hex()},ok"]
    assert_made(bench.family, other, RECORDS[1])


def test_other_records_wait_for_the_card_that_was_begun(bench: Bench) -> None:
    bench.present(RECORDS[:1], Held(blank(bench.family), Tear(COMMANDS[bench.family] - 6)))
    with pytest.raises(PersonalisationError, match=f"card {uid(1).hex()} was begun as serial number 7"):
        bench.present(RECORDS[1:], Held(blank(bench.family, 2)))


def test_missing_keys_are_told_before_the_first_card(tmp_path: Path) -> None:
    record = CardRecord(7, RECORDS[0].token, 3)
    bench = Bench(tmp_path, NTAG)
    with pytest.raises(PersonalisationError, match=r"^operator keys ntag424-application\.3, ntag424-issuer\.3 are not"):
        bench.present([RECORDS[1], record], Held(blank(NTAG)))
    assert bench.told == []


@given(st.lists(st.binary(max_size=40), max_size=40), st.sampled_from(list(LAYOUTS)), st.booleans())
def test_whatever_a_card_answers_it_ends_in_a_refusal(answers: list[bytes], family: str, resumed: object) -> None:
    chip = blank(family)
    making = Making(attempt(chip), RECORDS[0].token, VERSION)
    layout = LAYOUTS[family]
    for dialogue in (layout.check(making), layout.write(making, resumed=bool(resumed))):
        left = iter(answers)

        def carry(_sent: bytes, left: Iterator[bytes] = left) -> bytes:
            return next(left, b"\x91\x1e")

        with pytest.raises(ProfileError):
            whole(dialogue, carry)


def test_what_is_read_back_has_to_be_the_token(tmp_path: Path) -> None:
    """A card that says yes to everything and keeps nothing."""
    chip = blank(ULTRALIGHT)
    assert isinstance(chip, UltralightAes)
    honest = chip._put

    def forgetful(page: int, content: bytes) -> None:
        if page != ultralight_aes_profile.TOKEN_PAGE:
            honest(page, content)

    chip._put = forgetful  # type: ignore[method-assign]
    told = Bench(tmp_path, ULTRALIGHT).present(RECORDS[:1], *(Held(chip) for _ in range(MAX_REFUSALS)))
    assert events(told) == ["refused", "failed"]
    assert "not what was written" in str(told[-1].why)


def test_no_token_and_no_key_is_told(bench: Bench) -> None:
    chips = [blank(bench.family, number) for number in range(2)]
    told = bench.present(RECORDS[:1], Held(chips[0], Tear(COMMANDS[bench.family] - 6)), Held(chips[1]), Held(chips[0]))
    shown = repr(told) + "".join(map(words, told)) + bench.path.read_text() + repr(RECORDS)
    secret = [RECORDS[0].token, *(key_of(name, chips[0]) for name in LAYOUTS[bench.family].KEY_NAMES)]
    for octets in secret:
        assert octets.hex() not in shown.lower()
        assert repr(octets) not in shown


class TestReport:
    def test_a_line_that_was_cut_off_is_taken_away(self, tmp_path: Path) -> None:
        path = tmp_path / "report.csv"
        path.write_text("serial,uid,result\n7,04000000000001,ok\n8,0400")
        with Report.open(path) as report:
            assert report.results == {7: OK}
            report.begin(8, uid(2))
            report.finish(OK)
        assert path.read_text() == f"serial,uid,result\n7,04000000000001,ok\n8,{uid(2).hex()},ok\n"

    @pytest.mark.parametrize("cut", range(len("serial,uid,result\n")))
    def test_a_heading_that_was_cut_off_is_written_again(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "report.csv"
        path.write_text("serial,uid,result\n"[:cut])
        with Report.open(path):
            assert path.read_text() == "serial,uid,result\n"

    @pytest.mark.parametrize("content", ["serial,token\n7,secret\n", "x", "serial,uid,result\n7,04,ok\n"])
    def test_another_file_is_left_as_it_is(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "report.csv"
        path.write_text(content)
        with pytest.raises(PersonalisationError), Report.open(path):
            pass
        assert path.read_text() == content

    def test_one_desk_writes_it(self, tmp_path: Path) -> None:
        path = tmp_path / "report.csv"
        with Report.open(path), pytest.raises(PersonalisationError, match="another desk"), Report.open(path):
            pass

    def test_a_note_that_was_answered_for_is_past(self, tmp_path: Path) -> None:
        """Cut off between the report's line and the note's end."""
        path = tmp_path / "report.csv"
        path.write_text("serial,uid,result\n7,04000000000001,ok\n")
        (tmp_path / "report.csv.begun").write_text("7,04000000000001\n")
        with Report.open(path) as report:
            assert report.begun is None

    def test_a_note_that_says_nothing_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "report.csv.begun").write_text("7,")
        with pytest.raises(PersonalisationError, match="begun"), Report.open(tmp_path / "report.csv"):
            pass


class TestRecords:
    HEADING = "serial,token,key_version,reference\n"
    TOKEN = "00112233445566778899aabbccddeeff"

    def write(self, folder: Path, text: str, mode: int = 0o600) -> Path:
        path = folder / "records.csv"
        path.touch(mode=mode)
        path.write_text(text)
        return path

    def test_the_file_of_a_batch(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.HEADING + f"7,{self.TOKEN},2,parcel-1\n")
        assert load_records(path) == (CardRecord(7, bytes.fromhex(self.TOKEN), 2),)

    @pytest.mark.parametrize(
        "line",
        ["7,{},2", "7,{},256,", "x,{},2,", "7,{}0,2,", "7," + "0" * 32 + ",2,", "7," + "f" * 32 + ",2,", "", "7,{},é,"],
    )
    def test_a_wrong_line_is_told_and_not_repeated(self, tmp_path: Path, line: str) -> None:
        path = self.write(tmp_path, self.HEADING + line.format(self.TOKEN) + "\n")
        with pytest.raises(PersonalisationError, match=re.escape(f"{path}, line 2:")) as refused:
            load_records(path)
        assert self.TOKEN not in str(refused.value)

    @pytest.mark.parametrize("text", ["", "serial,uid,result\n7,04000000000001,ok\n"])
    def test_another_file_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(PersonalisationError, match="decrypted records"):
            load_records(self.write(tmp_path, text))

    @pytest.mark.parametrize("second", [f"8,{TOKEN},2,", "7,ff112233445566778899aabbccddeeff,2,"])
    def test_what_is_there_twice_is_refused(self, tmp_path: Path, second: str) -> None:
        path = self.write(tmp_path, self.HEADING + f"7,{self.TOKEN},2,\n{second}\n")
        with pytest.raises(PersonalisationError, match="twice"):
            load_records(path)

    def test_records_that_others_may_read_are_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.HEADING, 0o644)
        with pytest.raises(SecretError, match="lets others read it"):
            load_records(path)


def test_a_card_that_changes_its_mind_about_key_0_is_refused(tmp_path: Path) -> None:
    """Its checksum was wrong, and then the key that had just opened it opens it no more."""
    chip = blank(NTAG)
    assert isinstance(chip, Ntag424Chip)
    held = Held(chip)
    steps = ntag424.write(Making(attempt(chip), RECORDS[0].token, VERSION), resumed=True)

    def carry(sent: bytes) -> bytes:
        if sent[1] != ev2.Ins.CHANGE_KEY:
            return held.transceive(sent)
        chip._keys.replace(0, b"x" * 16, 0)
        return b"\x91\x1e"

    with pytest.raises(CardMalformed, match="key 0"):
        whole(steps, carry)

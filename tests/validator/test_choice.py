"""The choice of a card family: order, hints, shared selections, bounded misses, no second chance with a weaker one."""

from collections.abc import Generator
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import SW, CommandApdu, ResponseApdu
from hardware.medium import Target, Technology
from hardware.type2 import TagAnswer, TagCommand
from tests.hostile import hostile
from tests.validator.attempting import attempt
from validator.choice import Family, TagFamily, authenticate
from validator.config import FamilyName
from validator.families import FAMILIES
from validator.model import Assurance
from validator.profiles.attempt import Attempt, cache_key
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError, WrongFamily
from validator.proof import CardProof, CardToken, Mutual

CARD = Target(Technology.TYPE_A, bytes.fromhex("04112233445566"), b"\x80", sak=0x20)
TAG = Target(Technology.TYPE_A, bytes.fromhex("04112233445566"), b"", sak=0x00, apdus=False)


def proof(name: str) -> CardProof:
    return CardProof(name, Assurance.CHIP, CardToken(name, b"uid", b"token"), Mutual(b"1", b"1"))


def family(name: str, aid: bytes, error: ProfileError | None = None, *, hinted: bool = False) -> Family:
    """A family that asks one question, and then believes the card or does not."""

    def talk(_attempt: Attempt, _selected: ResponseApdu) -> Generator[CommandApdu, ResponseApdu, CardProof]:
        yield CommandApdu(0x80, 0x01, 0, 0, name.encode(), le=256)
        if error is not None:
            raise error
        return proof(name)

    return Family(name, aid, talk, lambda _target: hinted)


def tag_family(name: str, error: ProfileError | None = None) -> TagFamily:
    def talk(_attempt: Attempt) -> Generator[TagCommand, TagAnswer, CardProof]:
        yield TagCommand(name.encode())
        if error is not None:
            raise error
        return proof(name)

    return TagFamily(name, talk)


def choose(families: list[Family | TagFamily], holds: set[bytes], target: Target = CARD) -> tuple[str, list[str]]:
    """Let a card that holds some applications be chosen for; return the family and what was asked."""
    dialogue, asked = authenticate(families, target, attempt()), []
    command = next(dialogue)
    while True:
        answer: ResponseApdu | TagAnswer
        if isinstance(command, TagCommand):
            asked.append(command.frame.decode())
            answer = TagAnswer(b"yes")
        else:
            selects = command.ins == 0xA4
            asked.append(("select " if selects else "") + command.data.decode())
            answer = ResponseApdu(b"", SW.OK if not selects or command.data in holds else SW.FILE_NOT_FOUND)
        try:
            command = dialogue.send(answer)
        except StopIteration as done:
            found: CardProof = done.value
            return found.profile, asked


def test_families_are_asked_in_order_until_one_is_there() -> None:
    families: list[Family | TagFamily] = [family("first", b"A"), family("second", b"B"), family("third", b"C")]
    assert choose(families, {b"B", b"C"}) == ("second", ["select A", "select B", "second"])


def test_a_hint_changes_the_order_and_nothing_else() -> None:
    families: list[Family | TagFamily] = [family("first", b"A"), family("second", b"B", hinted=True)]
    assert choose(families, {b"A", b"B"}) == ("second", ["select B", "second"])
    assert choose(families, {b"A"}) == ("first", ["select B", "select A", "first"])


def test_families_of_one_application_share_its_selection() -> None:
    families: list[Family | TagFamily] = [family("new", b"A", WrongFamily("not offered")), family("old", b"A")]
    assert choose(families, {b"A"}) == ("old", ["select A", "new", "old"])


def test_a_card_that_fails_in_its_family_is_not_offered_to_a_weaker_one() -> None:
    for error in (CardRefused("step", SW.INCORRECT_DATA), CardMalformed("nonsense")):
        with pytest.raises(type(error)) as raised:
            choose([family("strong", b"A", error), family("weak", b"B")], {b"A", b"B"})
        assert raised.value.family == "strong", "the journal names it"


def test_no_application_is_asked_for_twice() -> None:
    """Families of one application need not stand together: a card that does not hold it says so once."""
    families: list[Family | TagFamily] = [family("1", b"A"), family("2", b"B"), family("3", b"A"), family("4", b"B")]
    dialogue = authenticate(families, CARD, attempt())
    asked = [next(dialogue), dialogue.send(ResponseApdu(b"", SW.FILE_NOT_FOUND))]
    assert [command.data for command in asked if isinstance(command, CommandApdu)] == [b"A", b"B"]
    with pytest.raises(WrongFamily, match="none of 1, 2, 3, 4"):
        dialogue.send(ResponseApdu(b"", SW.FILE_NOT_FOUND))


def test_frames_and_apdus_are_never_mixed_up() -> None:
    both: list[Family | TagFamily] = [family("card", b"A"), tag_family("tag")]
    assert choose(both, {b"A"}, TAG) == ("tag", ["tag"])
    assert choose(both, {b"A"}, CARD)[0] == "card"
    assert choose([tag_family("one", WrongFamily("other")), tag_family("two")], set(), TAG)[0] == "two"
    for target, families in ((TAG, [family("card", b"A")]), (CARD, [tag_family("tag")])):
        with pytest.raises(WrongFamily):
            next(authenticate(families, target, attempt()))


def test_no_family_finds_anothers_verdict() -> None:
    """A card may make the octets that it shows in one family look like those of another."""
    octets = b"\x7f\x21 a certificate"
    shown = [cache_key(name, prefix + octets) for name in FAMILIES for prefix in (b"", *(n.encode() for n in FAMILIES))]
    assert len(set(shown)) == len(shown)


def test_the_names_in_a_gates_file_are_those_of_the_families() -> None:
    assert set(get_args(FamilyName)) == set(FAMILIES)


@hostile
@given(st.lists(st.binary(min_size=2, max_size=40), min_size=1, max_size=120))
def test_any_answers_end_in_a_proof_or_a_refusal(answers: list[bytes]) -> None:
    families = [family("first", b"A", WrongFamily("no")), family("second", b"B")]
    dialogue = authenticate(families, CARD, attempt())
    next(dialogue)
    with suppress(StopIteration, ProfileError):
        for answer in answers:
            dialogue.send(ResponseApdu.from_bytes(answer))

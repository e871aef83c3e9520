"""The MIFARE Ultralight AES profile against virtual cards: what it believes, and why it does not believe the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import ultralight_aes as aes
from hardware.medium import SeveralMedia, Technology
from hardware.nfcpy import NfcpyReader
from hardware.type2 import TagAnswer
from hardware.virtual.air import AirCard, Field
from hardware.virtual.ultralight_aes import Settings, UltralightAes
from tests.hostile import hostile
from tests.tags import OPERATOR, SHARED, TOKEN, UID, Carry, OperatorKeys, Torn, attempt, carrier, data_key, issue, run
from tests.validator.judging import on_list
from validator import certificates, choice, trust, vouching
from validator.dialogue import Traffic, drive
from validator.model import Assurance, ClockConfidence, Identity, Instant, Reason
from validator.profiles import ultralight_aes as profile
from validator.profiles.errors import CardMalformed, CardRefused, KeyNotHere, ProfileError, WrongFamily
from validator.proof import CardProof, CardToken, Mutual, Shown

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ultralight_aes.json").read_text())
HIDDEN = Settings(random_uid=True)
AT = Instant(1_795_420_800_123, 5_000, bytes(8), ClockConfidence.NTP)
CREDENTIAL = certificates.card_credential_id(certificates.token_id("ultralight-aes", TOKEN), UID)

Spoil = Callable[[int, bytes], bytes]
"""Changes the nth answer."""


class NoIssuers:
    """A trust list that this family never asks."""

    version = 1


def judged(proof: CardProof, denied: frozenset[bytes] = frozenset()) -> Reason | Identity:
    """Vouch and judge as a gate does."""
    authorities: Any = vouching.Authorities(NoIssuers(), lambda _id: None)  # type: ignore[arg-type]  # never asked
    verdict = trust.judge(proof, vouching.vouch(proof.shown, authorities, AT), on_list(denied), AT)
    return verdict if isinstance(verdict, Identity) else verdict.reason


def outcome(
    carry: Carry, keys: OperatorKeys | None = None, uid: bytes = UID, denied: frozenset[bytes] = frozenset()
) -> Reason:
    """The one reason that a tap is recorded under, VALID for a card that is believed."""
    try:
        verdict = judged(run(profile.authenticate(attempt(keys, uid=uid)), carry), denied)
    except ProfileError as error:
        return error.reason
    except Torn:
        return Reason.PRESENT_AGAIN
    return Reason.VALID if isinstance(verdict, Identity) else verdict


def spoiled(carry: Carry, spoil: Spoil) -> Carry:
    count = 0

    def wrapped(frame: bytes) -> bytes:
        nonlocal count
        count += 1
        return spoil(count, carry(frame))

    return wrapped


def at_steps(steps: set[int], change: Callable[[bytes], bytes]) -> Spoil:
    return lambda number, answer: change(answer) if number in steps else answer


def frames_of(tag: UltralightAes, uid: bytes) -> int:
    """How many frames a good tap takes."""
    run(profile.authenticate(attempt(uid=uid)), carrier(tag))
    return tag.heard


def test_a_card_is_believed_by_its_token_and_its_key() -> None:
    seen: list[Shown] = []
    tag = issue()
    proof = run(profile.authenticate(attempt(begin=seen.append)), carrier(tag))
    assert proof.profile == "ultralight-aes"
    assert proof.assurance is Assurance.CHIP
    assert proof.shown == CardToken("ultralight-aes", UID, TOKEN)
    assert seen == [proof.shown]
    assert proof.cache_key is None
    assert isinstance(proof.evidence, Mutual)
    assert len(proof.evidence.expected) == 16 + 8
    assert judged(proof) == Identity(CREDENTIAL, "ultralight-aes", Assurance.CHIP, None, cached=False)
    assert tag.heard == 4


def test_a_random_uid_costs_three_frames_more_and_is_no_identity() -> None:
    keys = OperatorKeys()
    tag = issue(settings=HIDDEN)
    proof = run(profile.authenticate(attempt(keys, uid=b"")), carrier(tag))
    assert judged(proof) == Identity(CREDENTIAL, "ultralight-aes", Assurance.CHIP, None, cached=False)
    assert keys.asked == [("ultralight-uid", 1, b""), ("ultralight-data", 1, UID)]
    assert tag.heard == 7
    assert isinstance(proof.evidence, Mutual)
    assert len(proof.evidence.expected) == 2 * (16 + 8)


@pytest.mark.parametrize("blank", [bytes(16), b"\xff" * 16])
def test_a_card_without_a_token_names_nobody(blank: bytes) -> None:
    """All cards that nobody finished would else be one credential."""
    with pytest.raises(CardMalformed, match="a token that nobody has written"):
        run(profile.authenticate(attempt()), carrier(issue(pages={4: blank})))


def test_a_token_on_another_chip_is_another_credential() -> None:
    """Who broke one card, and overheard a tap, has a good key and somebody else's token: that is nobody's ticket."""
    other = UID[:1] + UID[:0:-1]
    identity = judged(
        run(profile.authenticate(attempt(uid=other)), carrier(issue(uid=other, data_key=data_key(other))))
    )
    assert isinstance(identity, Identity)
    assert identity.credential_id != CREDENTIAL


def test_two_cards_with_one_uid_shown_are_told_apart_by_their_tokens() -> None:
    other = bytes(range(16))
    proof = run(profile.authenticate(attempt()), carrier(issue(pages={4: other})))
    identity = judged(proof)
    assert isinstance(identity, Identity)
    assert (
        identity.credential_id
        == certificates.card_credential_id(certificates.token_id("ultralight-aes", other), UID)
        != CREDENTIAL
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_no_key_outlives_its_use(monkeypatch: pytest.MonkeyPatch, *, hidden: bool) -> None:
    keys, sessions = OperatorKeys(), []
    of_challenges = aes.Session.of_challenges

    def spy(key: bytes, rnd_a: bytes, rnd_b: bytes) -> aes.Session:
        sessions.append(of_challenges(key, rnd_a, rnd_b))
        return sessions[-1]

    monkeypatch.setattr("validator.profiles.ultralight_aes.aes.Session.of_challenges", spy)
    run(profile.authenticate(attempt(keys, uid=b"" if hidden else UID)), carrier(issue(settings=Settings(hidden))))
    assert keys.lent
    assert all(key == bytearray(16) for key in keys.lent)
    # Each authentication opens two: the gate's, which is wiped, and the virtual card's, which stays.
    assert sorted(any(session.key) for session in sessions) == sorted([False, True] * (1 + hidden))


def test_keys_are_wiped_where_the_card_is_torn_away_between_the_passes() -> None:
    keys = OperatorKeys()
    dialogue = profile.authenticate(attempt(keys))
    carry = carrier(issue())
    command = next(dialogue)
    for _ in range(2):
        command = dialogue.send(TagAnswer.from_bytes(carry(bytes(command))))
    assert command.frame[0] == aes.AUTHENTICATE_PART_2
    assert any(any(key) for key in keys.lent)
    dialogue.close()
    assert all(key == bytearray(16) for key in keys.lent)


@pytest.mark.parametrize("vector", VECTORS["authentication"], ids=lambda vector: vector["source"])
def test_published_exchanges_from_the_profile(vector: dict[str, str]) -> None:
    class OneKey(OperatorKeys):
        def card_key(self, name: str, version: int, uid: bytes) -> Any:
            return super().card_key("ultralight-uid", 1, b"")

    keys = OneKey(uid=[bytes.fromhex(vector["key"])])
    dialogue = profile.authenticate(attempt(keys, random=lambda _count: bytes.fromhex(vector["rnd_a"])))
    assert next(dialogue).frame == b"\x60"
    assert dialogue.send(TagAnswer(bytes.fromhex("0004030104000F03"))).frame == b"\x1a\x00"
    assert (
        dialogue.send(TagAnswer(bytes.fromhex(vector["first_answer"]))).frame.hex().upper() == vector["second_command"]
    )
    read = dialogue.send(TagAnswer(bytes.fromhex(vector["second_answer"]))).frame
    assert read[:2] == b"\x30\x04"
    if "session_key" in vector:
        key = bytes.fromhex(vector["session_key"])
        assert read == aes.Session(bytearray(key)).sealed(b"\x30\x04")
        with pytest.raises(StopIteration) as done:
            dialogue.send(TagAnswer(TOKEN + aes.mac(key, 1, TOKEN)))
        assert judged(done.value.value) == Identity(CREDENTIAL, "ultralight-aes", Assurance.CHIP, None, cached=False)


@pytest.mark.parametrize("held", range(4))
def test_older_versions_of_the_operator_key_still_open_a_card(held: int) -> None:
    versions = [bytes([version]) * 16 for version in range(4)]
    keys = OperatorKeys(data=versions, uid=versions)
    tag = issue(settings=HIDDEN, uid_key=versions[held], data_key=data_key(operator=versions[held]))
    assert outcome(carrier(tag), keys, b"") is Reason.VALID
    newest_first = [4, 3, 2, 1][: 4 - held]
    assert [version for _, version, _ in keys.asked] == newest_first * 2


def test_so_many_versions_are_tried_and_no_more() -> None:
    keys = OperatorKeys(data=[bytes([version]) * 16 for version in range(9)])
    assert outcome(carrier(issue()), keys) is Reason.KEY_NOT_HERE
    assert len(keys.asked) == profile.MAX_VERSIONS


class Emulator:
    """Everything that can be copied from a card: its memory, and the answers of one tap that went well."""

    def __init__(self, uid: bytes) -> None:
        tag = issue(settings=Settings(random_uid=not uid))
        carry = carrier(tag)
        self.recorded: list[bytes] = []

        def record(frame: bytes) -> bytes:
            self.recorded.append(carry(frame))
            return self.recorded[-1]

        run(profile.authenticate(attempt(uid=uid, random=lambda count: bytes(range(100, 100 + count)))), record)

    def replay(self) -> Carry:
        answers = iter(self.recorded)
        return lambda _frame: next(answers)


def without_key(frame: bytes) -> bytes:
    """A card with the memory of a good one and no key: it says yes to everything."""
    match frame[0]:
        case aes.GET_VERSION:
            return bytes.fromhex("0004030104000F03")
        case aes.AUTHENTICATE:
            return b"\xaf" + bytes(16)
        case aes.AUTHENTICATE_PART_2:
            return b"\x00" + frame[1:17]
        case _:
            return TOKEN + bytes(8)


@pytest.mark.parametrize("uid", [UID, b""])
def test_copied_memory_without_the_key_is_not_believed(uid: bytes) -> None:
    assert outcome(without_key, uid=uid) is Reason.WRONG_SIGNATURE


@pytest.mark.parametrize("uid", [UID, b""])
def test_replayed_answers_are_not_believed(uid: bytes) -> None:
    assert outcome(Emulator(uid).replay(), uid=uid) is Reason.WRONG_SIGNATURE


def test_who_proves_no_key_is_asked_for_nothing_more() -> None:
    asked: list[int] = []

    def note(frame: bytes) -> bytes:
        asked.append(frame[0])
        return without_key(frame)

    proof = run(profile.authenticate(attempt()), note)
    assert asked == [aes.GET_VERSION, aes.AUTHENTICATE, aes.AUTHENTICATE_PART_2]
    assert proof.shown == CardToken("ultralight-aes", UID, b"")
    with pytest.raises(CardMalformed, match="does not hold the key"):
        run(profile.open_session(attempt()), without_key)


@pytest.mark.parametrize(
    ("changes", "uid", "reason"),
    [
        ({"data_key": data_key(operator=bytes(16))}, UID, Reason.KEY_NOT_HERE),  # another operator's
        ({"data_key": OPERATOR}, UID, Reason.KEY_NOT_HERE),  # the operator key itself, not a card's
        ({"data_key": data_key(UID[::-1])}, UID, Reason.KEY_NOT_HERE),  # another card's
        ({"data_key": data_key()[::-1]}, UID, Reason.KEY_NOT_HERE),  # personalised in the wrong order of bytes
        ({"uid": UID[::-1], "data_key": data_key()}, UID[::-1], Reason.KEY_NOT_HERE),  # a key on another UID
        ({"uid_key": bytes(16), "settings": HIDDEN}, b"", Reason.KEY_NOT_HERE),  # another operator's shared key
        ({"settings": Settings(cmac=False)}, UID, Reason.MALFORMED_ANSWER),  # answers without codes
        ({"settings": Settings(random_uid=True, cmac=False)}, b"", Reason.MALFORMED_ANSWER),
    ],
)
def test_a_card_that_is_not_as_issued(changes: dict[str, Any], uid: bytes, reason: Reason) -> None:
    tag = issue(**changes)
    if reason is Reason.MALFORMED_ANSWER:  # silicon says nothing to a command that is too long: here a reader says so
        quiet = carrier(tag)

        def carry(frame: bytes) -> bytes:
            try:
                return quiet(frame)
            except Torn:
                return b""

        assert outcome(carry, uid=uid) is reason
    else:
        assert outcome(carrier(tag), uid=uid) is reason


@pytest.mark.parametrize("uid", [UID, b""])
@pytest.mark.parametrize("missing", ["data", "uid"])
def test_a_gate_without_the_key_says_so(uid: bytes, missing: str) -> None:
    keys = OperatorKeys(**{missing: []})
    needed = missing == "data" or not uid
    tag = issue(settings=Settings(random_uid=not uid))
    assert outcome(carrier(tag), keys, uid) is (Reason.KEY_NOT_HERE if needed else Reason.VALID)


def test_a_security_module_that_does_not_answer_says_so() -> None:
    class Gone(OperatorKeys):
        def versions(self, name: str) -> tuple[int, ...]:
            return (7, *super().versions(name))

    with pytest.raises(KeyNotHere, match=r"ultralight-data\.7 is not on this gate"):
        run(profile.authenticate(attempt(Gone())), carrier(issue()))


def test_a_revoked_card_is_named() -> None:
    assert outcome(carrier(issue()), denied=frozenset({CREDENTIAL})) is Reason.REVOKED


@pytest.mark.parametrize("hidden", [False, True])
def test_a_flipped_bit_in_any_answer_is_never_believed(*, hidden: bool) -> None:
    tag, uid = issue(settings=Settings(random_uid=hidden)), b"" if hidden else UID
    frames = frames_of(issue(settings=Settings(random_uid=hidden)), uid)
    good = Emulator(uid).recorded
    assert len(good) == frames
    for at in range(2, frames + 1):
        for bit in range(8 * len(good[at - 1])):

            def flip(number: int, answer: bytes, at: int = at, bit: int = bit) -> bytes:
                if number != at or bit >= 8 * len(answer):
                    return answer
                return (int.from_bytes(answer) ^ 1 << bit).to_bytes(len(answer))

            tag.reset()
            assert outcome(spoiled(carrier(tag), flip), uid=uid) in {
                Reason.WRONG_SIGNATURE,  # a random number or a code
                Reason.MALFORMED_ANSWER,  # a status byte, or a true UID with a wrong check byte
                Reason.KEY_NOT_HERE,  # the tag's own random number: it refuses our proof
                Reason.PRESENT_AGAIN,
            }
    assert outcome(carrier(tag), uid=uid) is Reason.VALID


@pytest.mark.parametrize("at_end", range(1, 9))
def test_a_wrong_code_on_the_token_is_a_wrong_signature(at_end: int) -> None:
    def flip(number: int, answer: bytes) -> bytes:
        return (
            answer[:-at_end] + bytes([answer[-at_end] ^ 1]) + answer[len(answer) - at_end + 1 :]
            if number == 4
            else answer
        )

    assert outcome(spoiled(carrier(issue()), flip)) is Reason.WRONG_SIGNATURE


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("change", [lambda answer: answer[:-1], lambda answer: answer + b"\0", lambda _answer: b""])
def test_truncated_and_overlong_frames_are_malformed(change: Callable[[bytes], bytes], *, hidden: bool) -> None:
    uid = b"" if hidden else UID
    for at in range(1, frames_of(issue(settings=Settings(random_uid=hidden)), uid) + 1):
        carry = spoiled(
            carrier(issue(settings=Settings(random_uid=hidden))),
            at_steps({1, 2} if at == 1 else {at}, change),
        )
        assert outcome(carry, uid=uid) is (Reason.UNKNOWN_MEDIUM if at == 1 else Reason.MALFORMED_ANSWER)


@pytest.mark.parametrize("nak", [0x0, 0x1, 0x4, 0x5])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_refusal_at_every_step(nak: int, *, hidden: bool) -> None:
    uid = b"" if hidden else UID
    steps = [Reason.UNKNOWN_MEDIUM, Reason.MALFORMED_ANSWER, Reason.KEY_NOT_HERE, Reason.MALFORMED_ANSWER]
    if hidden:
        steps += steps[1:]
    for at, reason in enumerate(steps, 1):
        carry = spoiled(
            carrier(issue(settings=Settings(random_uid=hidden))),
            at_steps({at}, lambda _answer: bytes([nak])),
        )
        assert outcome(carry, uid=uid) is reason, at


@pytest.mark.parametrize("hidden", [False, True])
def test_torn_at_every_frame_is_present_again_and_the_next_tap_is_good(*, hidden: bool) -> None:
    uid = b"" if hidden else UID
    tag = issue(settings=Settings(random_uid=hidden))
    for at in range(1, frames_of(tag, uid) + 1):
        for executed in (False, True):
            tag.reset()
            carry, count = carrier(tag), 0

            def torn(frame: bytes, at: int = at, executed: bool = executed, carry: Carry = carry) -> bytes:  # noqa: FBT001 - bound early
                nonlocal count
                count += 1
                if count == at:
                    if executed:
                        carry(frame)
                    raise Torn
                return carry(frame)

            assert outcome(torn, uid=uid) is Reason.PRESENT_AGAIN
            tag.reset()
            assert outcome(carrier(tag), uid=uid) is Reason.VALID


@pytest.mark.parametrize("size", [0, 4, 10])
def test_only_a_true_uid_of_seven_bytes_makes_a_key(size: int) -> None:
    keys = OperatorKeys()
    if size:
        with pytest.raises(CardMalformed, match=f"a UID of {size} bytes"):
            run(profile.authenticate(attempt(keys, uid=bytes(size))), carrier(issue()))
        assert keys.asked == []
    else:
        assert outcome(carrier(issue()), keys, b"") is Reason.VALID
        assert all(len(uid) == 7 for name, _, uid in keys.asked if name == "ultralight-data")


@pytest.mark.parametrize("at", [0, 3, 7, 8])
def test_a_true_uid_with_a_wrong_check_byte_is_malformed(at: int) -> None:
    tag, keys = issue(settings=HIDDEN), OperatorKeys()
    tag.memory[at] ^= 1
    assert outcome(carrier(tag), keys, b"") is Reason.MALFORMED_ANSWER
    assert [name for name, _, _ in keys.asked] == ["ultralight-uid"]


@pytest.mark.parametrize(
    "version", [b"", b"\x00", bytes.fromhex("0004040201000F03"), bytes.fromhex("0004030101000B03")]
)
def test_other_tags_are_another_family(version: bytes) -> None:
    with pytest.raises(WrongFamily):
        run(profile.authenticate(attempt()), lambda _frame: version)


def test_a_tag_that_missed_the_first_command_is_asked_again() -> None:
    first = True
    carry = carrier(issue())

    def deaf(frame: bytes) -> bytes:
        nonlocal first
        if first:
            first = False
            return b""
        return carry(frame)

    assert outcome(deaf) is Reason.VALID


def test_the_message_of_an_error_repeats_nothing_that_the_card_sent() -> None:
    with pytest.raises(CardRefused) as refused:
        run(profile.authenticate(attempt()), spoiled(carrier(issue()), lambda at, said: b"\x04" if at == 2 else said))
    assert str(refused.value) == "the card answered 0004 to AUTHENTICATE"


#: Answers that look right, so that the search gets past the first steps.
_LIKELY = st.one_of(
    st.just(bytes.fromhex("0004030104000F03")),
    st.binary(min_size=16, max_size=16).map(lambda block: b"\xaf" + block),
    st.binary(min_size=16, max_size=16).map(lambda block: b"\x00" + block),
    st.binary(min_size=24, max_size=24),
    st.binary(max_size=1),
    st.binary(max_size=64),
)


@hostile
@given(answers=st.lists(_LIKELY, max_size=90), uid=st.sampled_from([UID, b"", bytes(4)]))
def test_any_answers_end_in_a_proof_that_is_not_believed_or_a_typed_refusal(answers: list[bytes], uid: bytes) -> None:
    left = iter(answers + [bytes.fromhex("0004030104000F03")] * 80)
    count = 0

    def carry(_frame: bytes) -> bytes:
        nonlocal count
        count += 1
        return next(left)

    keys = OperatorKeys(data=[bytes([version]) * 16 for version in range(6)])
    assert outcome(carry, keys, uid) not in {Reason.VALID, Reason.PRESENT_AGAIN}
    assert count < 80


FAMILIES = (choice.TagFamily(profile.NAME, profile.authenticate),)


async def tapped(field: Field, wanted: bytes | None = None) -> Identity | Reason:
    """One tap through the driver, with the family chosen as a gate chooses it."""
    reader = NfcpyReader(f"nfcpy:{field.path}", field.path)
    await reader.open()
    try:
        medium = await reader.wait()
        target = medium.target
        uid = b"" if target.uid_is_random else target.uid
        assert wanted is None or uid == wanted
        traffic = Traffic()
        proof = await medium.converse(
            lambda carry: drive(choice.authenticate(FAMILIES, target, attempt(uid=uid)), carry, traffic)
        )
        return judged(proof)
    except ProfileError as error:
        return error.reason
    finally:
        await reader.close()


@pytest.mark.parametrize("hidden", [False, True])
async def test_a_tap_over_the_air(*, hidden: bool) -> None:
    field = await Field.open()
    field.place(AirCard(issue(settings=Settings(random_uid=hidden)), Technology.TYPE_A))
    identity = await tapped(field, b"" if hidden else UID)
    assert isinstance(identity, Identity)
    assert identity.credential_id == CREDENTIAL
    await field.close()


async def test_an_old_key_is_found_over_the_air_after_the_refusal_of_the_new_one() -> None:
    field = await Field.open()
    tag = issue(settings=HIDDEN, data_key=data_key(operator=bytes(16)))
    field.place(AirCard(tag, Technology.TYPE_A))
    reader = NfcpyReader(f"nfcpy:{field.path}", field.path)
    await reader.open()
    medium = await reader.wait()
    keys = OperatorKeys(data=[bytes(16), OPERATOR], uid=[SHARED, bytes(16)])
    proof = await medium.converse(lambda carry: run(profile.authenticate(attempt(keys, uid=b"")), carry))
    assert isinstance(judged(proof), Identity)
    assert [asked[:2] for asked in keys.asked] == [
        ("ultralight-uid", 2),
        ("ultralight-uid", 1),
        ("ultralight-data", 2),
        ("ultralight-data", 1),
    ]
    await reader.close()
    await field.close()


async def test_two_mailed_cards_in_one_wallet_are_one_card_at_a_time() -> None:
    field = await Field.open()
    field.add(AirCard(issue(), Technology.TYPE_A))
    field.add(AirCard(issue(uid=bytes.fromhex("04F1E2D3C4B5A6")), Technology.TYPE_A))
    with pytest.raises(SeveralMedia):
        await tapped(field)
    await field.close()

"""NTAG 424 DNA at the gate: octets, what each wrong card becomes, and what trust makes of its proof."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import ResponseApdu
from hardware.ev2 import SessionKeys
from hardware.medium import MediumLost, Target, Technology
from hardware.virtual import ntag424_files
from hardware.virtual.ntag424 import APPLICATION, Ntag424Chip
from tests.hostile import hostile
from tests.validator.attempting import GATE, REGION, WALL_MS, NoKeys, stranger
from tests.validator.authority import Authority
from tests.validator.judging import instant, nobody, nobody_enrolled
from validator import certificates, choice, trust, vouching
from validator.certificates import credential_id
from validator.dialogue import MAX_APDUS, Traffic, drive
from validator.model import Assurance, Credential, Identity, Reason, Refusal
from validator.profiles import ntag424
from validator.profiles.attempt import TOKEN_BYTES, Attempt, CardKeyMissing, CardKeys
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    KeyNotHere,
    KeyUnsupported,
    ProfileError,
    WrongFamily,
)
from validator.proof import CardProof, CardToken, Mutual, Shown
from validator.trust_store import TrustStore

VECTOR: dict[str, Any] = next(
    vector
    for vector in json.loads((Path(__file__).parent.parent / "vectors" / "ntag424.json").read_text())["vectors"]
    if vector["name"] == "ntag424-authenticateev2first-key0"
)
FAMILY = choice.Family(ntag424.NAME, ntag424.AID, ntag424.authenticate)
UID = bytes.fromhex("04DE5F1EACC040")
TOKEN = bytes.fromhex("50494C455400000000000000000000A7")
TARGET = Target(Technology.TYPE_A, UID, b"\x80", sak=0x20)
CURRENT, OLDER, STRANGE = b"operator key, v2", b"operator key, v1", b"other operator's"

Process = Callable[[bytes], bytes]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def diversified(master: bytes, uid: bytes) -> bytes:
    return cmac(master, b"\x01" + uid)


@dataclass
class Keys:
    """Operator keys of a gate, in the order of its versions; remembers what it lent out."""

    masters: dict[int, bytes]
    missing: frozenset[int] = frozenset()
    asked: list[tuple[str, int, bytes]] = field(default_factory=list)
    lent: list[bytearray] = field(default_factory=list)

    def versions(self, name: str) -> tuple[int, ...]:
        return tuple(self.masters) if name == "ntag424-application" else ()

    @contextmanager
    def card_key(self, name: str, version: int, uid: bytes) -> Iterator[bytearray]:
        self.asked.append((name, version, uid))
        if version in self.missing:
            raise CardKeyMissing(f"{name}.{version} is not on this gate")
        key = bytearray(diversified(self.masters[version], uid))
        self.lent.append(key)
        try:
            yield key
        finally:
            key[:] = bytes(16)


class Fresh:
    """Randomness that never repeats and is the same in each run."""

    def __init__(self, seed: bytes = b"gate") -> None:
        self._seed, self._count = seed, 0

    def __call__(self, count: int) -> bytes:
        self._count += 1
        stream = b"".join(cmac(self._seed.rjust(16), bytes([self._count, part])) for part in range(4))
        return stream[:count]


def card(master: bytes = CURRENT, *, uid: bytes = UID, token: bytes | None = TOKEN) -> Ntag424Chip:
    keys = [bytes([number]) * 16 for number in range(5)]
    keys[1] = diversified(master, uid)
    return Ntag424Chip(uid, keys, token, random=Fresh(b"card"))


def of_chip(chip: Ntag424Chip) -> Process:
    def process(command: bytes) -> bytes:
        answer = chip.process(command).response
        assert answer is not None
        return answer

    return process


def gate_keys() -> Keys:
    return Keys({2: CURRENT, 1: OLDER})


@dataclass
class Tap:
    """One presentation at a gate: what went over the air and what was announced."""

    keys: CardKeys = field(default_factory=gate_keys)
    uid: bytes = UID
    random: Callable[[int], bytes] = field(default_factory=Fresh)
    log: list[bytes] = field(default_factory=list)
    begun: list[Shown] = field(default_factory=list)

    def run(self, process: Process, families: Sequence[choice.Family] = (FAMILY,)) -> CardProof:
        attempt = Attempt(REGION, GATE, WALL_MS, self.uid, self.random, stranger, self.begun.append, self.keys)

        def transceive(command: bytes) -> bytes:
            self.log.append(command)
            assert len(self.log) <= MAX_APDUS
            return process(command)

        return drive(choice.authenticate(families, TARGET, attempt), transceive, Traffic())


@pytest.fixture(scope="module")
def store(authority: Authority) -> TrustStore:
    return TrustStore(1, [authority.certificate])


def judged(proof: CardProof, store: TrustStore, denied: Callable[[Credential], bool] = nobody) -> Identity | Refusal:
    vouched = vouching.vouch(proof.shown, vouching.Authorities(store, nobody_enrolled), instant())
    return trust.judge(proof, vouched, denied, instant())


def reason_of(process: Process, store: TrustStore, tap: Tap | None = None) -> Reason | None:
    try:
        proof = (tap or Tap()).run(process)
    except ProfileError as error:
        return error.reason
    verdict = judged(proof, store)
    return verdict.reason if isinstance(verdict, Refusal) else None


class TestGoodCard:
    def test_four_exchanges_and_an_identity_earned_by_the_chip(self, store: TrustStore) -> None:
        tap = Tap()
        proof = tap.run(of_chip(card()))
        assert [(command[0], command[1]) for command in tap.log] == [
            (0, 0xA4),
            (0x90, 0x71),
            (0x90, 0xAF),
            (0x90, 0xAD),
        ]
        assert tap.log[0] == octets("00A4040007D276000085010100")
        assert tap.log[1] == octets("9071000002010000")
        assert tap.log[3][:-9] == octets("90AD00000F03000000100000")
        verdict = judged(proof, store)
        assert isinstance(verdict, Identity)
        assert (verdict.profile, verdict.assurance, verdict.known, verdict.cached) == (
            "ntag424",
            Assurance.CHIP,
            None,
            False,
        )
        assert verdict.credential_id == credential_id(credential_id(b"\x07ntag424" + TOKEN) + UID)

    def test_its_token_is_announced_and_shown_and_nothing_is_kept(self) -> None:
        tap = Tap()
        proof = tap.run(of_chip(card()))
        assert tap.begun == [proof.shown] == [CardToken("ntag424", UID, TOKEN)]
        assert proof.cache_key is None

    def test_its_key_is_asked_for_by_name_version_and_uid_and_wiped(self) -> None:
        keys = gate_keys()
        Tap(keys).run(of_chip(card()))
        assert keys.asked == [("ntag424-application", 2, UID)]
        assert keys.lent == [bytearray(16)]

    def test_evidence_is_rnd_a_turned_and_the_mac_of_the_answer(self) -> None:
        proof = Tap(random=lambda count: bytes(range(count))).run(of_chip(card()))
        assert isinstance(proof.evidence, Mutual)
        assert proof.evidence.expected == proof.evidence.received
        assert proof.evidence.expected[:16] == bytes([*range(1, 16), 0])
        assert len(proof.evidence.expected) == 24

    def test_layout_is_that_of_the_card_that_a_bureau_makes(self) -> None:
        assert ntag424.AID == APPLICATION
        assert (ntag424.KEY_NUMBER, ntag424.TOKEN_FILE, TOKEN_BYTES) == (
            ntag424_files.GATE_KEY,
            ntag424_files.TOKEN_FILE,
            ntag424_files.TOKEN_BYTES,
        )

    @given(token=st.binary(min_size=16, max_size=16), uid=st.binary(min_size=7, max_size=7))
    def test_any_token_but_a_blank_one_arrives(self, store: TrustStore, token: bytes, uid: bytes) -> None:
        process, tap = of_chip(card(uid=uid, token=token)), Tap(uid=uid)
        if token in (bytes(16), b"\xff" * 16):
            with pytest.raises(CardMalformed):
                tap.run(process)
            return
        verdict = judged(tap.run(process), store)
        assert isinstance(verdict, Identity)
        assert verdict.credential_id == certificates.card_credential_id(certificates.token_id("ntag424", token), uid)

    def test_a_token_on_another_chip_is_another_credential(self, store: TrustStore) -> None:
        """Who broke one card and overheard a tap has a good key and somebody's token: that is nobody's ticket."""
        mine, other = (judged(Tap(uid=uid).run(of_chip(card(uid=uid))), store) for uid in (UID, UID[::-1]))
        assert isinstance(mine, Identity)
        assert isinstance(other, Identity)
        assert mine.credential_id != other.credential_id


class TestRecordedByNxp:
    """AN12196's card, whose key is all zeros, at our gate: its answers as they were printed."""

    def test_its_answers_make_the_printed_session(self) -> None:
        given_, expected = VECTOR["inputs"], VECTOR["expected"]
        mac_key = octets(expected["ses_auth_mac_key"])
        mac = cmac(mac_key, octets("00 0100") + octets(expected["ti"]) + TOKEN)[1::2]
        answers = iter(
            [
                b"\x90\x00",
                octets(given_["e_rndb"]) + b"\x91\xaf",
                octets(given_["card_final_response_data"]) + b"\x91\x00",
                TOKEN + mac + b"\x91\x00",
            ]
        )
        tap = Tap(ZeroKeys(), random=lambda count: octets(given_["rnda"])[:count])
        proof = tap.run(lambda _command: next(answers))
        assert tap.log[2] == octets("90AF000020") + octets(expected["part2_data"]) + b"\x00"
        header = octets("03 000000 100000")
        asked = cmac(mac_key, b"\xad\x00\x00" + octets(expected["ti"]) + header)[1::2]
        assert tap.log[3] == octets("90AD00000F") + header + asked + b"\x00"
        both = octets(expected["rnda_rotated"]) + mac
        assert proof.evidence == Mutual(both, both)


class ZeroKeys:
    """An operator whose cards all have the key of the application note."""

    def versions(self, name: str) -> tuple[int, ...]:
        return (1,)

    @contextmanager
    def card_key(self, name: str, version: int, uid: bytes) -> Iterator[bytearray]:
        yield bytearray(16)


class TestVersions:
    def test_an_older_version_costs_two_exchanges_more(self, store: TrustStore) -> None:
        keys = gate_keys()
        tap = Tap(keys)
        assert isinstance(judged(tap.run(of_chip(card(OLDER))), store), Identity)
        assert [command[1] for command in tap.log] == [0xA4, 0x71, 0xAF, 0x71, 0xAF, 0xAD]
        assert [version for _, version, _ in keys.asked] == [2, 1]
        assert tap.log[2] != tap.log[4]
        assert keys.lent == [bytearray(16)] * 2

    def test_a_version_that_was_retired_is_refused(self) -> None:
        with pytest.raises(KeyNotHere, match="none of 1 versions"):
            Tap(Keys({2: CURRENT})).run(of_chip(card(OLDER)))

    def test_no_more_than_four_are_tried(self) -> None:
        masters = {number: bytes([number]) * 16 for number in range(9, 0, -1)}
        tap = Tap(Keys(masters))
        with pytest.raises(KeyNotHere):
            tap.run(of_chip(card(masters[5])))
        assert len(tap.log) == 1 + 2 * ntag424.MAX_VERSIONS
        Tap(Keys(masters)).run(of_chip(card(masters[6])))

    def test_a_key_that_its_module_does_not_give(self) -> None:
        with pytest.raises(KeyNotHere, match=r"ntag424-application\.2 is not on this gate"):
            Tap(Keys({2: CURRENT, 1: OLDER}, missing=frozenset({2}))).run(of_chip(card()))

    def test_a_gate_without_keys_knows_the_card_and_says_what_is_missing(self) -> None:
        tap = Tap(NoKeys())
        with pytest.raises(KeyNotHere):
            tap.run(of_chip(card()))
        assert len(tap.log) == 2

    def test_a_card_that_was_given_wrong_keys_is_asked_until_it_answers(self, store: TrustStore) -> None:
        chip = card()
        for _ in range(60):
            with pytest.raises(ProfileError):
                Tap(Keys({1: STRANGE})).run(of_chip(chip))
        assert isinstance(judged(Tap().run(of_chip(chip)), store), Identity)

    def test_a_card_that_delays_for_ever(self, store: TrustStore) -> None:
        process = altered(card(), 0x71, lambda _answer: b"\x91\xad")
        tap = Tap()
        assert reason_of(process, store, tap) is Reason.MALFORMED_ANSWER
        assert len(tap.log) == 2 + ntag424.MAX_DELAYS


def altered(chip: Ntag424Chip, ins: int, change: Callable[[bytes], bytes]) -> Process:
    """A card of which the answer to one instruction is changed on its way."""

    def process(command: bytes) -> bytes:
        answer = of_chip(chip)(command)
        return change(answer) if command[1] == ins else answer

    return process


def flipped(position: int) -> Callable[[bytes], bytes]:
    def flip(answer: bytes) -> bytes:
        out = bytearray(answer)
        out[position] ^= 0x01
        return bytes(out)

    return flip


def impostor(token: bytes = TOKEN) -> Process:
    """Holds a token that it read somewhere, and no key."""
    noise = Fresh(b"noise")

    def process(command: bytes) -> bytes:
        match command[1]:
            case 0xA4:
                return b"\x90\x00"
            case 0x71:
                return noise(16) + b"\x91\xaf"
            case 0xAF:
                return noise(32) + b"\x91\x00"
            case _:
                return token + noise(8) + b"\x91\x00"

    return process


def reflecting() -> Process:
    """Gives the gate's own octets back."""
    last = [bytes(16)]

    def process(command: bytes) -> bytes:
        data = command[5:-1]
        match command[1]:
            case 0xA4:
                return b"\x90\x00"
            case 0x71:
                return last[-1][:16] + b"\x91\xaf"
            case 0xAF:
                last.append(data)
                return data + b"\x91\x00"
            case _:
                return TOKEN + data[-8:] + b"\x91\x00"

    return process


def replaying() -> Process:
    """Repeats what a true card said at its last tap."""
    answers: list[bytes] = []
    true = of_chip(card())

    def record(command: bytes) -> bytes:
        answers.append(true(command))
        return answers[-1]

    Tap(random=Fresh(b"an earlier tap")).run(record)
    left = iter(answers)
    return lambda _command: next(left)


def file_missing() -> Process:
    return altered(card(), 0xAD, lambda _answer: b"\x91\xf0")


def of_another_card() -> Process:
    return of_chip(card(uid=octets("04AABBCCDDEEFF")))


def not_personalised() -> Process:
    return of_chip(card(token=None))


def sent_plainly() -> Process:
    return altered(card(), 0xAD, lambda _answer: TOKEN + b"\x91\x00")


BAD_CARDS: dict[str, tuple[Callable[[], Process], Reason]] = {
    "a copied token without the key": (impostor, Reason.WRONG_SIGNATURE),
    "the gate's octets given back": (reflecting, Reason.WRONG_SIGNATURE),
    "a replay of an earlier tap": (replaying, Reason.WRONG_SIGNATURE),
    "the key of another card": (of_another_card, Reason.KEY_NOT_HERE),
    "the key of another operator": (lambda: of_chip(card(STRANGE)), Reason.KEY_NOT_HERE),
    "the MAC flipped": (lambda: altered(card(), 0xAD, flipped(-3)), Reason.WRONG_SIGNATURE),
    "the token flipped": (lambda: altered(card(), 0xAD, flipped(0)), Reason.WRONG_SIGNATURE),
    "RndA' flipped, first block": (lambda: altered(card(), 0xAF, flipped(0)), Reason.MALFORMED_ANSWER),
    "RndA' flipped, last block": (lambda: altered(card(), 0xAF, flipped(-3)), Reason.WRONG_SIGNATURE),
    "the challenge flipped": (lambda: altered(card(), 0x71, flipped(0)), Reason.KEY_NOT_HERE),
    "another token under no MAC": (sent_plainly, Reason.MALFORMED_ANSWER),
    "the token cut short": (lambda: altered(card(), 0xAD, lambda answer: answer[1:]), Reason.MALFORMED_ANSWER),
    "the token too long": (lambda: altered(card(), 0xAD, lambda answer: b"\0" + answer), Reason.MALFORMED_ANSWER),
    "a challenge cut short": (lambda: altered(card(), 0x71, lambda answer: answer[1:]), Reason.MALFORMED_ANSWER),
    "the challenge of LRP mode": (
        lambda: altered(card(), 0x71, lambda answer: b"\1" + answer),
        Reason.MALFORMED_ANSWER,
    ),
    "LRP mode alone": (lambda: altered(card(), 0x71, lambda _answer: b"\x91\x9d"), Reason.MALFORMED_ANSWER),
    "RndA' cut short": (lambda: altered(card(), 0xAF, lambda answer: answer[16:]), Reason.MALFORMED_ANSWER),
    "RndA' missing": (lambda: altered(card(), 0xAF, lambda answer: answer[-2:]), Reason.MALFORMED_ANSWER),
    "an error in part 2": (lambda: altered(card(), 0xAF, lambda _answer: b"\x91\xee"), Reason.MALFORMED_ANSWER),
    "the token file missing": (file_missing, Reason.MALFORMED_ANSWER),
    "a card as NXP delivers it": (not_personalised, Reason.MALFORMED_ANSWER),
    "a token of zeros": (lambda: of_chip(card(token=bytes(16))), Reason.MALFORMED_ANSWER),
    "a token of ones": (lambda: of_chip(card(token=b"\xff" * 16)), Reason.MALFORMED_ANSWER),
    "a phone": (lambda: altered(card(), 0x71, lambda _answer: b"\x6d\x00"), Reason.UNKNOWN_MEDIUM),
    "an NTAG 413": (lambda: altered(card(), 0x71, lambda _answer: b"\x91\x1c"), Reason.UNKNOWN_MEDIUM),
    "no such key": (lambda: altered(card(), 0x71, lambda _answer: b"\x91\x40"), Reason.UNKNOWN_MEDIUM),
    "no NDEF application": (lambda: altered(card(), 0xA4, lambda _answer: b"\x6a\x82"), Reason.UNKNOWN_MEDIUM),
}


class TestBadCards:
    @pytest.mark.parametrize("name", BAD_CARDS)
    def test_each_has_its_reason(self, store: TrustStore, name: str) -> None:
        make, reason = BAD_CARDS[name]
        keys = gate_keys()
        assert reason_of(make(), store, Tap(keys)) is reason
        assert all(key == bytearray(16) for key in keys.lent)

    def test_a_refusal_names_no_credential_before_the_key_is_proved(self, store: TrustStore) -> None:
        verdict = judged(Tap().run(impostor()), store)
        assert verdict == Refusal(Reason.WRONG_SIGNATURE, "ntag424")

    def test_a_revoked_card_is_named(self, store: TrustStore) -> None:
        credential = certificates.card_credential_id(certificates.token_id("ntag424", TOKEN), UID)
        verdict = judged(Tap().run(of_chip(card())), store, lambda asked: asked.id == credential)
        assert verdict == Refusal(Reason.REVOKED, "ntag424", credential)

    @pytest.mark.parametrize("uid", [b"", octets("08112233"), octets("0411223344556677")])
    def test_a_random_uid_is_refused_as_what_it_is(self, uid: bytes) -> None:
        tap = Tap(uid=uid)
        with pytest.raises(KeyUnsupported, match="random") as caught:
            tap.run(of_chip(card()))
        assert caught.value.reason is Reason.UNSUPPORTED_KEY
        assert len(tap.log) == 2

    def test_a_selection_that_failed_is_another_family(self) -> None:
        attempt = Attempt(REGION, GATE, WALL_MS, UID, Fresh(), stranger, lambda _shown: None, gate_keys())
        refused = ResponseApdu(b"", 0x6A82)
        with pytest.raises(WrongFamily):
            next(ntag424.authenticate(attempt, refused))

    def test_a_phone_is_offered_to_the_next_family_and_a_failed_card_is_not(self) -> None:
        other = choice.Family("other", octets("A000000000"), _unreachable)
        phone = altered(card(), 0x71, lambda _answer: b"\x6d\x00")
        tap = Tap()
        with pytest.raises(WrongFamily):
            tap.run(phone, (FAMILY, other))
        assert tap.log[-1][:10] == octets("00A4040005A000000000")
        tap = Tap()
        with pytest.raises(KeyNotHere):
            tap.run(of_chip(card(STRANGE)), (FAMILY, other))
        assert tap.log[-1][1] == 0xAF

    def test_once_recognised_it_stays_this_family(self) -> None:
        answers = iter([b"\x90\x00", bytes(16) + b"\x91\xaf", b"\x91\xae", b"\x6d\x00"])
        with pytest.raises(CardRefused, match="6D00"):
            Tap().run(lambda _command: next(answers))

    @pytest.mark.parametrize("torn", [False, True])
    def test_the_keys_of_the_session_are_wiped(self, monkeypatch: pytest.MonkeyPatch, *, torn: bool) -> None:
        made: list[SessionKeys] = []
        derive = SessionKeys.of_challenges

        def spy(key: bytes, rnd_a: bytes, rnd_b: bytes) -> SessionKeys:
            made.append(derive(key, rnd_a, rnd_b))
            return made[-1]

        chip = of_chip(card())

        def process(command: bytes) -> bytes:
            monkeypatch.setattr("validator.profiles.ntag424.SessionKeys.of_challenges", derive)
            answer = chip(command)
            monkeypatch.setattr("validator.profiles.ntag424.SessionKeys.of_challenges", spy)
            if torn and command[1] == 0xAD:
                raise MediumLost("reader", "the card left the field")
            return answer

        if torn:
            with pytest.raises(MediumLost):
                Tap().run(process)
        else:
            Tap().run(process)
        assert [(keys.encryption, keys.mac) for keys in made] == [(bytearray(16), bytearray(16))]

    @pytest.mark.parametrize("torn_at", range(4))
    def test_torn_at_each_command_it_proves_nothing_and_leaves_no_key(self, torn_at: int) -> None:
        chip, keys = card(), gate_keys()
        tap = Tap(keys)

        def process(command: bytes) -> bytes:
            if len(tap.log) == torn_at + 1:
                raise MediumLost("reader", "the card left the field")
            return of_chip(chip)(command)

        with pytest.raises(MediumLost):
            tap.run(process)
        assert tap.begun == []
        assert all(key == bytearray(16) for key in keys.lent)
        chip.reset()
        Tap().run(of_chip(chip))


def _unreachable(_attempt: Attempt, _selected: ResponseApdu) -> Any:
    raise AssertionError("no card holds its application")


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=60),
    st.tuples(
        st.sampled_from([b"", bytes(16), bytes(24), bytes(32), TOKEN + bytes(8)]) | st.binary(max_size=40),
        st.sampled_from(["9000", "91AF", "9100", "91AE", "91AD", "911C", "91F0", "6D00", "6100", "6C10"]),
    ).map(lambda parts: parts[0] + octets(parts[1])),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER, selected=st.booleans())
    def test_any_answers_end_in_a_refusal_within_bounds(
        self, store: TrustStore, answers: list[bytes], last: bytes, *, selected: bool
    ) -> None:
        script = iter([b"\x90\x00", *answers] if selected else answers)
        assert reason_of(lambda _command: next(script, last), store) is not None

    @given(spoilt=st.integers(1, 3), position=st.integers(0, 40), flip=st.integers(1, 255), length=st.integers(2, 40))
    def test_a_true_card_of_which_one_answer_is_spoilt_opens_nothing(
        self, store: TrustStore, spoilt: int, position: int, flip: int, length: int
    ) -> None:
        tap, true = Tap(), of_chip(card())

        def process(command: bytes) -> bytes:
            answer = true(command)
            if len(tap.log) != spoilt + 1:
                return answer
            out = bytearray(answer[: max(length, 2)])
            out[position % len(out)] ^= flip
            return bytes(out)

        assert reason_of(process, store, tap) is not None

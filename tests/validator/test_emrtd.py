"""Travel documents through the profile: which rung each kind reaches, and what becomes of each that lies or leaves."""

import hmac
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import lds, pace
from hardware.domain_parameters import STANDARDIZED
from hardware.lds import DG1, DG14, DG15
from hardware.pace import Mapping, PaceInfo
from hardware.virtual import emrtd_files
from hardware.virtual.emrtd import AgreementKey, Keys
from tests.hostile import hostile
from tests.validator.authority import NOW, seconds
from tests.validator.judging import instant
from tests.validator.scripted_card import TARGET, tlv
from tests.validator.travel_authority import SECURITY_INFOS, Country, explicit_spki, judge_document
from tests.validator.travel_documents import (
    BRAINPOOL,
    CA_AES_128,
    CA_AES_192,
    CA_AES_256,
    P256,
    P384,
    PLAIN_SHA256,
    PLAIN_SHA384,
    Issued,
    Reader,
    Torn,
    attempt,
    bare,
    country,
    curve_key,
    private,
    public,
    rsa_key,
    run,
    secrets,
    shown,
    signer,
    tampered,
    with_agreement,
    with_mapping,
    with_signature,
)
from validator import active_authentication, choice, dialogue, trust, vouching
from validator.country_signers import CountrySigners
from validator.model import Assurance, Identity, KeyAlgorithm, Reason, Refusal
from validator.passive_authentication import Genuine
from validator.profiles import emrtd
from validator.profiles.errors import (
    CanNeeded,
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    ProfileError,
    WrongCan,
    WrongFamily,
)
from validator.proof import CardProof, CardToken, Confirmed, Mutual, Shown, Signed
from validator.trust_store import TrustStore
from validator.vouching import Authorities

MAKERS: dict[str, Callable[[], Issued]] = {
    "PACE alone": bare,
    "chip authentication": with_agreement,
    "chip authentication mapping": with_mapping,
    "active authentication on a curve": lambda: with_signature(curve_key(), PLAIN_SHA256),
    "active authentication with RSA": lambda: with_signature(rsa_key()),
}
SOAK = os.environ.get("PILET_SOAK") == "1"
"""Both sides of PACE take a tenth of a second in Python: fewer examples than elsewhere."""

EACH = pytest.mark.parametrize("kind", MAKERS)


def judged(proof: CardProof, *authorities: Country) -> Genuine | Reason:
    store = CountrySigners([each.certificate for each in authorities or (country(),)])
    return judge_document(shown(proof), store, seconds(NOW))


def proved(proof: CardProof) -> bool:
    """Whether the evidence holds, as `validator.trust` holds it."""
    match proof.evidence:
        case Mutual(expected, received) | Confirmed(expected, received):
            return len(expected) > 0 and hmac.compare_digest(expected, received)
        case Signed(challenge, signature):
            key = shown(proof).chip_key
            return key is not None and active_authentication.confirms(key, challenge, signature)
        case _:
            return False


def believed(proof: CardProof, *authorities: Country) -> Identity | Refusal:
    """What a desk makes of it, with the authorities of these countries on its list."""
    anchors = tuple(each.certificate for each in authorities or (country(),))
    store = TrustStore(1, (), travel_anchors=anchors)
    vouched = vouching.vouch(proof.shown, Authorities(store, lambda _credential: None), instant())
    return trust.judge(proof, vouched, lambda _credential: False, instant())


def rung(proof: CardProof, *authorities: Country) -> Assurance | Reason:
    who = believed(proof, *authorities)
    return who.assurance if isinstance(who, Identity) else who.reason


class TestEachKind:
    @EACH
    def test_the_rung_it_reaches_and_no_more(self, kind: str) -> None:
        issued = MAKERS[kind]()
        proof = run(Reader.of(issued.chip()))
        assert proof.assurance is (Assurance.SHARED_SECRET if kind == "PACE alone" else Assurance.CHIP)
        assert (proof.profile, proof.cache_key, proved(proof)) == ("emrtd", None, True)
        verdict = judged(proof)
        assert isinstance(verdict, Genuine)
        assert verdict.chip_key == shown(proof).chip_key == issued.chip_key
        assert rung(proof) is proof.assurance

    @EACH
    def test_the_machine_readable_zone_opens_it_as_well(self, kind: str) -> None:
        issued = MAKERS[kind]()
        proof = run(Reader.of(issued.chip(can=None)), attempt(secrets(None, issued.mrz)))
        assert proved(proof)
        with pytest.raises(WrongCan):
            run(Reader.of(issued.chip()), attempt(secrets(None, b"L898902C37408122120415")))

    @EACH
    def test_what_it_is_judged_by_is_told_before_the_chip_computes(self, kind: str) -> None:
        """Chip authentication mapping aside, where the chip computed before it said anything."""
        seen: list[Shown] = []
        reader = Reader.of(MAKERS[kind]().chip())
        told_at: list[int] = []

        def begin(what: Shown) -> None:
            seen.append(what)
            told_at.append(len(reader.log))

        proof = run(reader, attempt(begin=begin))
        assert seen == [proof.shown]
        after = {"chip authentication": 3, "active authentication on a curve": 1}.get(kind, 0)
        if kind == "active authentication with RSA":
            after = 2  # its signature takes a GET RESPONSE
        assert told_at == [len(reader.log) - after]

    @EACH
    def test_nothing_of_the_face_or_the_fingers_is_selected(self, kind: str) -> None:
        """By the plain command, before it is sealed: what the profile asks for."""
        issued = MAKERS[kind]()
        issued.groups |= {2: tlv("75", b"a face"), 3: tlv("63", b"fingers"), 11: tlv("6B", b"a personal number")}
        chip = issued.chip()
        selected: list[int] = []
        original = chip._select_file

        def select(identifier: int) -> None:
            selected.append(identifier)
            original(identifier)

        chip._select_file = select  # type: ignore[method-assign]
        run(Reader.of(chip))
        readable = {lds.EF_CARD_ACCESS, lds.EF_CARD_SECURITY, *map(lds.group_file, (DG1, DG14, DG15))}
        assert set(selected) <= readable

    @EACH
    def test_torn_at_any_exchange_it_proves_nothing(self, kind: str) -> None:
        whole = Reader.of(MAKERS[kind]().chip())
        run(whole)
        issued = MAKERS[kind]()
        for count in range(len(whole.log)):
            with pytest.raises(Torn):
                run(Reader.of(issued.chip(), torn_at=count))

    @EACH
    def test_within_the_bounds_of_a_dialogue(self, kind: str) -> None:
        reader = Reader.of(MAKERS[kind]().chip())
        run(reader)
        exchanges, _, received = reader.traffic
        assert exchanges <= dialogue.MAX_APDUS // 2
        assert received <= dialogue.MAX_BYTES // 4

    @EACH
    def test_the_same_card_twice_is_two_proofs(self, kind: str) -> None:
        chip = MAKERS[kind]().chip()
        first = run(Reader.of(chip))
        chip.reset()
        second = run(Reader.of(chip), replace(attempt(), random=os.urandom))
        assert first.shown == second.shown
        assert first.evidence != second.evidence


class TestSuites:
    @pytest.mark.parametrize("oid", [CA_AES_128, CA_AES_192, CA_AES_256])
    @pytest.mark.parametrize("number", [12, 13, 14, 15, 16, 17, 18])
    def test_chip_authentication_on_each_curve(self, oid: bytes, number: int) -> None:
        proof = run(Reader.of(with_agreement(oid, STANDARDIZED[number], key_id=7).chip()))
        assert proved(proof)
        assert isinstance(judged(proof), Genuine)

    @pytest.mark.parametrize("key_bytes", [16, 24, 32])
    @pytest.mark.parametrize("number", [12, 13, 15])
    def test_mapping_on_each_curve(self, key_bytes: int, number: int) -> None:
        proof = run(Reader.of(with_mapping(STANDARDIZED[number], key_bytes).chip()))
        assert proved(proof)
        assert isinstance(judged(proof), Genuine)

    @pytest.mark.parametrize(("name", "algorithm"), [("secp256r1", PLAIN_SHA256), ("secp384r1", PLAIN_SHA384)])
    def test_active_authentication_on_each_curve(self, name: str, algorithm: bytes) -> None:
        proof = run(Reader.of(with_signature(curve_key(name), algorithm).chip()))
        assert isinstance(proof.evidence, Signed)
        key = curve_key(name).public_key()
        digest = hashes.SHA256() if name == "secp256r1" else hashes.SHA384()
        key.verify(proof.evidence.signature, proof.evidence.challenge, ec.ECDSA(digest))
        assert proof.evidence.algorithm is (KeyAlgorithm.P256 if name == "secp256r1" else KeyAlgorithm.P384)

    @pytest.mark.parametrize("bits", [2048, 3072])
    def test_active_authentication_with_rsa(self, bits: int) -> None:
        proof = run(Reader.of(with_signature(rsa_key(bits)).chip()))
        assert proved(proof)
        assert isinstance(judged(proof), Genuine)

    def test_chip_authentication_is_preferred_to_a_signature(self) -> None:
        issued = with_agreement()
        issued.groups[DG15] = emrtd_files.dg15(explicit_spki(curve_key().public_key()))
        proof = run(Reader.of(issued.with_keys(active=curve_key()).chip()))
        assert isinstance(proof.evidence, Confirmed)
        assert DG15 not in shown(proof).groups

    def test_of_two_keys_on_the_curve_the_one_that_was_used(self) -> None:
        issued = with_mapping()
        both = [emrtd_files.chip_key_info(public(BRAINPOOL, number)) for number in (0, 1)]
        issued.card_security = signer().signed(SECURITY_INFOS, emrtd_files.security_infos(both))
        issued.groups[DG14] = emrtd_files.dg14(both)
        proof = run(Reader.of(issued.chip()))
        assert proved(proof)
        assert shown(proof).chip_key == public(BRAINPOOL, 1).spki

    def test_a_key_whose_curve_is_written_out_is_known_by_the_curves_name(self) -> None:
        issued = with_signature(curve_key(), PLAIN_SHA256)
        issued.groups[DG15] = emrtd_files.dg15(explicit_spki(curve_key().public_key()))
        proof = run(Reader.of(issued.chip()))
        assert proved(proof)
        verdict = judged(proof)
        assert isinstance(verdict, Genuine)
        assert verdict.chip_key == issued.chip_key


class TestLowerRung:
    """What proves nothing that we could hold against a key stays where PACE is."""

    @pytest.mark.parametrize(
        "issued",
        [
            with_signature(curve_key()),
            with_signature(curve_key(), PLAIN_SHA384),
            with_signature(rsa_key(1024)),
            with_signature(ec.generate_private_key(ec.BrainpoolP256R1()), PLAIN_SHA256),
        ],
        ids=["no algorithm said", "another digest", "a short key", "a curve without an algorithm"],
    )
    def test_active_authentication_that_cannot_be_verified(self, issued: Issued) -> None:
        proof = run(Reader.of(issued.chip()))
        assert (proof.assurance, shown(proof).chip_key) == (Assurance.SHARED_SECRET, None)
        assert isinstance(judged(proof), Genuine)

    def test_mapping_that_somebody_took_out_of_ef_cardaccess(self) -> None:
        issued = with_mapping()
        general = pace.encode_card_access(issued.infos[:1])
        proof = run(answering({"00B0": general.hex() + "9000"}, issued))
        assert (proof.assurance, shown(proof).chip_key) == (Assurance.SHARED_SECRET, None)

    def test_mapping_with_a_key_that_is_in_card_security_alone(self) -> None:
        for groups in (
            [],
            [emrtd_files.chip_key_info(public(BRAINPOOL, 0))],
            [emrtd_files.chip_key_info(public(P256))],
        ):
            issued = with_mapping()
            issued.groups[DG14] = emrtd_files.dg14(groups)
            proof = run(Reader.of(issued.chip()))
            assert (proof.assurance, shown(proof).chip_key) == (Assurance.SHARED_SECRET, None)
            assert rung(proof) is Assurance.SHARED_SECRET
        issued = with_mapping()
        del issued.groups[DG14]
        assert rung(run(Reader.of(issued.chip()))) is Assurance.SHARED_SECRET

    def test_the_same_with_another_way_to_prove_the_chip(self) -> None:
        issued, other = with_mapping(), with_agreement()
        issued.groups[DG14] = other.groups[DG14]
        proof = run(Reader.of(issued.with_keys(agreement=other.keys.agreement).chip()))
        assert (rung(proof), shown(proof).chip_key) == (Assurance.CHIP, other.chip_key)

    def test_triple_des(self) -> None:
        issued = bare()
        des = CA_AES_128[:-1] + b"\x01"
        issued.groups[DG14] = emrtd_files.dg14(
            [emrtd_files.chip_authentication_info(des), emrtd_files.chip_key_info(public(P256))]
        )
        assert run(Reader.of(issued.chip())).assurance is Assurance.SHARED_SECRET


class TestClones:
    """All files of a genuine document, and not its key."""

    def test_chip_authentication(self) -> None:
        issued = with_agreement()
        copy = issued.with_keys(agreement=AgreementKey(CA_AES_128, BRAINPOOL, private(BRAINPOOL, 5)))
        proof = run(Reader.of(copy.chip()))
        assert isinstance(judged(proof), Genuine)
        assert not proved(proof)

    def test_mapping(self) -> None:
        proof = run(Reader.of(with_mapping().with_keys(mapping=private(BRAINPOOL, 5)).chip()))
        assert isinstance(judged(proof), Genuine)
        assert not proved(proof)

    @pytest.mark.parametrize("kind", ["active authentication on a curve", "active authentication with RSA"])
    def test_active_authentication(self, kind: str) -> None:
        issued = MAKERS[kind]()
        rsa_copy = kind.endswith("RSA")
        other = rsa_key(3072) if rsa_copy else ec.generate_private_key(ec.SECP256R1())
        proof = run(Reader.of(issued.with_keys(active=other).chip()))
        assert isinstance(judged(proof), Genuine)
        assert not proved(proof)

    def test_no_key_at_all(self) -> None:
        with pytest.raises(CardRefused, match="6A88 to MSE:Set AT"):
            run(Reader.of(replace(with_agreement(), keys=Keys()).chip()))
        with pytest.raises(CardRefused, match="6D00 to INTERNAL AUTHENTICATE"):
            run(Reader.of(replace(with_signature(rsa_key()), keys=Keys()).chip()))
        with pytest.raises(CardMalformed, match="without its data"):
            run(Reader.of(replace(with_mapping(), keys=Keys()).chip()))

    @pytest.mark.parametrize(
        "answer", ["9000", "6988", "6982", "990290008E0800000000000000009000", "8E0800000000000000009000", "8E07000000"]
    )
    def test_whatever_a_chip_without_the_key_answers(self, answer: str) -> None:
        reader = Reader.of(with_agreement().chip())
        run(reader)
        last = len(reader.log) - 1
        other = Reader.of(with_agreement().chip())
        process = other.process
        other.process = lambda command: bytes.fromhex(answer) if len(other.log) == last else process(command)
        proof = run(other)
        assert isinstance(proof.evidence, Confirmed)
        assert not proved(proof)

    def test_a_recorded_run_is_not_believed(self) -> None:
        """Every answer of yesterday, to today's other random numbers."""
        reader = Reader.of(with_agreement().chip())
        run(reader)
        answers = iter([answer for _, answer in reader.log])
        replay = Reader(lambda _command: next(answers))
        fresh = replace(attempt(), random=lambda count: bytes(3 * index % 251 + 1 for index in range(count)))
        with pytest.raises((WrongCan, CardMalformed)):
            run(replay, fresh)


class TestForgeries:
    """The evidence holds, and the files do not."""

    def test_another_name(self) -> None:
        issued = with_agreement()
        genuine_sod = issued.sod
        changed = Issued(issued.infos, tampered(issued.groups, DG1), issued.keys, security_object=genuine_sod)
        changed.groups[DG1] = lds.encode_dg1(emrtd_files.Holder(surname="OTHER").card())
        proof = run(Reader.of(changed.chip()))
        assert proved(proof)
        assert judged(proof) is Reason.DATA_TAMPERED

    def test_another_chips_key_put_into_the_files(self) -> None:
        issued = with_agreement()
        forged = with_agreement(parameters=P384)
        forged.security_object = issued.sod
        proof = run(Reader.of(forged.chip()))
        assert proved(proof)
        assert judged(proof) is Reason.DATA_TAMPERED

    def test_a_security_object_by_a_stranger(self) -> None:
        issued = with_agreement()
        issued.security_object = Country.founded("YY").signer().security_object(issued.groups)
        proof = run(Reader.of(issued.chip()))
        assert proved(proof)
        assert judged(proof) is Reason.UNTRUSTED_ISSUER

    def test_card_security_by_a_stranger(self) -> None:
        issued = with_mapping()
        key = emrtd_files.chip_key_info(public(BRAINPOOL, 1))
        content = emrtd_files.security_infos([key])
        issued.card_security = Country.founded("YY").signer().signed(SECURITY_INFOS, content)
        proof = run(Reader.of(issued.chip()))
        assert proved(proof)
        assert judged(proof) is Reason.UNTRUSTED_ISSUER


class TestBorrowed:
    """Files of a victim's document, as its country signed them, on a chip with a key of somebody else's."""

    @staticmethod
    def victim(honest: Country) -> Issued:
        made = with_mapping()
        made.groups = {DG1: lds.encode_dg1(emrtd_files.Holder(state="EST", surname="VICTIM").card())}
        made.security_object = honest.signer().security_object(made.groups)
        return made

    @staticmethod
    def security(by: Country) -> bytes:
        """EF.CardSecurity with the key of the chip that is here."""
        content = emrtd_files.security_infos([emrtd_files.chip_key_info(public(BRAINPOOL, 1))])
        return by.signer().signed(SECURITY_INFOS, content)

    def test_card_security_of_another_document_of_the_country(self) -> None:
        honest = Country.founded("EE")
        made = replace(self.victim(honest), card_security=self.security(honest))
        proof = run(Reader.of(made.chip()))
        assert (proof.assurance, shown(proof).chip_key) == (Assurance.SHARED_SECRET, None)
        assert rung(proof, honest) is Assurance.SHARED_SECRET

    def test_card_security_of_another_country(self) -> None:
        honest, rogue = Country.founded("EE"), Country.founded("XX")
        made = replace(self.victim(honest), card_security=self.security(rogue))
        proof = run(Reader.of(made.chip()))
        assert proof.assurance is Assurance.SHARED_SECRET
        assert rung(proof, honest, rogue) is Reason.UNTRUSTED_ISSUER

    def test_its_key_put_into_data_group_14_as_well(self) -> None:
        honest = Country.founded("EE")
        made = replace(self.victim(honest), card_security=self.security(honest))
        made.groups[DG14] = emrtd_files.dg14([emrtd_files.chip_key_info(public(BRAINPOOL, 1))])
        proof = run(Reader.of(made.chip()))
        assert proved(proof)
        assert rung(proof, honest) is Reason.DATA_TAMPERED

    def test_a_whole_document_that_another_country_made_up(self) -> None:
        honest, rogue = Country.founded("EE"), Country.founded("XX")
        for make in MAKERS.values():
            made = make()
            made.groups[DG1] = lds.encode_dg1(emrtd_files.Holder(state="EST", surname="VICTIM").card())
            if made.card_security is not None:
                made.card_security = self.security(rogue)
            made.mrz = None
            for code in ("XX", "EE"):
                made.security_object = rogue.signer(country=code).security_object(made.groups)
                proof = run(Reader.of(made.chip()))
                assert proved(proof)
                assert rung(proof, honest, rogue) is Reason.UNTRUSTED_ISSUER


class TestEvidence:
    """Of what kind it is decides what it is worth, whatever the proof says of itself."""

    @EACH
    def test_paces_tokens_prove_the_number_whatever_key_is_in_the_files(self, kind: str) -> None:
        proof = run(Reader.of(MAKERS[kind]().chip()))
        claiming = replace(proof, assurance=Assurance.CHIP, evidence=Mutual(b"8 octets", b"8 octets"))
        assert rung(claiming) is Assurance.SHARED_SECRET

    def test_a_confirmation_without_a_key_is_none(self) -> None:
        proof = run(Reader.of(bare().chip()))
        claiming = replace(proof, assurance=Assurance.CHIP, evidence=Confirmed(b"8 octets", b"8 octets"))
        assert rung(claiming) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize(
        ("expected", "received"), [(b"", b""), (b"8 octets", b""), (b"", b"8 octets"), (b"8 octets", b"8 Octets")]
    )
    def test_a_confirmation_that_does_not_hold(self, expected: bytes, received: bytes) -> None:
        proof = run(Reader.of(with_agreement().chip()))
        assert rung(replace(proof, evidence=Confirmed(expected, received))) is Reason.WRONG_SIGNATURE

    def test_a_confirmation_of_another_kind_of_card(self) -> None:
        token = CardProof("ntag424", Assurance.CHIP, CardToken("ntag424", b"uid", b"token"), Confirmed(b"1", b"1"))
        assert rung(token) is Reason.WRONG_SIGNATURE


class TestSecrets:
    def test_none_was_given(self) -> None:
        reader = Reader.of(bare().chip())
        with pytest.raises(CanNeeded):
            run(reader, attempt(secrets(None)))
        assert [command.hex().upper() for command, _ in reader.log] == [
            "00A4020C02011C",
            "00B0000000",
            "00A4040C07A0000002471001",
        ]

    @EACH
    def test_a_wrong_number_is_tried_once(self, kind: str) -> None:
        reader = Reader.of(MAKERS[kind]().chip())
        with pytest.raises(WrongCan) as caught:
            run(reader, attempt(secrets(b"123457")))
        assert caught.value.reason is Reason.WRONG_CAN
        assert sum(command.startswith(bytes.fromhex("0022C1A4")) for command, _ in reader.log) == 1

    def test_the_number_is_preferred_to_the_zone(self) -> None:
        reader = Reader.of(bare().chip())
        run(reader, attempt(secrets(b"123456", b"nonsense")))
        assert any(bytes.fromhex("830102") in command for command, _ in reader.log)

    @EACH
    def test_no_error_repeats_a_secret_or_the_zone(self, kind: str) -> None:
        for given_secret in (secrets(b"918273"), secrets(None, b"MRZSECRET")):
            with pytest.raises(ProfileError) as caught:
                run(Reader.of(MAKERS[kind]().chip()), attempt(given_secret))
            assert not any(word in str(caught.value) for word in ("918273", "MRZSECRET"))


def answering(script: dict[str, str], issued: Issued | None = None) -> Reader:
    """A document that answers some plain commands otherwise, by how they begin."""
    reader = Reader.of((issued or bare()).chip())
    process = reader.process

    def answer(command: bytes) -> bytes:
        for begin, instead in script.items():
            if command.startswith(bytes.fromhex(begin)):
                return bytes.fromhex(instead)
        return process(command)

    reader.process = answer
    return reader


class TestFamily:
    @pytest.mark.parametrize("sw", ["6A82", "6D00", "6982"])
    def test_a_card_without_ef_cardaccess_is_another_familys(self, sw: str) -> None:
        with pytest.raises(WrongFamily):
            run(answering({"00A4": sw}))

    @pytest.mark.parametrize("sw", ["6A82", "6A86", "6D00"])
    def test_a_card_with_pace_and_no_application_is_anothers(self, sw: str) -> None:
        with pytest.raises(WrongFamily):
            run(answering({"00A40400": sw, "00A4040C": sw}), attempt(secrets(None)))

    def test_the_same_behind_pace_and_the_session_is_ended(self) -> None:
        issued = bare()
        chip = issued.chip()
        original = chip._enter

        def nothing(name: bytes) -> None:
            original(name[:-1])

        chip._enter = nothing  # type: ignore[method-assign]
        reader = Reader.of(chip)
        with pytest.raises(WrongFamily):
            run(reader)
        assert reader.log[-1] == (bytes.fromhex("00A4000C023F00"), bytes.fromhex("9000"))

    def test_from_wherever_another_family_left_the_card(self) -> None:
        chip = bare().chip()
        run(Reader.of(chip))  # leaves it in its application, in a session
        reader = Reader.of(chip)
        assert run(reader).assurance is Assurance.SHARED_SECRET
        assert reader.log[1][0] == bytes.fromhex("00A4000C023F00")

    def test_a_suite_that_is_not_spoken(self) -> None:
        issued = bare()
        issued.infos = [PaceInfo.of(Mapping.GM, 16, 13)]
        integrated = "31143012060A04007F00070202040402020102020 10D".replace(" ", "")
        with pytest.raises(KeyUnsupported):
            run(answering({"00B0": integrated + "9000"}, issued))


def without(issued: Issued, *numbers: int) -> Issued:
    return replace(
        issued, groups={n: c for n, c in issued.groups.items() if n not in numbers}, security_object=issued.sod
    )


class TestFiles:
    def test_one_that_has_to_be_there(self) -> None:
        with pytest.raises(CardRefused, match=r"6A82 to SELECT EF\.DG1"):
            run(Reader.of(without(bare(), DG1).chip()))

    @pytest.mark.parametrize("content", [b"", b"\x61", b"\x61\x5b\x5f", b"\x61\x83\xff\xff\xff", b"\x61\x82\x20\x00"])
    def test_one_that_ends_early_or_says_too_much(self, content: bytes) -> None:
        issued = bare()
        sod = issued.sod
        issued.groups[DG1] = content
        with pytest.raises(ProfileError):
            run(Reader.of(replace(issued, security_object=sod).chip()))

    @pytest.mark.parametrize(
        ("number", "content"),
        [
            (DG14, tlv("6E", b"")),
            (DG14, tlv("6E", tlv("31", tlv("30", b"")))),
            (DG15, tlv("6F", b"")),
            (DG15, tlv("6F", tlv("30", b""))),
            (DG15, tlv("6F", public(P256).spki[:-1] + b"\0")),
        ],
        ids=range(5),
    )
    def test_one_that_cannot_be_read(self, number: int, content: bytes) -> None:
        issued = bare()
        issued.groups[number] = content
        with pytest.raises(CardMalformed):
            run(Reader.of(issued.chip()))

    def test_a_chips_key_off_its_curve(self) -> None:
        issued = with_agreement()
        content = bytearray(issued.groups[DG14])
        position = content.index(public(BRAINPOOL).point) + 40
        content[position] ^= 1
        issued.groups[DG14] = bytes(content)
        with pytest.raises(CardMalformed, match="not on brainpoolP256r1"):
            run(Reader.of(issued.chip()))

    @pytest.mark.parametrize(
        "card_security",
        [b"\x30\x00", signer().signed(SECURITY_INFOS, b"\x31\x00"), signer().signed(SECURITY_INFOS, b"\x30\x00"), None],
        ids=["nothing", "no key", "no set", "no file"],
    )
    def test_card_security_without_a_key_for_the_mapping(self, card_security: bytes | None) -> None:
        with pytest.raises((CardMalformed, CardRefused)):
            run(Reader.of(replace(with_mapping(), card_security=card_security).chip()))

    def test_card_security_with_sha_1_is_unsupported(self) -> None:
        weak = replace(signer(), digest="sha1").signed(SECURITY_INFOS, b"\x31\x00")
        with pytest.raises(KeyUnsupported):
            run(Reader.of(replace(with_mapping(), card_security=weak).chip()))


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=260),
    st.tuples(st.binary(max_size=64), st.sampled_from(["9000", "6110", "6100", "6C10", "6A82", "6282"])).map(
        lambda parts: parts[0] + bytes.fromhex(parts[1])
    ),
    st.sampled_from([bytes.fromhex("31143012060A04007F0007020204020202010202010D9000"), b"\x90\x00"]),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER)
    def test_any_answers_end_in_a_profile_error_within_bounds(self, answers: list[bytes], last: bytes) -> None:
        script = iter(answers)
        traffic = dialogue.Traffic()
        with pytest.raises(ProfileError):
            dialogue.drive(profile(), lambda _command: next(script, last), traffic)
        assert traffic.apdus <= dialogue.MAX_APDUS

    @settings(max_examples=600 if SOAK else 30)
    @given(
        kind=st.sampled_from(sorted(MAKERS)),
        spoilt=st.integers(0, 24),
        position=st.integers(0, 300),
        flip=st.integers(1, 255),
    )
    def test_one_spoilt_answer_never_proves_more(self, kind: str, spoilt: int, position: int, flip: int) -> None:
        reader = Reader.of(ISSUED[kind].chip())
        process = reader.process

        def answer(command: bytes) -> bytes:
            got = bytearray(process(command))
            if len(reader.log) == spoilt:
                got[position % len(got)] ^= flip
            return bytes(got)

        reader.process = answer
        try:
            proof = run(reader)
        except ProfileError:
            return
        assert proof.assurance <= (Assurance.SHARED_SECRET if kind == "PACE alone" else Assurance.CHIP)
        # EF.CardAccess is signed by nobody: whoever takes a suite out of it makes the document claim less, never more.
        assert not proved(proof) or judged(proof) == VERDICTS[kind] or proof.assurance is Assurance.SHARED_SECRET

    @settings(max_examples=600 if SOAK else 30)
    @given(
        kind=st.sampled_from(sorted(MAKERS)),
        number=st.sampled_from([DG1, DG14, DG15, 0]),
        content=st.binary(max_size=300),
    )
    def test_any_file_is_read_or_refused_and_never_genuine(self, kind: str, number: int, content: bytes) -> None:
        issued = ISSUED[kind]
        changed = replace(issued, groups=dict(issued.groups), security_object=issued.sod)
        if number:
            changed.groups[number] = content
        else:
            changed.security_object = content
        try:
            proof = run(Reader.of(changed.chip()))
        except ProfileError:
            return
        verdict = judged(proof)
        assert isinstance(verdict, Reason) or number not in shown(proof).groups


def profile() -> dialogue.Profile:
    """The profile, as the choice of a family hands it on."""
    return choice.authenticate([choice.Family(emrtd.NAME, emrtd.AID, emrtd.authenticate)], TARGET, attempt())


ISSUED = {kind: make() for kind, make in MAKERS.items()}
for _issued in ISSUED.values():
    _issued.security_object = _issued.sod
VERDICTS = {kind: judged(run(Reader.of(issued.chip()))) for kind, issued in ISSUED.items()}

"""The DNIe profile against virtual cards: octets and counts of each mode, what is proved, and how one is recognised."""

from dataclasses import replace
from typing import Any

import pytest

from hardware.apdu import ResponseApdu
from hardware.pace import Mapping, PaceInfo
from hardware.virtual.dnie import DnieChip
from tests.dnie_cards import (
    CAN,
    MRZ,
    NEW,
    OLD,
    component,
    contents,
    entry,
    in_slot,
    on_air,
)
from tests.validator.attempting import GATE, WALL_MS
from tests.validator.dnie_taps import AIR, SLOT, Tapped, chip_of, dialogue, judged, wanting
from validator.dialogue import Traffic, drive
from validator.dnie_component import Component
from validator.model import Assurance, Scheme
from validator.profiles import dnie
from validator.profiles.attempt import challenge_message
from validator.profiles.errors import (
    CanNeeded,
    CardMalformed,
    PinNeeded,
    WrongFamily,
)
from validator.proof import IdCertificate, Mutual, Unproved

BOTH = pytest.mark.parametrize("terminal", [OLD, NEW], ids=lambda terminal: terminal.unit)
SELECT_MASTER = bytes.fromhex("00A404000B4D61737465722E46696C6500")


class TestChipProof:
    @BOTH
    def test_through_contacts(self, terminal: Any) -> None:
        card = Tapped(in_slot(contents(component=component(terminal))))
        proof = card.tap(**SLOT)
        assert isinstance(judged(proof), Component)
        shown, evidence = chip_of(proof)
        announced: list[object] = [*card.seen]
        assert (proof.profile, proof.cache_key, announced) == ("dnie", None, [shown])
        assert (shown.certificate, shown.issuer) == (component(terminal).certificate, component(terminal).issuer)
        assert evidence.serial == terminal.serial
        assert evidence.challenge.startswith(challenge_message(GATE, WALL_MS, b"")[:-2])

    @pytest.mark.parametrize("secrets", [{"can": bytearray(CAN)}, {"mrz": bytearray(MRZ)}], ids=["CAN", "MRZ"])
    def test_over_the_air(self, secrets: dict[str, Any]) -> None:
        card = Tapped(on_air())
        assert isinstance(judged(card.tap(contactless=True, **secrets)), Component)

    def test_the_commands_of_the_reference(self) -> None:
        card = Tapped(in_slot())
        card.tap(**SLOT)
        log = [command.hex().upper() for command in card.log]
        reads = [command for command in log if command.startswith("00B0")]
        others = [command for command in log if not command.startswith("00B0")]
        assert others[:-1] == [
            "00A404000B4D61737465722E46696C6500",
            "00A4000002602000",
            "00A4000002601F00",
            "002281B6048302020F",
            f"002A00AED2{NEW.authority_certificate.hex().upper()}",
            "002281B60A83086573534449620018",
            f"002A00AED1{NEW.certificate.hex().upper()}",
            "0022C1A412830C00000000D002E000000000028402021F",
        ]
        assert others[-1].startswith("0088000010")
        assert others[-1].endswith("D002E0000000000280")
        assert {len(command) for command in reads} == {10}

    def test_the_mse_of_pace_over_the_air(self) -> None:
        card = Tapped(on_air())
        card.tap(**AIR)
        template = bytes.fromhex("0022C1A412800A04007F0007020204020283010284010D")
        assert template in card.log

    def test_a_pin_is_never_sent(self) -> None:
        pin = bytearray(b"Secreto1")
        card = Tapped(in_slot())
        assert card.tap(pin=pin, **SLOT).assurance is Assurance.CHIP
        assert all(command[1] != 0x20 and pin not in command for command in card.log)

    def test_nothing_of_the_holder_is_read(self) -> None:
        card = Tapped(in_slot())
        card.tap(**SLOT)
        assert not [command for command in card.log if command[5:7] in (b"\x50\x15", b"\x60\x04", b"\x60\x81")]

    def test_how_much_it_takes(self) -> None:
        """Besides the pieces of the certificates: 9 exchanges through contacts, 17 over the air."""
        slot, air = Tapped(in_slot()), Tapped(on_air())
        slot.tap(**SLOT)
        air.tap(**AIR)
        sizes = [len(component().issuer), len(component().certificate)]
        pieces = sum(-(-size // dnie.PIECE_BYTES) for size in sizes)
        assert (slot.traffic.apdus, air.traffic.apdus) == (9 + pieces, 17 + pieces)
        assert slot.traffic.bytes_in > sum(sizes)

    def test_two_taps_share_no_answer(self) -> None:
        first, second = (chip_of(Tapped(in_slot()).tap(**SLOT))[1] for _ in range(2))
        assert first.challenge != second.challenge
        assert first.signature != second.signature


class TestClaim:
    def test_through_contacts_a_card_without_a_component(self) -> None:
        card = Tapped(in_slot(contents(component=None)))
        proof = card.tap(**SLOT)
        assert (proof.assurance, proof.shown, proof.evidence) == (
            Assurance.CLAIMED,
            IdCertificate(Scheme.SPAIN, entry().certificate),
            Unproved(),
        )
        assert card.seen == [proof.shown]

    def test_over_the_air(self) -> None:
        proof = Tapped(on_air(contents(component=None))).tap(**AIR)
        assert (proof.assurance, proof.shown) == (
            Assurance.SHARED_SECRET,
            IdCertificate(Scheme.SPAIN, entry().certificate),
        )
        assert isinstance(proof.evidence, Mutual)
        assert proof.evidence.expected == proof.evidence.received
        assert len(proof.evidence.expected) == 8

    @pytest.mark.parametrize("ins", [0x22, 0x2A, 0x88])
    @pytest.mark.parametrize("sw", ["6982", "6985", "6A88", "6D00", "6300"])
    def test_a_card_that_refuses_to_prove_itself_claims_no_more(self, ins: int, sw: str) -> None:
        def refuse(command: bytes, answer: bytes) -> bytes:
            return bytes.fromhex(sw) if command[1] == ins else answer

        card = Tapped(in_slot())
        if sw == "6982":  # it may be lying on a field that the reader does not tell of
            with pytest.raises(CanNeeded):
                card.tap(refuse, **SLOT)
        else:
            assert card.tap(refuse, **SLOT).assurance is Assurance.CLAIMED

    def test_a_root_that_we_have_no_keys_for(self) -> None:
        card = Tapped(in_slot())

        def carry(command: bytes) -> bytes:
            return card.chip.process(command).response or b""

        assert drive(dialogue(wanting(**SLOT), (OLD,)), carry, Traffic()).assurance is Assurance.CLAIMED

    @pytest.mark.parametrize("packed", [True, False])
    def test_a_certificate_packed_or_bare(self, *, packed: bool) -> None:
        card = contents(component=None, entries=(replace(entry(), packed=packed),))
        assert Tapped(in_slot(card)).tap(**SLOT).shown == IdCertificate(Scheme.SPAIN, entry().certificate)

    def test_a_certificate_for_its_holder_alone(self) -> None:
        card = contents(component=None, entries=(replace(entry(), protected=True),))
        with pytest.raises(PinNeeded):
            Tapped(on_air(card)).tap(**AIR)
        with pytest.raises(PinNeeded):
            Tapped(DnieChip(card, card_access=False)).tap(**SLOT)


class TestRecognised:
    @pytest.mark.parametrize("named", [0x9000, 0x6982, 0x6985, 0x6999, 0x6A82, 0x6D00])
    def test_whatever_the_name_gets_before_pace(self, named: int) -> None:
        card = Tapped(on_air(named_over_the_air=named))
        assert isinstance(judged(card.tap(**AIR)), Component)

    def test_a_reader_that_does_not_tell(self) -> None:
        """Asked in clear, refused, and asked again behind PACE."""
        for named in (0x9000, 0x6982):
            card = Tapped(on_air(named_over_the_air=named))
            assert isinstance(judged(card.tap(contactless=False, can=bytearray(CAN))), Component)

    @pytest.mark.parametrize("named", [0x9000, 0x6982, 0x6A82])
    @pytest.mark.parametrize("contactless", [True, False])
    def test_nobody_told_a_number(self, named: int, *, contactless: bool) -> None:
        card = Tapped(on_air(named_over_the_air=named))
        with pytest.raises(CanNeeded):
            card.tap(contactless=contactless)
        assert not [command for command in card.log if command[1] == 0x86]

    def test_a_card_without_ef_card_access(self) -> None:
        """Readers in the field do not ask for it."""
        assert isinstance(judged(Tapped(on_air(card_access=False)).tap(**AIR)), Component)
        with pytest.raises(WrongFamily):
            Tapped(on_air(card_access=False, named_over_the_air=0x6A82)).tap(**AIR)

    def test_a_card_of_another_family(self) -> None:
        card = Tapped(in_slot())
        with pytest.raises(WrongFamily):
            card.tap(lambda _command, _answer: b"\x6a\x82", **SLOT)
        assert [command.hex().upper() for command in card.log] == [SELECT_MASTER.hex().upper(), "00A4020C02011C"]

    def test_a_travel_document_with_another_suite(self) -> None:
        other = (PaceInfo.of(Mapping.GM, 32, 12),)
        card = Tapped(on_air(infos=other, named_over_the_air=0x6A82))
        with pytest.raises(WrongFamily):
            card.tap(**AIR)
        assert not [command for command in card.log if command[1] == 0x86]

    def test_a_travel_document_with_the_same_suite(self) -> None:
        """It opened PACE for us, and has no master file by that name: the next family has it."""

        class Passport(DnieChip):
            def _select_master(self, name: bytes) -> bytes:
                return super()._select_master(b"another" + name)

        with pytest.raises(WrongFamily):
            Tapped(Passport(contents(), can=CAN, contactless=True)).tap(**AIR)

    def test_ef_card_access_that_cannot_be_read(self) -> None:
        def change(command: bytes, answer: bytes) -> bytes:
            return b"\x31\x02\x30\x07\x90\x00" if command[1] == 0xB0 else answer

        with pytest.raises(CardMalformed):
            Tapped(on_air()).tap(change, **AIR)
        with pytest.raises(WrongFamily):
            Tapped(on_air(named_over_the_air=0x6A82)).tap(change, **AIR)

    def test_nothing_was_selected(self) -> None:
        with pytest.raises(WrongFamily):
            next(dnie.authenticate(wanting(), ResponseApdu(b"", 0x6A82)))

"""The virtual MyNumber card: what is free, what a secret opens, status words as measured, and the tripwire."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from hardware.medium import Technology
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, Field
from hardware.virtual.mynumber import CONTACT_ATR, MynumberChip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import MODELS, ChipTiming, KeyType
from tests.conversing import transceive
from tests.validator.mynumber_cards import CARD, IDENTIFICATION, NUMBER, SURFACE, chip, personalised

JPKI, SURFACE_AP, TEXT = "D392F000260100000001", "D3921000310001010402", "D3921000310001010408"
MANAGER = "A0000001510000"
DIGEST_INFO = bytes.fromhex("3031300D060960864801650304020105000420")


@pytest.fixture
def card() -> MynumberChip:
    return chip()


def ask(card: MynumberChip, *commands: str) -> str:
    """The last answer, in hexadecimal."""
    answer = b""
    for command in commands:
        response = card.process(bytes.fromhex(command)).response
        assert response is not None
        answer = response
    return answer.hex().upper()


def name(aid: str) -> str:
    return f"00A4040C{len(aid) // 2:02X}{aid}"


def verify(secret: str) -> str:
    return f"00200080{len(secret):02X}{secret.encode().hex()}"


class TestSelection:
    @pytest.mark.parametrize("aid", [JPKI, SURFACE_AP, TEXT, MANAGER])
    def test_by_the_whole_name(self, card: MynumberChip, aid: str) -> None:
        assert ask(card, name(aid)) == "9000"

    @pytest.mark.parametrize("aid", ["A000000308", "D392F000260100000002", "D39210003100010104020000", ""])
    def test_a_name_that_is_not_there_changes_nothing(self, card: MynumberChip, aid: str) -> None:
        assert ask(card, name(JPKI), name(aid)) == "6A82"
        assert ask(card, "00A4020C02000A") == "9000"

    def test_the_beginning_of_a_name_selects_the_first(self, card: MynumberChip) -> None:
        assert ask(card, name("D39210"), "00A4020C02001A") == "9000"

    def test_the_master_file_is_not_reached_from_an_application(self, card: MynumberChip) -> None:
        assert ask(card, "00A40000") == "6A86"
        assert ask(card, name(JPKI), "00A40000") == "9000"
        assert ask(card, "00A4020C02000A") == "9000"
        assert ask(card, "00A40000023F00") == "6A82"

    @pytest.mark.parametrize(
        ("commands", "status"),
        [
            (["00A4020C02000A"], "6A82"),
            ([name(JPKI), "00A4020C020099"], "6A82"),
            ([name(JPKI), "00A4020C0100"], "6700"),
            ([name(JPKI), "00A4020402000A"], "6A86"),
            ([name(JPKI), "00A4010C02000A"], "6A86"),
            ([name(JPKI), "00B0000000"], "6986"),
            ([name(JPKI), "00A4020C020017", "00B0000000"], "6981"),
            ([name(JPKI), "00A4020C02000A", "00B00000"], "6700"),
            ([name(JPKI), "00A4020C02000A", "00B07F0000"], "6B00"),
            ([name(JPKI), "00A4020C02000A", "00200080"], "6981"),
            ([name(JPKI), "002000800431"], "6700"),
            ([name(JPKI), "00200080"], "6986"),
            ([name(JPKI), "00200000"], "6A86"),
            ([name(JPKI), "00200180"], "6A86"),
            ([name(JPKI), "00D6000001FF"], "6D00"),
            (["0CA4040C00"], "6E00"),
            (["00"], "6700"),
        ],
    )
    def test_status_words(self, card: MynumberChip, commands: list[str], status: str) -> None:
        assert ask(card, *commands) == status


class TestObjects:
    @pytest.mark.parametrize(
        ("tag", "value"),
        [("0045", IDENTIFICATION), ("00F0", b"13221"), ("00F2", b"20350217"), ("5F51", CONTACT_ATR[1:])],
    )
    def test_the_manager_tells_them(self, card: MynumberChip, tag: str, value: bytes) -> None:
        told = value.hex().upper() + "9000"
        assert ask(card, f"00CA{tag}00") == told
        assert ask(card, name(JPKI), f"00CA{tag}00") == (told if tag == "5F51" else "6A88")
        assert ask(card, name(MANAGER), f"00CA{tag}00") == told
        assert ask(card, "00CA00F700") == "6A88"

    def test_after_a_reset_nothing_is_selected(self, card: MynumberChip) -> None:
        ask(card, name(JPKI))
        card.reset()
        assert ask(card, "00CA004500") == IDENTIFICATION.hex().upper() + "9000"

    def test_there_are_no_historical_bytes(self, card: MynumberChip) -> None:
        assert card.historical == b""


class TestJpki:
    @pytest.mark.parametrize(
        ("file", "attribute"), [("0A", "authentication_certificate"), ("0B", "authority_certificate")]
    )
    def test_certificates_are_free(self, card: MynumberChip, file: str, attribute: str) -> None:
        content = getattr(personalised(), attribute)
        read = b"".join(
            bytes.fromhex(ask(card, name(JPKI), f"00A4020C0200{file}", f"00B0{offset:04X}00"))[:-2]
            for offset in range(0, len(content), 256)
        )
        assert read == content

    def test_a_short_identifier_selects_and_reads(self, card: MynumberChip) -> None:
        assert ask(card, name(JPKI), "00B08A0004") == ask(card, name(JPKI), "00A4020C02000A", "00B0000004")

    def test_the_signature_certificate_asks_for_its_password(self, card: MynumberChip) -> None:
        assert ask(card, name(JPKI), "00A4020C020001", "00B0000000") == "6982"
        assert ask(card, name(JPKI), "00A4020C020018", verify("1234"), "00A4020C020001", "00B0000000") == "6982"

    def test_the_key_asks_for_the_pin(self, card: MynumberChip) -> None:
        sign = ["00A4020C020017", "802A00800401020304 00"]
        assert ask(card, name(JPKI), *sign) == "6982"
        assert len(ask(card, name(JPKI), "00A4020C020018", verify("1234"), *sign)) == 2 * 258

    @pytest.mark.parametrize("lost_by", [name(SURFACE_AP), name(JPKI), None])
    def test_the_pin_is_lost_with_the_application_or_the_power(self, card: MynumberChip, lost_by: str | None) -> None:
        ask(card, name(JPKI), "00A4020C020018", verify("1234"))
        if lost_by is None:
            card.reset()
        else:
            ask(card, lost_by)
        assert ask(card, name(JPKI), "802A0097010000") == "6982"

    def test_tries_are_told_spent_and_given_back(self, card: MynumberChip) -> None:
        select = [name(JPKI), "00A4020C020018"]
        assert ask(card, *select, "00200080") == "63C3"
        assert ask(card, *select, verify("4321")) == "63C2"
        card.reset()
        assert ask(card, *select, "00200080") == "63C2"
        assert ask(card, *select, verify("1234")) == "9000"
        assert ask(card, "00200080") == "63C3"

    def test_a_spent_pin_stays_blocked(self, card: MynumberChip) -> None:
        select = [name(JPKI), "00A4020C020018"]
        assert ask(card, *select, *[verify("4321")] * 3) == "63C0"
        assert ask(card, *select, verify("1234")) == "6984"
        assert ask(card, *select, "00200080") == "63C0"

    def test_a_wrong_pin_takes_a_right_one_back(self, card: MynumberChip) -> None:
        ask(card, name(JPKI), "00A4020C020018", verify("1234"), verify("4321"))
        assert ask(card, "802A0097010000") == "6982"

    @given(message=st.binary(min_size=1, max_size=200))
    def test_each_scheme_signs_what_it_says(self, message: bytes) -> None:
        card = chip()
        ask(card, name(JPKI), "00A4020C020018", verify("1234"))
        digest = hashlib.sha256(message).digest()
        blocks = {0: message, 1: digest, 2: DIGEST_INFO + digest, 3: DIGEST_INFO + digest}
        for scheme, given_to in {0: message, 1: message, 2: digest, 3: message}.items():
            command = bytes([0x80, 0x2A, scheme, 0x97, len(given_to)]) + given_to + b"\0"
            signature = bytes.fromhex(ask(card, command.hex()))[:-2]
            expected = CARD().sign(blocks[scheme], padding.PKCS1v15(), utils.NoDigestInfo())
            assert signature == expected

    @pytest.mark.parametrize(
        ("command", "status"),
        [
            ("802A009700", "6700"),
            ("802A0097F6" + "00" * 246 + "00", "6700"),
            ("802A02971F" + "00" * 31 + "00", "6700"),
            ("802A0497010000", "6A86"),
            ("802A0080010000", "6985"),
            ("802A0017010000", "6A86"),
        ],
    )
    def test_what_is_not_signed(self, card: MynumberChip, command: str, status: str) -> None:
        assert ask(card, name(JPKI), "00A4020C020018", verify("1234"), command) == status


class TestSurface:
    def test_it_signs_without_any_secret(self, card: MynumberChip) -> None:
        info = DIGEST_INFO + hashlib.sha256(b"challenge").digest()
        for key in ("00", "9A"):
            answer = ask(card, name(SURFACE_AP), f"802A00{key}33{info.hex()}00")
            SURFACE().public_key().verify(bytes.fromhex(answer)[:-2], b"challenge", padding.PKCS1v15(), hashes.SHA256())

    @pytest.mark.parametrize("aid", [JPKI, TEXT])
    def test_no_other_application_has_a_key_of_its_own_choice(self, card: MynumberChip, aid: str) -> None:
        assert ask(card, name(aid), "802A0000010000") == "6A86"

    def test_the_birth_date_opens_the_record_and_no_more(self, card: MynumberChip) -> None:
        assert ask(card, name(SURFACE_AP), "00A4020C020001", "00B0000000") == "6982"
        assert ask(card, "00A4020C020011", verify("010108"), "00A4020C020001", "00B0000005") == "FF1082021E9000"
        assert ask(card, "00A4020C020005", "00B0000000") == "6982"

    def test_the_certificate_is_free(self, card: MynumberChip) -> None:
        assert ask(card, name(SURFACE_AP), "00A4020C020004", "00B0000005") == "7F218202339000"


class TestTripwire:
    @pytest.mark.parametrize(
        ("aid", "command"),
        [
            (TEXT, "00A4020C020001"),
            (TEXT, "00B0810000"),
            (TEXT, "00A4020C020003"),
            (TEXT, "00A4020C020014"),
            (TEXT, "0020009400"),
            (SURFACE_AP, "00A4020C020005"),
            (SURFACE_AP, "00B0850000"),
            (SURFACE_AP, "00A4020C020013"),
            (SURFACE_AP, "002000930C" + "30" * 12),
        ],
    )
    def test_whatever_touches_the_number_is_remembered(self, card: MynumberChip, aid: str, command: str) -> None:
        ask(card, name(aid), command)
        assert [octets.hex().upper() for octets in card.tripped] == [command]
        card.reset()
        assert len(card.tripped) == 1

    @pytest.mark.parametrize("aid", ["D3921000310001010408", "D3921000310001010402"])
    def test_the_applications_themselves_do_not_trip_it(self, card: MynumberChip, aid: str) -> None:
        ask(card, name(aid), "00A4020C020011", "00200080")
        assert card.tripped == []

    def test_behind_it_is_the_number(self, card: MynumberChip) -> None:
        """Otherwise a wire would guard nothing."""
        answer = ask(card, name(TEXT), "00A4020C020011", verify("1234"), "00A4020C020001", "00B0000011")
        assert bytes.fromhex(answer) == bytes.fromhex("FF100C") + NUMBER.encode() + bytes.fromhex("FFFF9000")


class TestLaws:
    @given(commands=st.lists(st.binary(max_size=40), max_size=12))
    def test_any_bytes_get_a_status_word(self, commands: list[bytes]) -> None:
        card = chip()
        for command in commands:
            answer = card.process(command)
            assert answer.response is not None
            assert len(answer.response) >= 2

    @given(
        commands=st.lists(
            st.tuples(
                st.sampled_from(["00A4", "00B0", "0020", "00CA", "802A"]), st.integers(0, 0xFFFF), st.binary(max_size=8)
            ),
            max_size=20,
        )
    )
    def test_no_secret_no_signature_and_no_record(self, commands: list[tuple[str, int, bytes]]) -> None:
        """Whatever is sent, the number and the record stay shut while no right secret is shown."""
        card = chip()
        card.process(bytes.fromhex(name(TEXT)))
        for head, parameters, data in commands:
            body = bytes.fromhex(head) + parameters.to_bytes(2) + (bytes([len(data)]) + data if data else b"") + b"\0"
            answer = card.process(body).response
            assert answer is not None
            assert NUMBER.encode() not in answer
            assert personalised().record[:20] not in answer


class TestAir:
    @pytest.mark.parametrize("wtx_every", [None, 2])
    async def test_a_type_b_reader_takes_a_tap(self, field: Field, reader: NfcpyReader, wtx_every: int | None) -> None:
        """Its PUPI is random and its application data are unknown: what hints at it is the technology alone."""
        field.place(AirCard(chip(), Technology.TYPE_B, wtx_every=wtx_every))
        medium = await reader.wait()
        assert (medium.target.technology, medium.target.historical) == (Technology.TYPE_B, bytes(4))
        assert medium.target.uid_is_random
        info = (DIGEST_INFO + hashlib.sha256(b"challenge").digest()).hex()
        number, selected, signed = [
            await transceive(medium, bytes.fromhex(command))
            for command in ("00CA004500", name(SURFACE_AP), f"802A000033{info}00")
        ]
        assert (number, selected) == (IDENTIFICATION + b"\x90\x00", b"\x90\x00")
        SURFACE().public_key().verify(signed[:-2], b"challenge", padding.PKCS1v15(), hashes.SHA256())


class TestPersonalising:
    @pytest.mark.parametrize("field", ["authentication_key", "surface_key"])
    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072)],
        ids=["P-256", "RSA-3072"],
    )
    def test_other_keys_are_none_of_this_card(
        self, field: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    ) -> None:
        changed: dict[str, Any] = {field: key}
        with pytest.raises(CardFileError, match="RSA-2048"):
            chip(**changed)

    @pytest.mark.parametrize("model", [model for model, figures in MODELS.items() if KeyType.RSA_2048 in figures])
    def test_only_the_key_takes_its_time(self, model: str) -> None:
        card = MynumberChip(personalised(), timing=ChipTiming.of(model))
        assert card.process(bytes.fromhex(name(SURFACE_AP))).compute_s == 0
        signed = card.process(bytes.fromhex("802A0000010000"))
        assert signed.compute_s == MODELS[model][KeyType.RSA_2048]

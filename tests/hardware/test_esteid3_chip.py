"""The virtual EstEID card, byte for byte: what a terminal reads, the states of PIN1, and the signature."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hardware.atr import historical_bytes
from hardware.virtual.esteid3 import ATR, EstEid3Chip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType, NoFigure
from tests.issuing import IssuedCard

IssuedOf = Callable[[KeyType], IssuedCard]

PERSON = ("ÕUNAPUU", "MÄRT", "", "M", "EST", "24.12.2199", "79912240001", "AA0000007", *[""] * 8)
ENTER = ("00A4000C", "00A4010C02EEEE")
PIN1 = "002000010434373131"
DIGEST_INFO = "3031300D060960864801650304020105000420"


@pytest.fixture
def chip(issued: IssuedOf) -> EstEid3Chip:
    return card(issued(KeyType.RSA_2048))


def card(issued: IssuedCard, **options: int) -> EstEid3Chip:
    return EstEid3Chip(issued.key, issued.der, PERSON, pin="4711", **options)  # type: ignore[arg-type]


def ask(chip: EstEid3Chip, *commands: str) -> str:
    """Send commands; return the last answer. All before it are good."""
    answer = ""
    for command in commands:
        assert answer in ("", "9000") or answer.endswith("9000") or answer.startswith("61"), answer
        response = chip.process(bytes.fromhex(command)).response
        assert response is not None
        answer = response.hex().upper()
    return answer


class TestFiles:
    def test_the_atr_ends_in_its_check_byte_and_carries_the_historical_bytes(self, chip: EstEid3Chip) -> None:
        check = 0
        for octet in ATR[1:]:
            check ^= octet
        assert check == 0
        assert historical_bytes(ATR) == chip.historical == b"\xfeeID / PKI"

    @pytest.mark.parametrize("select", ["00A40000", "00A4000C", "00A400003F00", "00A40000023F0000"])
    def test_the_master_file_has_no_name_and_one(self, chip: EstEid3Chip, select: str) -> None:
        if select == "00A400003F00":
            assert ask(chip, select) == "6700"  # a length field that lies
        else:
            answer = ask(chip, select)
            assert answer == "9000" or answer.startswith(("61", "6F"))

    def test_a_template_comes_where_it_is_asked_for(self, chip: EstEid3Chip) -> None:
        assert ask(chip, ENTER[0], "00A4010402EEEE00") == "6F0A8201388302EEEE8A01059000"
        assert ask(chip, "00A4020402AACE00") == "620E8201018302AACE850206008A01059000"
        assert ask(chip, "00A4020C02AACE") == "9000"
        assert ask(chip, "00A402040250 4400".replace(" ", ""))[:22] == "6212820504410032108302"

    def test_without_le_the_template_is_announced_as_t0_does(self, chip: EstEid3Chip) -> None:
        assert ask(chip, *ENTER, "00A4020402AACE") == "6110"
        assert ask(chip, "00C0000010") == "620E8201018302AACE850206008A01059000"
        assert ask(chip, "00C0000010") == "6985"

    def test_the_personal_data_file(self, chip: EstEid3Chip) -> None:
        assert ask(chip, *ENTER, "00A4020C025044") == "9000"
        records = [bytes.fromhex(ask(chip, f"00B2{number:02X}0432"))[:-2] for number in range(1, 17)]
        assert [record.decode("cp1252").strip() for record in records] == list(PERSON)
        assert records[2] == b" "
        assert ask(chip, "00B2110400") == ask(chip, "00B2000400") == "6A83"
        assert ask(chip, "00B2010500") == "6A86"
        assert ask(chip, "00B0000000") == "6981"

    def test_the_certificate_and_its_padding(self, chip: EstEid3Chip, issued: IssuedOf) -> None:
        ask(chip, *ENTER, "00A4020C02AACE")
        content = b"".join(bytes.fromhex(ask(chip, f"00B0{at:04X}FA"))[:-2] for at in range(0, 0x600, 0xFA))
        assert content == issued(KeyType.RSA_2048).der.ljust(0x600, b"\0")
        assert ask(chip, "00B005FEFA") == "00006282"
        assert ask(chip, "00B005FE00") == "00009000"
        assert ask(chip, "00B0060000") == "6B00"
        assert ask(chip, "00B2010400") == "6981"
        assert ask(chip, "00B00000") == "6700"

    def test_the_signing_certificate_is_there_if_it_was_given(self, chip: EstEid3Chip, issued: IssuedOf) -> None:
        assert ask(chip, *ENTER, "00A4020C02DDCE") == "6A82"
        mine = issued(KeyType.RSA_2048)
        both = EstEid3Chip(mine.key, mine.der, PERSON, signing_certificate=b"other")
        assert ask(both, *ENTER, "00A4020C02DDCE", "00B0000005") == b"other".hex().upper() + "9000"

    def test_files_are_found_in_their_directory_only(self, chip: EstEid3Chip) -> None:
        assert ask(chip, "00A4020C02AACE") == "6A82"
        assert ask(chip, "00A4020C020016", "00B2010400") == "800103900103830200009000"
        assert ask(chip, "00B2040400") == "6A83"
        assert ask(chip, "00A4010C02EEEE", "00A4020C020016") == "6A82"
        assert ask(chip, "00B0000000") == ask(chip, "00B2010400") == "6986"

    def test_the_application_has_a_name(self, chip: EstEid3Chip) -> None:
        assert ask(chip, "00A4040C0FD23300000045737445494420763335", "00A4010C02EEEE") == "9000"
        assert ask(chip, "00A4040C09A00000030800001000") == "6A82"

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00A4010C02EEEF", "6A82"),
            ("00A4000C02EEEE", "6A82"),
            ("00A4030C02EEEE", "6A86"),
            ("00A4010102EEEE", "6A86"),
            ("00C0000000", "6985"),
            ("00C0000100", "6A86"),
            ("00D60000015A", "6D00"),
            ("80A4000C", "6E00"),
            ("10A4000C", "6E00"),
            ("00A400", "6700"),
            ("", "6700"),
        ],
    )
    def test_refusals(self, chip: EstEid3Chip, command: str, sw: str) -> None:
        assert ask(chip, command) == sw


class TestPin:
    def test_right_wrong_and_blocked(self, chip: EstEid3Chip) -> None:
        wrong = "002000010430303030"
        assert ask(chip, wrong) == "63C2"
        assert ask(chip, "00A4020C020016", "00B2010406") == "8001039001029000"[:12] + "6104"
        assert ask(chip, PIN1) == "9000"
        assert chip.tries_left == 3
        assert [ask(chip, wrong) for _ in range(4)] == ["63C2", "63C1", "63C0", "6983"]
        assert ask(chip, PIN1) == "6983"

    def test_power_does_not_bring_tries_back_but_takes_the_verification(self, chip: EstEid3Chip) -> None:
        assert ask(chip, "002000010430303030") == "63C2"
        chip.reset()
        assert ask(chip, "002000010430303030") == "63C1"
        assert ask(chip, PIN1) == "9000"
        chip.reset()
        assert ask(chip, "008800000130") == "6982"

    def test_a_wrong_pin_takes_back_what_the_right_one_opened(self, chip: EstEid3Chip) -> None:
        assert ask(chip, PIN1) == "9000"
        assert ask(chip, "002000010430303030") == "63C2"
        assert ask(chip, "008800000130") == "6982"

    @pytest.mark.parametrize(
        ("command", "sw"), [("00200001", "6700"), ("002000020434373131", "6A88"), ("002001010434373131", "6A88")]
    )
    def test_refusals(self, chip: EstEid3Chip, command: str, sw: str) -> None:
        assert ask(chip, command) == sw
        assert chip.tries_left == 3


class TestSignature:
    def test_rsa_pads_what_it_is_given(self, chip: EstEid3Chip, issued: IssuedOf) -> None:
        message = b"one ride, please"
        digest = hashlib.sha256(message).hexdigest()
        answer = ask(chip, *ENTER, "0022F30100", PIN1, f"0088000033{DIGEST_INFO}{digest}00")
        assert len(answer) == 2 * 258
        key = issued(KeyType.RSA_2048).certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(bytes.fromhex(answer)[:-2], message, padding.PKCS1v15(), hashes.SHA256())

    def test_the_raw_data_are_anything_that_leaves_room_for_padding(self, chip: EstEid3Chip, issued: IssuedOf) -> None:
        key = issued(KeyType.RSA_2048).certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        for size in (1, 0x24, 0xF5):
            answer = bytes.fromhex(ask(chip, PIN1, f"00880000{size:02X}{'A5' * size}00"))
            numbers = key.public_numbers()
            block = pow(int.from_bytes(answer[:-2]), numbers.e, numbers.n).to_bytes(256)
            assert block == b"\x00\x01" + b"\xff" * (253 - size) + b"\x00" + b"\xa5" * size
        assert ask(chip, f"00880000F6{'A5' * 0xF6}00") == "6700"
        assert ask(chip, "0088000000") == "6700"

    def test_p384_signs_a_digest(self, issued: IssuedOf) -> None:
        renewed = card(issued(KeyType.P_384))
        digest = hashlib.sha384(b"one ride, please").digest()
        answer = bytes.fromhex(ask(renewed, PIN1, f"0088000030{digest.hex()}00"))
        assert (len(answer), answer[-2:]) == (98, b"\x90\x00")
        key = issued(KeyType.P_384).certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        signature = encode_dss_signature(int.from_bytes(answer[:48]), int.from_bytes(answer[48:96]))
        key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA384())))
        assert ask(renewed, f"0088000020{digest[:32].hex()}00") == "6700"

    def test_a_short_le_and_small_pieces(self, chip: EstEid3Chip, issued: IssuedOf) -> None:
        first = ask(chip, PIN1, "00880000013080")
        assert (len(first), first[-4:]) == (2 * 130, "6180")
        assert ask(chip, "00C0000080").endswith("9000")
        slow = card(issued(KeyType.RSA_2048), piece=100)
        assert ask(slow, PIN1, "00880000013000").endswith("6164")
        assert ask(slow, "00C0000064").endswith("6138")
        assert ask(slow, "00C0000038").endswith("9000")

    @pytest.mark.parametrize(
        ("commands", "sw"),
        [
            (["0088000001 3000"], "6982"),
            (["0022F30600", PIN1, "0088000001 3000"], "6985"),
            ([PIN1, "0088010001 3000"], "6A86"),
            (["0022F30200"], "6A86"),
            (["0022410105 8303801100"], "6A86"),
            (["002241B805 8303801200"], "6A88"),
            (["002241B8058303801100"], "9000"),
            (["002241A4028300"], "9000"),
        ],
    )
    def test_its_conditions(self, chip: EstEid3Chip, commands: list[str], sw: str) -> None:
        assert ask(chip, *commands) == sw

    def test_it_takes_the_time_of_its_silicon(self, issued: IssuedOf) -> None:
        mine = issued(KeyType.RSA_2048)
        timing = ChipTiming.of("jcop241-j3a081")
        slow = EstEid3Chip(mine.key, mine.der, PERSON, pin="4711", timing=timing)
        assert slow.process(bytes.fromhex(PIN1)).compute_s == 0
        assert slow.process(bytes.fromhex("00880000013000")).compute_s == timing.seconds(KeyType.RSA_2048)
        with pytest.raises(NoFigure):
            EstEid3Chip(issued(KeyType.P_384).key, mine.der, PERSON, timing=timing)


class TestMaking:
    @pytest.mark.parametrize("kind", [KeyType.P_256, KeyType.RSA_3072])
    def test_other_piv_keys_are_none_of_its(self, issued: IssuedOf, kind: KeyType) -> None:
        with pytest.raises(CardFileError, match="RSA-2048 or P-384"):
            card(issued(kind))

    def test_other_keys_neither(self) -> None:
        with pytest.raises(CardFileError):
            EstEid3Chip(ed25519.Ed25519PrivateKey.generate(), b"", PERSON)

    @pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "１２３４"])  # noqa: RUF001 - wide digits
    def test_a_pin_is_digits(self, issued: IssuedOf, pin: str) -> None:
        with pytest.raises(ValueError, match="4 to 12"):
            EstEid3Chip(issued(KeyType.RSA_2048).key, b"", PERSON, pin=pin)

    @pytest.mark.parametrize(("option", "value"), [("tries", -1), ("tries", 4), ("piece", 0), ("piece", 257)])
    def test_values_out_of_range(self, issued: IssuedOf, option: str, value: int) -> None:
        with pytest.raises(ValueError, match=r"tries|response"):
            card(issued(KeyType.RSA_2048), **{option: value})

    @pytest.mark.parametrize("records", [PERSON[:-1], (*PERSON, ""), ("A" * 51, *PERSON[1:]), ("Ω", *PERSON[1:])])
    def test_sixteen_records_of_fifty_letters(self, issued: IssuedOf, records: tuple[str, ...]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each of its own kind
            EstEid3Chip(issued(KeyType.RSA_2048).key, b"", records)

    def test_a_certificate_has_to_fit(self, issued: IssuedOf) -> None:
        with pytest.raises(CardFileError, match="1537 bytes"):
            EstEid3Chip(issued(KeyType.RSA_2048).key, bytes(0x601), PERSON)


COMMAND = st.one_of(
    st.binary(max_size=300),
    st.tuples(
        st.sampled_from(["0020", "0022", "0088", "00A4", "00B0", "00B2", "00C0", "80A4"]).map(bytes.fromhex),
        st.binary(max_size=40),
    ).map(b"".join),
    st.sampled_from([*ENTER, "00A4020402AACE00", "00A4020C025044", PIN1, "0088000001AA00"]).map(bytes.fromhex),
)


class TestHostileTerminal:
    @given(commands=st.lists(COMMAND, max_size=12))
    def test_any_commands_get_a_status_word_and_nothing_is_signed_without_the_pin(
        self, issued: IssuedOf, commands: list[bytes]
    ) -> None:
        chip = card(issued(KeyType.P_384))
        verified = False
        for command in commands:
            answer = chip.process(command).response
            assert answer is not None
            assert 2 <= len(answer) <= 258
            verified = verified or command == bytes.fromhex(PIN1)
            if command[:2] == bytes.fromhex("0088") and not verified:
                assert len(answer) == 2
        assert 0 <= chip.tries_left <= 3

"""The virtual PIV card, byte for byte: the exchanges of SP 800-73-5 and the refusals around them."""

import gzip
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12

from hardware import tlv
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType, NoFigure
from tests.issuing import IssuedCard, Issuer

IssuedOf = Callable[[KeyType], IssuedCard]

AID = "A000000308000010000100"
SELECT = "00A4040009A0000003080000100000"
SELECTED = "61164F0B" + AID + "79074F05A0000003089000"
GET_CERTIFICATE = "00CB3FFF055C035FC10100"
GET_RESPONSE = "00C00000"


@pytest.fixture
def p256(issued: IssuedOf) -> IssuedCard:
    return issued(KeyType.P_256)


@pytest.fixture
def rsa2048(issued: IssuedOf) -> IssuedCard:
    return issued(KeyType.RSA_2048)


def ask(chip: PivChip, command: str) -> str:
    response = chip.process(bytes.fromhex(command)).response
    assert response is not None
    return response.hex().upper()


def selected(chip: PivChip) -> PivChip:
    assert ask(chip, SELECT) == SELECTED
    return chip


@pytest.mark.parametrize("name", ["A000000308", "A00000030800001000", AID])
def test_select_by_a_full_or_truncated_name(p256: IssuedCard, name: str) -> None:
    chip = PivChip(p256.key, p256.der)
    assert ask(chip, f"00A40400{len(name) // 2:02X}{name}00") == SELECTED


@pytest.mark.parametrize("name", ["A0000003", "A0000003080000100002", AID + "00", "A0000005272101"])
def test_an_unknown_name_is_not_found_and_piv_stays_selected(p256: IssuedCard, name: str) -> None:
    chip = PivChip(p256.key, p256.der)
    assert ask(chip, f"00A40400{len(name) // 2:02X}{name}00") == "6A82"
    assert ask(chip, GET_CERTIFICATE) == "6D00"
    selected(chip)
    assert ask(chip, f"00A40400{len(name) // 2:02X}{name}00") == "6A82"
    assert ask(chip, "00CB3FFF035C017E00").endswith("9000")


def test_before_selection_the_card_knows_no_instruction_and_no_other_class(p256: IssuedCard) -> None:
    chip = PivChip(p256.key, p256.der)
    assert ask(chip, GET_CERTIFICATE) == "6D00"
    assert ask(chip, "0087119E00") == "6D00"
    assert ask(chip, "80CB3FFF055C035FC10100") == "6E00"


def test_select_again_keeps_what_the_pin_opened(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der, pin="123456"))
    assert ask(chip, "00200080083132333435 36FFFF".replace(" ", "")) == "9000"
    selected(chip)
    assert ask(chip, "00200080") == "9000"
    chip.reset()
    selected(chip)
    assert ask(chip, "00200080") == "63C3"


def test_a_minimal_p256_card_in_three_exchanges(issuer: Issuer) -> None:
    card = issuer.issue(KeyType.P_256, minimal=True)
    assert len(card.der) <= 302
    chip = selected(PivChip(card.key, card.der))
    first = ask(chip, GET_CERTIFICATE)
    container = tlv.encode(0x53, tlv.encode(0x70, card.der) + bytes.fromhex("710100FE00")).hex().upper()
    rest = len(container) // 2 - 256
    assert first == container[: 2 * 256] + f"61{rest:02X}"
    signed = ask(chip, "0087119E267C2482008120" + "5A" * 32 + "00")
    assert signed.startswith("7C")
    assert signed.endswith("9000")
    assert 70 <= len(signed) // 2 - 2 <= 76
    assert ask(chip, GET_RESPONSE + "00") == "6985"


def test_a_card_of_255_byte_pieces(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der, piece=255))
    container = tlv.encode(0x53, tlv.encode(0x70, p256.der) + bytes.fromhex("710100FE00")).hex().upper()
    rest = len(container) // 2 - 255
    assert ask(chip, GET_CERTIFICATE) == container[: 2 * 255] + f"61{rest:02X}"
    assert ask(chip, f"{GET_RESPONSE}{rest:02X}") == container[2 * 255 :] + "9000"


@pytest.mark.parametrize(("piece", "first", "rest"), [(256, 256, 8), (255, 255, 9), (254, 254, 10)])
def test_rsa_by_the_chain_of_the_standards_example(rsa2048: IssuedCard, piece: int, first: int, rest: int) -> None:
    chip = selected(PivChip(rsa2048.key, rsa2048.der, piece=piece))
    body = "7C82010682008182010000" + "01" + "FF" * 254
    assert ask(chip, "1087079EFF" + body[: 2 * 255]) == "9000"
    begun = ask(chip, "0087079E0B" + body[2 * 255 :] + "00")
    assert begun.startswith("7C820104828201 00".replace(" ", ""))
    assert begun.endswith(f"61{rest:02X}")
    assert len(begun) // 2 == first + 2
    ended = ask(chip, f"{GET_RESPONSE}{rest:02X}")
    assert len(ended) // 2 == rest + 2
    assert ended.endswith("9000")


def test_a_piece_of_256_that_leaves_more_than_it_says_so_with_6100(rsa2048: IssuedCard) -> None:
    assert len(rsa2048.der) > 520
    chip = selected(PivChip(rsa2048.key, rsa2048.der))
    assert ask(chip, GET_CERTIFICATE).endswith("6100")
    chip = selected(PivChip(rsa2048.key, rsa2048.der, piece=255))
    assert ask(chip, GET_CERTIFICATE).endswith("61FF")


@pytest.mark.parametrize(
    ("command", "sw"),
    [
        ("0087079E267C2482008120" + "5A" * 32 + "00", "6A86"),  # RSA, and the key is P-256
        ("0087149E267C2482008120" + "5A" * 32 + "00", "6A86"),
        ("0087009E267C2482008120" + "5A" * 32 + "00", "6A86"),
        ("008711A0267C2482008120" + "5A" * 32 + "00", "6A86"),  # no such key
        ("0087119A267C2482008120" + "5A" * 32 + "00", "6982"),
        ("0087119C267C2482008120" + "5A" * 32 + "00", "6982"),
        ("0087119D267C2482008120" + "5A" * 32 + "00", "6982"),
        ("0087119E247C228120" + "5A" * 32 + "00", "6A80"),  # nothing asked for
        ("0087119E277C258201008120" + "5A" * 32 + "00", "6A80"),  # a response in the question
        ("0087119E047C02820000", "6A80"),  # nothing to sign
        ("0087119E067C048200810000", "6A80"),
        ("0087119E1A7C18820081145A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A00", "6A80"),  # SHA-1
        ("0087119E287C26820082008120" + "5A" * 32 + "00", "6A80"),  # twice
        ("0087119E267C2582008120" + "5A" * 32 + "00", "6A80"),  # a length that lies
        ("0087119E00", "6A80"),
        ("00CB3FFF055C035FC10500", "6A82"),
        ("00CB3FFF045C027F6100", "6A82"),
        ("00CB3FFF055D035FC10100", "6A80"),
        ("00CB3FFF055C045FC10100", "6A80"),
        ("00CB0000055C035FC10100", "6A86"),
        ("00A4000C", "6A86"),
        ("00DB3FFF055C035FC10100", "6D00"),
        ("0CCB3FFF055C035FC10100", "6E00"),
        ("10CB3FFF055C035FC101", "6884"),
        ("00C0000000", "6985"),
        ("00CB3FFF055C", "6700"),
        ("00CB", "6700"),
        ("", "6700"),
        ("00200081", "6A88"),
        ("00200180", "6A86"),
        ("00200080", "6983"),  # no PIN was ever set
    ],
)
def test_refusals(p256: IssuedCard, command: str, sw: str) -> None:
    assert ask(selected(PivChip(p256.key, p256.der)), command) == sw


def test_rsa_refuses_a_challenge_that_is_not_a_block(rsa2048: IssuedCard) -> None:
    chip = selected(PivChip(rsa2048.key, rsa2048.der))
    assert ask(chip, "0087079E267C2482008120" + "5A" * 32 + "00") == "6A80"
    assert ask(chip, "0087119E267C2482008120" + "5A" * 32 + "00") == "6A86"
    body = "7C820106820081820100" + "FF" * 256  # not below the modulus
    assert ask(chip, "1087079EFF" + body[: 2 * 255]) == "9000"
    assert ask(chip, "0087079E0B" + body[2 * 255 :] + "00") == "6A80"


def test_the_challenge_may_stand_before_the_empty_response(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    assert ask(chip, "0087119E267C248120" + "5A" * 32 + "820000").endswith("9000")


def test_another_instruction_rolls_a_chain_back(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    body = "7C2482008120" + "5A" * 32
    assert ask(chip, "1087119E08" + body[:16]) == "9000"
    assert ask(chip, "00CB3FFF035C017E00").endswith("9000")
    assert ask(chip, "0087119E1E" + body[16:] + "00") == "6A80"
    assert ask(chip, "1087119E08" + body[:16]) == "9000"
    assert ask(chip, "0087119E1E" + body[16:] + "00").endswith("9000")


def test_a_chain_with_other_parameters_starts_anew(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    assert ask(chip, "1087079E02FFFF") == "9000"
    assert ask(chip, "0087119E267C2482008120" + "5A" * 32 + "00").endswith("9000")


def test_a_chain_has_an_end(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    answers = [ask(chip, "1087119EFF" + "00" * 255) for _ in range(20)]
    assert answers[:16] == ["9000"] * 16
    assert "6700" in answers


def test_a_new_command_drops_what_was_not_fetched(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    assert ask(chip, GET_CERTIFICATE)[-4:-2] == "61"
    assert ask(chip, "0087119E267C2482008120" + "5A" * 32 + "00").endswith("9000")
    assert ask(chip, GET_RESPONSE + "00") == "6985"


def test_discovery_object(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der))
    assert ask(chip, "00CB3FFF035C017E00") == "7E124F0BA0000003080000100001005F2F0240009000"


def test_chuid_is_short_and_unsigned(p256: IssuedCard) -> None:
    guid = uuid.UUID("00112233-4455-4677-8899-aabbccddeeff")
    chip = selected(PivChip(p256.key, p256.der, guid=guid))
    expected = "533B3019" + "00" * 25 + "3410" + guid.hex.upper() + "35083230353030313031" + "3E00FE00" + "9000"
    assert ask(chip, "00CB3FFF055C035FC10200") == expected


def test_the_guid_follows_from_the_certificate(p256: IssuedCard, rsa2048: IssuedCard) -> None:
    read = [ask(selected(PivChip(card.key, card.der)), "00CB3FFF055C035FC10200") for card in (p256, p256, rsa2048)]
    assert read[0] == read[1]
    assert read[0] != read[2]


def test_a_card_without_a_certificate(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, None))
    assert ask(chip, GET_CERTIFICATE) == "6A82"


def test_a_compressed_certificate(rsa2048: IssuedCard) -> None:
    chip = selected(PivChip(rsa2048.key, rsa2048.der, compress=True))
    data, more = b"", GET_CERTIFICATE
    while True:
        response = bytes.fromhex(ask(chip, more))
        data += response[:-2]
        if response[-2] != 0x61:
            break
        more = GET_RESPONSE + "00"
    container = tlv.parse_one(data, 0x53)
    compressed = tlv.find(container, 0x70)
    assert compressed is not None
    assert gzip.decompress(compressed) == rsa2048.der
    assert tlv.find(container, 0x71) == b"\x01"
    assert tlv.find(container, 0xFE) == b""


def test_the_pin_has_three_tries_and_a_reset_gives_none_back(p256: IssuedCard) -> None:
    chip = selected(PivChip(p256.key, p256.der, pin="123456"))
    wrong, right = "0020008008363534333231FFFF", "0020008008313233343536FFFF"
    assert ask(chip, "00200080") == "63C3"
    assert [ask(chip, wrong), ask(chip, wrong)] == ["63C2", "63C1"]
    chip.reset()
    selected(chip)
    assert ask(chip, right) == "9000"
    assert ask(chip, "0087119A267C2482008120" + "5A" * 32 + "00") == "6A88"
    assert ask(chip, "0020FF80") == "9000"
    assert ask(chip, "00200080") == "63C3"
    assert ask(chip, "002000800431323334") == "6A80"
    assert [ask(chip, wrong) for _ in range(4)] == ["63C2", "63C1", "63C0", "6983"]
    assert ask(chip, right) == "6983"


@pytest.mark.parametrize("pin", ["12345", "123456789", "12345x", "١٢٣٤٥٦"])
def test_a_pin_is_six_to_eight_digits(p256: IssuedCard, pin: str) -> None:
    with pytest.raises(ValueError, match="6 to 8 decimal digits"):
        PivChip(p256.key, p256.der, pin=pin)


def test_version_for_yubicos_tools(p256: IssuedCard) -> None:
    assert ask(selected(PivChip(p256.key, p256.der, version=(5, 7, 1))), "00FD000000") == "0507019000"
    assert ask(selected(PivChip(p256.key, p256.der, version=None)), "00FD000000") == "6D00"


def test_only_the_private_key_takes_the_silicons_time(p256: IssuedCard) -> None:
    chip = PivChip(p256.key, p256.der, timing=ChipTiming.of("jcop4-p71"))
    assert chip.process(bytes.fromhex(SELECT)).compute_s == 0
    assert chip.process(bytes.fromhex(GET_CERTIFICATE)).compute_s == 0
    assert chip.process(bytes.fromhex("0087119E267C2482008120" + "5A" * 32 + "00")).compute_s == 0.032
    assert chip.process(bytes.fromhex("0087079E267C2482008120" + "5A" * 32 + "00")).compute_s == 0


def test_a_card_model_without_a_figure_for_the_key_is_refused(issued: IssuedOf) -> None:
    card = issued(KeyType.P_384)
    with pytest.raises(NoFigure, match="jcop241-j3a081 has no figure for P-384"):
        PivChip(card.key, card.der, timing=ChipTiming.of("jcop241-j3a081"))


@pytest.mark.parametrize("piece", [0, 257])
def test_a_piece_that_no_response_carries_is_refused(p256: IssuedCard, piece: int) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        PivChip(p256.key, p256.der, piece=piece)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP521R1()), id="P-521"),
        pytest.param(ec.generate_private_key(ec.BrainpoolP256R1()), id="brainpool"),
        pytest.param(rsa.generate_private_key(65537, 1024), id="RSA-1024"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
    ],
)
def test_a_key_that_piv_does_not_know_is_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    with pytest.raises(CardFileError, match="a PIV card cannot hold"):
        PivChip(key, b"")


def test_a_card_from_pem_files(p256: IssuedCard, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(p256.key_pem)
    (tmp_path / "cert.pem").write_bytes(p256.pem)
    (tmp_path / "cert.der").write_bytes(p256.der)
    of_pem = selected(PivChip.from_pem(tmp_path / "key.pem", tmp_path / "cert.pem"))
    of_der = selected(PivChip.from_pem(tmp_path / "key.pem", tmp_path / "cert.der"))
    assert ask(of_pem, GET_CERTIFICATE) == ask(of_der, GET_CERTIFICATE)
    assert ask(of_pem, GET_CERTIFICATE) == ask(selected(PivChip(p256.key, p256.der)), GET_CERTIFICATE)


def test_a_card_from_pkcs12(p256: IssuedCard, tmp_path: Path) -> None:
    path = tmp_path / "card.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"card", p256.key, p256.certificate, None, BestAvailableEncryption(b"open sesame")
        )
    )
    chip = selected(PivChip.from_pkcs12(path, b"open sesame"))
    assert ask(chip, GET_CERTIFICATE) == ask(selected(PivChip(p256.key, p256.der)), GET_CERTIFICATE)
    with pytest.raises(CardFileError, match=r"card\.p12: not a PKCS#12 file, or the password is wrong"):
        PivChip.from_pkcs12(path, b"wrong")


def test_files_that_make_no_card_are_named(p256: IssuedCard, tmp_path: Path) -> None:
    key, cert, junk = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "junk"
    key.write_bytes(p256.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    cert.write_bytes(p256.pem)
    junk.write_bytes(b"junk")
    with pytest.raises(CardFileError, match=r"key\.pem: no private key could be read"):
        PivChip.from_pem(key, cert)
    with pytest.raises(CardFileError, match="junk: no certificate could be read"):
        PivChip.from_pem(key, junk, b"x")
    with pytest.raises(CardFileError, match="junk: no private key could be read"):
        PivChip.from_pem(junk, cert)
    with pytest.raises(CardFileError, match="junk: not a PKCS#12 file"):
        PivChip.from_pkcs12(junk)
    with pytest.raises(CardFileError, match="absent: No such file"):
        PivChip.from_pkcs12(tmp_path / "absent")

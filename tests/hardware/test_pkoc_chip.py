"""The virtual PKOC card: laws for any bytes, the published frames byte for byte, signatures that OpenSSL verifies."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hardware.virtual.piv_key import CardFileError
from hardware.virtual.pkoc import LeRule, PkocChip, Profile
from hardware.virtual.timing import ChipTiming, NoFigure
from tests.missing import program

VECTORS: dict[str, dict[str, Any]] = {
    entry["name"]: entry for entry in json.loads((Path(__file__).parents[1] / "vectors" / "pkoc.json").read_text())
}
PUBLISHED, V1, V2 = VECTORS["se-v1-signature"], VECTORS["se-v1-frames"], VECTORS["se-v2-frames"]

KEY = ec.generate_private_key(ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
CVC = bytes.fromhex("7F2181D2") + bytes(210)  # any octets: the card does not look into them
CHALLENGE = "AB" * 32
INTERNAL_AUTHENTICATE = V2["internal_authenticate_prefix"] + "20" + CHALLENGE + "00"


def authenticate(
    transaction: str, le: str = "00", *, version: str = "5C020100", reader: str = "4D20" + "22" * 32
) -> str:
    data = f"{version}4C{len(transaction) // 2:02X}{transaction}{reader}"
    return f"{V1['authenticate_prefix']}{len(data) // 2:02X}{data}{le}"


AUTHENTICATE = authenticate("11" * 16)


def ask(chip: PkocChip, command: str) -> str:
    response = chip.process(bytes.fromhex(command)).response
    assert response is not None
    return response.hex().upper()


def selected(**options: Any) -> PkocChip:
    chip = PkocChip(KEY, **options)
    assert ask(chip, V1["select"]) == V1["selected"]
    return chip


def signature_holds(raw: bytes, message: bytes) -> None:
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    KEY.public_key().verify(der, message, ec.ECDSA(hashes.SHA256()))


commands = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda cla, ins, p1, p2, body: bytes([cla, ins, p1, p2]) + body,
        st.sampled_from([0x00, 0x80, 0x10]),
        st.sampled_from([0x80, 0x88, 0xA4, 0xC0, 0xCA]),
        st.sampled_from([0x00, 0x04, 0x7F]),
        st.sampled_from([0x00, 0x01, 0x21, 0x63]),
        st.one_of(
            st.binary(max_size=20), st.binary(min_size=1, max_size=70).map(lambda data: bytes([len(data)]) + data)
        ),
    ),
    st.sampled_from([V1["select"], AUTHENTICATE, V2["get_info"], V2["get_cvc"], "00C0000000"]).map(bytes.fromhex),
)


class TestLaws:
    @given(
        script=st.lists(commands, max_size=12),
        profiles=st.sets(st.sampled_from(Profile), min_size=1),
        piece=st.integers(1, 256),
        cvc=st.sampled_from([None, CVC]),
        app=st.booleans(),
        le=st.sampled_from(LeRule),
    )
    def test_any_bytes_get_a_status_word(
        self,
        script: list[bytes],
        profiles: set[Profile],
        piece: int,
        cvc: bytes | None,
        le: LeRule,
        *,
        app: bool,
    ) -> None:
        chip = PkocChip(KEY, cvc=cvc, profiles=profiles, piece=piece, app=app, authenticate_le=le)
        for command in script:
            response = chip.process(command).response
            assert response is not None
            assert 2 <= len(response) <= piece + 2
            assert response[-2] & 0xF0 in (0x60, 0x90)

    @given(message=st.binary(min_size=16, max_size=65))
    def test_the_transaction_identifier_is_all_that_is_signed(self, message: bytes) -> None:
        answer = bytes.fromhex(ask(selected(), authenticate(message.hex())))
        assert answer[:2] + answer[67:69] + answer[-2:] == bytes.fromhex("5A41 9E40 9000")
        assert (answer[2:67], len(answer)) == (POINT, 135)
        signature_holds(answer[69:-2], message)

    @given(challenge=st.binary(min_size=32, max_size=32))
    def test_the_challenge_is_all_that_is_signed(self, challenge: bytes) -> None:
        answer = bytes.fromhex(ask(selected(), f"0088000020{challenge.hex()}00"))
        assert (answer[:2], answer[-2:], len(answer)) == (b"\x9e\x40", b"\x90\x00", 68)
        signature_holds(answer[2:-2], challenge)

    @given(piece=st.integers(1, 256))
    def test_a_certificate_comes_whole_in_pieces_of_any_size(self, piece: int) -> None:
        chip = selected(cvc=CVC, piece=max(piece, 4)) if piece >= 4 else PkocChip(KEY, cvc=CVC, piece=piece)
        if piece < 4:
            chip.process(bytes.fromhex(V1["select"]))
        answer = bytes.fromhex(ask(chip, V2["get_cvc"]))
        whole = answer[:-2]
        while answer[-2] == 0x61:
            answer = bytes.fromhex(ask(chip, f"00C00000{answer[-1]:02X}"))
            whole += answer[:-2]
        assert (whole, answer[-2:]) == (CVC, b"\x90\x00")


class TestFrames:
    def test_profile_2_answers_with_the_published_frames(self) -> None:
        chip = selected(cvc=CVC)
        assert ask(chip, V2["get_info"]) == V2["info"]
        assert ask(chip, V2["get_cvc"]) == CVC.hex().upper() + "9000"
        assert ask(selected(), V2["get_cvc"]) == V2["no_certificate"]

    def test_profile_1_alone_knows_nothing_of_profile_2(self) -> None:
        chip = selected(profiles={Profile.SE_V1}, cvc=CVC)
        assert [ask(chip, each) for each in (V2["get_info"], V2["get_cvc"], INTERNAL_AUTHENTICATE)] == ["6D00"] * 3
        assert ask(chip, AUTHENTICATE).endswith("9000")

    def test_profile_2_alone_knows_nothing_of_profile_1(self) -> None:
        chip = selected(profiles={Profile.SE_V2}, cvc=CVC)
        assert ask(chip, AUTHENTICATE) == "6D00"
        assert ask(chip, INTERNAL_AUTHENTICATE).endswith("9000")

    def test_objects_come_in_any_order(self) -> None:
        data = "4D20" + "22" * 32 + "4C10" + "11" * 16 + "5C020100"
        assert ask(selected(), f"8080000138{data}00").endswith("9000")

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00A4040007A0000008980000 00".replace(" ", ""), "6A82"),
            ("00A4040009A00000089800000101 00".replace(" ", ""), "6A82"),
            ("00A4040C08A00000089800000100", "6A86"),
            ("00A4000008A00000089800000100", "6A86"),
            ("8080000038" + "00" * 56, "6A86"),
            (authenticate("11" * 15), "6A80"),
            (authenticate("11" * 66), "6A80"),
            (authenticate("11" * 16, version="5C020200"), "6A80"),
            (authenticate("11" * 16, version=""), "6A80"),
            (authenticate("11" * 16, reader="4D1F" + "22" * 31), "6A80"),
            (authenticate("11" * 16, reader=""), "6A80"),
            (authenticate("11" * 16, reader="4D20" + "22" * 31), "6A80"),
            ("00" + AUTHENTICATE[2:], "6E00"),
            ("80" + V2["get_info"][2:], "6E00"),
            ("00CA7F2200", "6A86"),
            ("0088000100", "6A86"),
            ("008800001F" + "00" * 31 + "00", "6700"),
            ("0088000021" + "00" * 33 + "00", "6700"),
            ("00C0000000", "6D00"),
            ("00CB3FFF00", "6D00"),
            ("00CA7F", "6700"),
        ],
    )
    def test_what_it_refuses(self, command: str, sw: str) -> None:
        chip = selected(cvc=CVC)
        assert ask(chip, command) == sw
        assert ask(chip, AUTHENTICATE).endswith("9000")  # and nothing has changed

    def test_before_selection_and_after_a_reset_it_knows_nothing(self) -> None:
        chip = PkocChip(KEY, cvc=CVC)
        assert ask(chip, AUTHENTICATE) == ask(chip, V2["get_cvc"]) == "6D00"
        assert ask(chip, V1["select"]) == V1["selected"]
        chip.reset()
        assert ask(chip, AUTHENTICATE) == "6D00"

    def test_a_reset_forgets_what_was_left_to_fetch(self) -> None:
        chip = selected(cvc=CVC, piece=100)
        assert ask(chip, V2["get_cvc"]).endswith("6164")
        chip.reset()
        assert ask(chip, "00C0000064") == "6D00"


class TestLe:
    @pytest.mark.parametrize(
        ("rule", "with_le", "without"),
        [(LeRule.EITHER, "9000", "9000"), (LeRule.NEEDED, "9000", "6700"), (LeRule.REFUSED, "6700", "9000")],
    )
    def test_authenticate(self, rule: LeRule, with_le: str, without: str) -> None:
        chip = selected(authenticate_le=rule)
        assert ask(chip, AUTHENTICATE)[-4:] == with_le
        assert ask(chip, authenticate("11" * 16, le=""))[-4:] == without

    def test_the_app_takes_one_selection_only(self) -> None:
        chip = PkocChip(KEY, app=True)
        assert ask(chip, V1["select"][:-2]) == "6F00"  # no Le
        assert ask(chip, V1["select"]) == V1["selected"]
        assert ask(PkocChip(KEY), V1["select"][:-2]) == V1["selected"]

    def test_the_app_has_one_error_and_the_word_for_no_certificate(self) -> None:
        chip = selected(app=True)
        assert ask(chip, authenticate("11" * 15)) == ask(chip, "00CB3FFF00") == "6F00"
        assert ask(chip, V2["get_cvc"]) == "6A88"
        assert ask(selected(app=True, profiles={Profile.SE_V1}), V2["get_cvc"]) == "6F00"
        assert ask(chip, AUTHENTICATE).endswith("9000")


class TestMaking:
    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
        ids=["P-384", "RSA-2048"],
    )
    def test_only_p256(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        with pytest.raises(CardFileError, match="P-256"):
            PkocChip(key)

    @pytest.mark.parametrize("piece", [0, 257])
    def test_a_piece_fits_a_response(self, piece: int) -> None:
        with pytest.raises(ValueError, match="1 to 256"):
            PkocChip(KEY, piece=piece)

    def test_a_card_speaks_something(self) -> None:
        with pytest.raises(ValueError, match="profile 1"):
            PkocChip(KEY, profiles=())

    def test_historical_bytes_fit_an_answer_to_select(self) -> None:
        assert 0 < len(PkocChip(KEY).historical) <= 15

    def test_only_a_signature_takes_time(self) -> None:
        chip = selected(cvc=CVC, timing=ChipTiming.of("jcop4-p71"))
        times = [
            chip.process(bytes.fromhex(each)).compute_s
            for each in (V1["select"], V2["get_info"], V2["get_cvc"], AUTHENTICATE, INTERNAL_AUTHENTICATE, "00CB3FFF00")
        ]
        assert times == [0, 0, 0, 0.032, 0.032, 0]

    def test_silicon_without_a_figure(self) -> None:
        with pytest.raises(NoFigure):
            PkocChip(KEY, timing=ChipTiming.of("cosmo64-v5.4"))


class TestStranger:
    """What OpenSSL's command line says of the signatures."""

    def verify(self, folder: Path, point: bytes, message: bytes, raw: bytes) -> bool:
        openssl = program("openssl")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        (folder / "key").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        (folder / "message").write_bytes(message)
        der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        (folder / "signature").write_bytes(der)
        command = [openssl, "dgst", "-sha256", "-verify", "key", "-signature", "signature", "message"]
        said = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        assert said.stdout in ("Verified OK\n", "Verification failure\n"), said.stderr
        return said.stdout == "Verified OK\n"

    def test_the_published_signature(self, tmp_path: Path) -> None:
        point, message, raw = (bytes.fromhex(PUBLISHED[name]) for name in ("public_key", "transaction_id", "signature"))
        assert self.verify(tmp_path, point, message, raw)
        assert not self.verify(tmp_path, point, message[::-1], raw)

    def test_the_card_over_the_published_transaction(self, tmp_path: Path) -> None:
        answer = bytes.fromhex(ask(selected(), authenticate(PUBLISHED["transaction_id"])))
        assert self.verify(tmp_path, answer[2:67], bytes.fromhex(PUBLISHED["transaction_id"]), answer[69:-2])
        assert not self.verify(tmp_path, answer[2:67], bytes(16), answer[69:-2])

    def test_the_card_over_a_challenge(self, tmp_path: Path) -> None:
        answer = bytes.fromhex(ask(selected(), INTERNAL_AUTHENTICATE))
        assert self.verify(tmp_path, POINT, bytes.fromhex(CHALLENGE), answer[2:-2])

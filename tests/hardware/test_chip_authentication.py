"""Chip Authentication in both roles, against the formulas of the standard written out, and against bad messages."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from hardware import chip_authentication as ca
from hardware import lds
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.chip_authentication import ChipAuthenticationError
from hardware.domain_parameters import STANDARDIZED
from hardware.ec_keys import EcKey
from hardware.virtual import emrtd_files
from tests.hostile import hostile

AES_128, AES_192, AES_256 = (bytes.fromhex(f"04007F000702020302{arc}") for arc in ("02", "03", "04"))
TERMINAL, CHIP = 0x1234567, 0x89ABCDEF
CURVES = [12, 13, 14, 15, 16, 17, 18]


def key(number: int = 13, private: int = CHIP) -> EcKey:
    return EcKey(STANDARDIZED[number], STANDARDIZED[number].public_point(private))


def infos(*members: bytes) -> lds.SecurityInfos:
    return lds.parse_security_infos(emrtd_files.security_infos(members))


class TestOffer:
    def test_the_longest_keys_first(self) -> None:
        ways = [emrtd_files.chip_authentication_info(oid) for oid in (AES_192, AES_256, AES_128)]
        chosen = ca.offer(infos(*ways, emrtd_files.chip_key_info(key())))
        assert chosen == ca.Offer(AES_256, key(), None)

    def test_a_way_goes_with_its_key(self) -> None:
        chosen = ca.offer(
            infos(
                emrtd_files.chip_authentication_info(AES_128, 2),
                emrtd_files.chip_key_info(key(13, 1), 1),
                emrtd_files.chip_key_info(key(13, 2), 2),
            )
        )
        assert chosen == ca.Offer(AES_128, key(13, 2), 2)

    @pytest.mark.parametrize(
        "members",
        [
            [],
            [emrtd_files.chip_authentication_info(AES_128)],
            [emrtd_files.chip_key_info(key())],
            [emrtd_files.chip_authentication_info(AES_128, version=2), emrtd_files.chip_key_info(key())],
            [emrtd_files.chip_authentication_info(AES_128, 1), emrtd_files.chip_key_info(key(), 2)],
            [emrtd_files.chip_authentication_info(AES_128[:-1] + b"\x01"), emrtd_files.chip_key_info(key())],
        ],
        ids=["nothing", "no key", "no way", "version 2", "another key", "triple DES"],
    )
    def test_what_is_not_spoken_is_no_offer(self, members: list[bytes]) -> None:
        assert ca.offer(infos(*members)) is None


class TestCommands:
    def test_their_octets(self) -> None:
        plain = ca.set_template(ca.Offer(AES_128, key(), None))
        numbered = ca.set_template(ca.Offer(AES_256, key(), 0x1FF))
        assert bytes(plain).hex().upper() == "002241A40C800A04007F00070202030202"
        assert bytes(numbered).hex().upper() == "002241A410800A04007F00070202030204840201FF"
        point = key().point
        assert bytes(ca.agree(point)) == bytes.fromhex("00860000457C438041") + point + b"\0"

    @pytest.mark.parametrize("key_id", [None, 0, 1, 255, 256, 2**31])
    def test_a_chip_reads_what_a_terminal_writes(self, key_id: int | None) -> None:
        assert ca.read_template(ca.set_template(ca.Offer(AES_192, key(), key_id))) == (AES_192, key_id)
        assert ca.read_ephemeral(ca.agree(key().point)) == key().point

    @pytest.mark.parametrize(
        "data",
        ["", "80", "800A04007F00070202030201", "8000", "840101", "800A04007F000702020302028300", "8001008001 00"],
    )
    def test_a_template_that_is_none(self, data: str) -> None:
        with pytest.raises(ChipAuthenticationError):
            ca.read_template(CommandApdu(0, 0x22, 0x41, 0xA4, bytes.fromhex(data)))

    @pytest.mark.parametrize("data", ["", "7C", "7C00", "7C028100", "7D028000", "7C0280007C00"])
    def test_an_agreement_that_is_none(self, data: str) -> None:
        with pytest.raises(ChipAuthenticationError):
            ca.read_ephemeral(CommandApdu(0, 0x86, 0, 0, bytes.fromhex(data)))

    @pytest.mark.parametrize("data", ["", "7C", "7C0181", "8100", "7C007C00"])
    def test_an_answer_that_is_none(self, data: str) -> None:
        ca.check_agreed(bytes.fromhex("7C00"))
        with pytest.raises(ChipAuthenticationError):
            ca.check_agreed(bytes.fromhex(data))


class TestAgreement:
    @pytest.mark.parametrize("number", CURVES)
    @pytest.mark.parametrize("oid", [AES_128, AES_192, AES_256])
    def test_both_sides_come_to_the_same_keys(self, number: int, oid: bytes) -> None:
        parameters = STANDARDIZED[number]
        ours = ca.session_keys(oid, parameters, TERMINAL, parameters.public_point(CHIP))
        theirs = ca.session_keys(oid, parameters, CHIP, parameters.public_point(TERMINAL))
        assert (ours.encryption, ours.authentication) == (theirs.encryption, theirs.authentication)
        assert len(ours.encryption) == len(ours.authentication) == ca.KEY_BYTES[oid]
        ours.wipe()
        assert not any(ours.encryption + ours.authentication)

    def test_the_keys_are_those_of_the_standard(self) -> None:
        """KDF(K, 1) and KDF(K, 2) over the x-coordinate: SHA-1 for sixteen bytes, SHA-256 for more."""
        private = ec.derive_private_key(TERMINAL, ec.BrainpoolP256R1())
        secret = private.exchange(ec.ECDH(), ec.derive_private_key(CHIP, ec.BrainpoolP256R1()).public_key())
        for oid, size, digest in ((AES_128, 16, "sha1"), (AES_192, 24, "sha256"), (AES_256, 32, "sha256")):
            keys = ca.session_keys(oid, STANDARDIZED[13], TERMINAL, key().point)
            expected = [hashlib.new(digest, secret + bytes([0, 0, 0, count])).digest()[:size] for count in (1, 2)]
            assert [bytes(keys.encryption), bytes(keys.authentication)] == expected

    def test_a_point_off_the_curve_is_refused(self) -> None:
        bad = key().point[:-1] + bytes([key().point[-1] ^ 1])
        for peer in (bad, b"", key(12).point, b"\x04" + bytes(64)):
            with pytest.raises(ChipAuthenticationError):
                ca.session_keys(AES_128, STANDARDIZED[13], TERMINAL, peer)


class TestConfirmation:
    keys = ca.session_keys(AES_128, STANDARDIZED[13], TERMINAL, key().point)

    def test_it_is_the_checksum_of_the_first_answer(self) -> None:
        mac = CMAC(AES(self.keys.authentication))
        mac.update((2).to_bytes(16) + bytes.fromhex("99029000") + b"\x80" + bytes(11))
        code = mac.finalize()[:8]
        answer = ResponseApdu(bytes.fromhex("990290008E08") + code, 0x9000)
        assert ca.confirmation(self.keys, answer) == (code, code)

    def test_it_is_what_a_chip_with_the_key_sends(self) -> None:
        terminal, chip = self.keys.channel(), self.keys.channel()
        chip.open_command(terminal.seal_command(CommandApdu(0, 0xA4, 2, 0x0C, b"\x01\x1d")))
        answer = chip.seal_response(ResponseApdu(b"any", 0x6A82))
        expected, received = ca.confirmation(self.keys, answer)
        assert expected == received
        assert len(expected) == 8

    @hostile
    @given(st.binary(max_size=40), st.integers(0, 0xFFFF))
    def test_nothing_else_confirms(self, data: bytes, sw: int) -> None:
        expected, received = ca.confirmation(self.keys, ResponseApdu(data, sw))
        assert len(expected) == 8
        assert expected != received

    def test_an_answer_of_a_later_exchange_does_not_confirm(self) -> None:
        terminal, chip = self.keys.channel(), self.keys.channel()
        answers = []
        for _ in range(2):
            chip.open_command(terminal.seal_command(CommandApdu(0, 0xB0, 0, 0, le=4)))
            answers.append(chip.seal_response(ResponseApdu(b"", 0x9000)))
            terminal.open_response(answers[-1])
        answer = answers[-1]
        expected, received = ca.confirmation(self.keys, answer)
        assert expected != received


class TestMapping:
    @pytest.mark.parametrize("number", CURVES)
    def test_the_chips_number_times_its_key_is_its_mapping_key(self, number: int) -> None:
        parameters = STANDARDIZED[number]
        mapping = 0xFEDCBA987654321
        data = (mapping * pow(CHIP, -1, parameters.order) % parameters.order).to_bytes(parameters.order_bytes)
        assert ca.mapped(key(number), data) == parameters.public_point(mapping)
        assert ca.mapped(key(number, CHIP + 1), data) != parameters.public_point(mapping)

    @pytest.mark.parametrize("number", [0, STANDARDIZED[13].order, STANDARDIZED[13].order + 1, 2**300])
    def test_a_number_out_of_bounds_maps_to_nothing(self, number: int) -> None:
        assert ca.mapped(key(), number.to_bytes(40)) == b""

"""PACE, what terminal and card both compute: the published runs, both sides of any run, and what is refused."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import pace, tlv
from hardware.domain_parameters import STANDARDIZED
from hardware.pace import Mapping, PaceError, PaceInfo, PasswordKind
from hardware.pace_party import Party
from tests.hardware.pace_vectors import AES_256, ICAO, ICAO_CAM, drawing, octets, private_numbers
from tests.hostile import hostile

P256_128 = PaceInfo.of(Mapping.GM, 16, 12)
SUITES = [
    PaceInfo.of(mapping, key_bytes, number)
    for mapping in Mapping
    for key_bytes in (16, 24, 32)
    for number in STANDARDIZED
]
#: Points are multiplied in plain Python.
slow_examples = settings(max_examples=200 if os.environ.get("PILET_SOAK") == "1" else 10)
PACE_INFO_GM_AES_256_P256 = "3012060A04007F0007020204020402010202010C"


def info_of(vector: Any) -> PaceInfo:
    return PaceInfo(octets(vector["inputs"]["oid_value"]), 2, vector["inputs"]["parameter_id"])


def drawn_from(seed: bytes, side: bytes = b"t") -> Callable[[int], bytes]:
    """Bytes that follow from a seed, other ones with each call and on each side."""
    left = [side + seed[:40], side + seed[40:]]
    return lambda count: (left.pop(0) * 8)[:count]


def run(info: PaceInfo, seeds: bytes, nonces: tuple[bytes, bytes]) -> tuple[Party, Party]:
    """Lead both sides through a run; each has its own idea of the nonce."""
    terminal, card = Party(info, drawn_from(seeds[:80])), Party(info, drawn_from(seeds[80:], b"c"))
    terminal_key = terminal.map(nonces[0], card.mapping_point)
    card_key = card.map(nonces[1], terminal.mapping_point)
    terminal.agree(card_key)
    card.agree(terminal_key)
    return terminal, card


@cache
def agreed_with_mapping() -> tuple[Party, Party]:
    return run(PaceInfo.of(Mapping.CAM, 16, 12), bytes(range(160)), (bytes(16), bytes(16)))


class TestVectors:
    @pytest.mark.parametrize("vector", [ICAO, AES_256], ids=lambda vector: vector["name"])
    def test_keys_from_passwords_and_nonces(self, vector: Any) -> None:
        inputs, expected = vector["inputs"], vector["expected"]
        kind = PasswordKind[inputs["password_type"]]
        secret = (inputs.get("mrz_information") or inputs["can"]).encode()
        key = pace.password_key(kind, secret, inputs["key_length_bytes"])
        assert key == octets(expected["K_pi"])
        nonce = pace.open_nonce(key, octets(inputs["z"]))
        assert nonce == octets(expected["s"])
        assert pace.seal_nonce(key, nonce) == octets(inputs["z"])

    @pytest.mark.parametrize("vector", [ICAO, AES_256], ids=lambda vector: vector["name"])
    def test_the_mapping_takes_the_whole_shared_point(self, vector: Any) -> None:
        inputs, expected = vector["inputs"], vector["expected"]
        parameters = info_of(vector).parameters
        peer = octets(expected.get("pk_map_ic") or inputs["card_responses"]["c3"][8:-4])
        shared = parameters.multiply(peer, int(inputs["sk_map_ifd"], 16))
        assert shared == octets(expected["H"])
        base = parameters.add(parameters.public_point(int(expected["s"], 16)), shared)
        assert base == octets(expected["G_mapped"])

    def test_icao_as_a_terminal(self) -> None:
        inputs, expected = ICAO["inputs"], ICAO["expected"]
        terminal = Party(info_of(ICAO), drawing(*private_numbers(ICAO, "ifd")))
        assert terminal.mapping_point == octets(expected["pk_map_ifd"])
        assert terminal.map(octets(expected["s"]), octets(expected["pk_map_ic"])) == octets(expected["pk_dh_ifd"])
        terminal.agree(octets(inputs["pk_dh_ic"]))
        assert terminal._enc_key == octets(expected["KS_enc"])
        assert terminal._mac_key == octets(expected["KS_mac"])
        assert (terminal.own_token, terminal.expected_token) == (octets(expected["T_ifd"]), octets(expected["T_ic"]))

    def test_icao_as_a_card(self) -> None:
        inputs, expected = ICAO["inputs"], ICAO["expected"]
        card = Party(info_of(ICAO), drawing(*private_numbers(ICAO, "ic")))
        assert card.mapping_point == octets(expected["pk_map_ic"])
        assert card.map(octets(expected["s"]), octets(expected["pk_map_ifd"])) == octets(inputs["pk_dh_ic"])
        card.agree(octets(expected["pk_dh_ifd"]))
        assert card._enc_key == octets(expected["KS_enc"])
        assert card._mac_key == octets(expected["KS_mac"])
        assert (card.own_token, card.expected_token) == (octets(expected["T_ic"]), octets(expected["T_ifd"]))

    def test_the_shared_secret_of_icao(self) -> None:
        inputs, expected = ICAO["inputs"], ICAO["expected"]
        secret = STANDARDIZED[13].agree(int(inputs["sk_dh_ifd"], 16), octets(inputs["pk_dh_ic"]))
        assert secret == octets(expected["K"])
        assert pace.derive_key(secret, 1, 16) == octets(expected["KS_enc"])
        assert pace.derive_key(secret, 2, 16) == octets(expected["KS_mac"])

    def test_chip_authentication_data_of_icao_in_both_roles(self) -> None:
        inputs, expected = ICAO_CAM["inputs"], ICAO_CAM["expected"]
        (info,) = pace.parse_card_access(octets(inputs["ef_cardaccess"]))
        order = info.parameters.order
        chip_data, mapping_private = int(expected["CA_ic"], 16), int(inputs["sk_map_ic"], 16)
        chip_private = mapping_private * pow(chip_data, -1, order) % order
        assert info.parameters.public_point(chip_private) == octets(inputs["chip_key"])
        card = Party(info, drawing(inputs["sk_map_ic"]))
        assert card.mapping_point == octets(inputs["card_responses"]["c3"][8:-4])
        card._enc_key = bytearray(octets(expected["KS_enc"]))
        assert card.seal_chip_data(chip_private) == octets(expected["A_ic"])
        assert card.open_chip_data(octets(expected["A_ic"])) == octets(expected["CA_ic"])
        assert pace.verify_chip_data(
            info.parameters, octets(expected["CA_ic"]), card.mapping_point, octets(inputs["chip_key"])
        )


class TestBothSides:
    @pytest.mark.parametrize("info", SUITES, ids=lambda info: f"{info.mapping}-{info.key_bytes}-{info.parameters.name}")
    def test_every_suite_ends_in_one_session(self, info: PaceInfo) -> None:
        nonce = bytes(range(16))
        terminal, card = run(info, bytes(range(160)), (nonce, nonce))
        assert terminal.own_token == card.expected_token
        assert terminal.expected_token == card.own_token
        assert terminal.own_token != card.own_token
        assert (terminal._enc_key, terminal._mac_key) == (card._enc_key, card._mac_key)
        assert len(terminal._enc_key) == info.key_bytes

    @slow_examples
    @given(seeds=st.binary(min_size=160, max_size=160), blocks=st.integers(1, 4), data=st.data())
    def test_nonces_of_any_number_of_blocks(self, seeds: bytes, blocks: int, data: st.DataObject) -> None:
        nonce = data.draw(st.binary(min_size=16 * blocks, max_size=16 * blocks))
        terminal, card = run(P256_128, seeds, (nonce, nonce))
        assert terminal.own_token == card.expected_token
        key = pace.password_key(PasswordKind.CAN, b"123456", 16)
        assert pace.open_nonce(key, pace.seal_nonce(key, nonce)) == nonce

    @pytest.mark.parametrize("nonce", [bytes(16), STANDARDIZED[12].order.to_bytes(32)], ids=["zero", "the order"])
    def test_a_nonce_that_is_no_number_leaves_the_shared_point(self, nonce: bytes) -> None:
        terminal, card = run(P256_128, bytes(range(160)), (nonce, nonce))
        assert terminal.own_token == card.expected_token

    @slow_examples
    @given(one=st.binary(min_size=16, max_size=16), other=st.binary(min_size=16, max_size=16))
    def test_another_nonce_is_another_session(self, one: bytes, other: bytes) -> None:
        terminal, card = run(P256_128, bytes(range(160)), (one, other))
        assert (terminal.own_token == card.expected_token) is (one == other)
        assert (terminal.expected_token == card.own_token) is (one == other)

    @slow_examples
    @given(chip=st.integers(1, STANDARDIZED[13].order - 1), seeds=st.binary(min_size=160, max_size=160))
    def test_chip_authentication_data_prove_the_chips_key(self, chip: int, seeds: bytes) -> None:
        info = PaceInfo.of(Mapping.CAM, 32, 13)
        terminal, card = run(info, seeds, (bytes(16), bytes(16)))
        chip_data = terminal.open_chip_data(card.seal_chip_data(chip))
        key, another = info.parameters.public_point(chip), info.parameters.public_point(chip % 1000 + 1)
        assert pace.verify_chip_data(info.parameters, chip_data, card.mapping_point, key)
        assert pace.verify_chip_data(info.parameters, chip_data, card.mapping_point, another) is (key == another)
        assert not pace.verify_chip_data(info.parameters, chip_data, terminal.mapping_point, key)

    def test_what_was_secret_is_overwritten(self) -> None:
        terminal, _ = run(P256_128, bytes(range(160)), (bytes(16), bytes(16)))
        assert not any(terminal._private)
        channel = terminal.channel()
        terminal.wipe()
        assert not any(terminal._mapping_private + terminal._enc_key + terminal._mac_key)
        assert any(channel._enc_key)


class TestRefused:
    def test_our_own_keys_again(self) -> None:
        terminal = Party(P256_128, drawn_from(bytes(range(80))))
        with pytest.raises(PaceError, match="came back"):
            terminal.map(bytes(16), terminal.mapping_point)
        own = terminal.map(bytes(16), STANDARDIZED[12].public_point(5))
        with pytest.raises(PaceError, match="came back"):
            terminal.agree(own)

    @pytest.mark.parametrize(
        "point",
        [
            b"",
            b"\x00",
            b"\x04" + bytes(64),
            STANDARDIZED[12].public_point(5)[:-1] + b"\x00",
            STANDARDIZED[13].public_point(5),
            STANDARDIZED[15].public_point(5),
        ],
        ids=["nothing", "infinity", "zeros", "off the curve", "another curve", "a longer curve"],
    )
    def test_what_is_no_point(self, point: bytes) -> None:
        terminal = Party(P256_128, drawn_from(bytes(range(80))))
        with pytest.raises(PaceError):
            terminal.map(bytes(16), point)
        terminal = Party(P256_128, drawn_from(bytes(range(80))))
        terminal.map(bytes(16), STANDARDIZED[12].public_point(5))
        with pytest.raises(PaceError):
            terminal.agree(point)

    def test_a_mapping_to_infinity(self) -> None:
        """A peer that knows the nonce can aim at it: its key is -s/sk times the base point."""
        parameters = STANDARDIZED[12]
        terminal = Party(P256_128, drawing("7", "9"))
        aimed = -5 * pow(7, -1, parameters.order) % parameters.order
        with pytest.raises(PaceError, match="infinity"):
            terminal.map((5).to_bytes(16), parameters.public_point(aimed))

    @pytest.mark.parametrize("length", [0, 1, 15, 17, 31])
    def test_a_nonce_that_is_not_whole_blocks(self, length: int) -> None:
        with pytest.raises(PaceError, match="nonce"):
            pace.open_nonce(bytes(16), bytes(length))

    @hostile
    @given(encrypted=st.binary(max_size=80))
    def test_any_chip_authentication_data(self, encrypted: bytes) -> None:
        terminal, card = agreed_with_mapping()
        key = STANDARDIZED[12].public_point(3)
        try:
            chip_data = terminal.open_chip_data(encrypted)
        except PaceError:
            return
        assert not pace.verify_chip_data(STANDARDIZED[12], chip_data, card.mapping_point, key)

    @pytest.mark.parametrize("chip_data", [b"", bytes(32), STANDARDIZED[12].order.to_bytes(32), b"\xff" * 32])
    def test_chip_authentication_data_out_of_range(self, chip_data: bytes) -> None:
        point = STANDARDIZED[12].public_point(3)
        assert not pace.verify_chip_data(STANDARDIZED[12], chip_data, point, point)

    def test_a_chip_key_that_is_no_point(self) -> None:
        point = STANDARDIZED[12].public_point(3)
        for chip_data in (bytes(32), b"\x01"):
            with pytest.raises(PaceError):
                pace.verify_chip_data(STANDARDIZED[12], chip_data, point, b"\x04" + bytes(64))

    @pytest.mark.parametrize("number", [None, 0, 2, 7, 19, 255])
    def test_domain_parameters_that_are_not_on_the_list(self, number: int | None) -> None:
        with pytest.raises(PaceError, match="not on the list"):
            Party(PaceInfo(P256_128.oid, 2, number), drawn_from(bytes(80)))

    @pytest.mark.parametrize("key_bytes", [0, 8, 20, 33])
    def test_key_lengths_that_no_suite_has(self, key_bytes: int) -> None:
        with pytest.raises(PaceError):
            PaceInfo.of(Mapping.GM, key_bytes, 12)

    @pytest.mark.parametrize("oid", ["", "04", "04007F00070202040201", "04007F00070202040402", "04007F000702020402"])
    def test_suites_that_are_not_spoken(self, oid: str) -> None:
        info = PaceInfo(octets(oid), 2, 12)
        assert not info.spoken
        with pytest.raises(PaceError, match="not spoken"):
            _ = info.mapping
        with pytest.raises(PaceError, match="not spoken"):
            _ = info.key_bytes


def card_access(*entries: str) -> bytes:
    return tlv.encode(0x31, b"".join(map(octets, entries)))


CHIP_AUTHENTICATION = "300F060A04007F00070202030204020101"
PARAMETERS_OF_ITS_OWN = "300D060904007F0007020204023000"


class TestCardAccess:
    def test_the_bytes_of_real_cards(self) -> None:
        estonian = octets("31143012060A04007F0007020204020402010202010C")
        assert pace.parse_card_access(estonian + bytes(42)) == (PaceInfo.of(Mapping.GM, 32, 12),)
        assert pace.card_access_length(estonian + bytes(42)) == len(estonian)
        (icao,) = pace.parse_card_access(octets(ICAO["inputs"]["ef_cardaccess"]))
        assert (icao, icao.mapping, icao.key_bytes) == (PaceInfo.of(Mapping.GM, 16, 13), Mapping.GM, 16)
        both = octets(
            "31283012060A04007F0007020204020202010202010D3012060A04007F0007020204060202010202010D",
        )
        assert [info.mapping for info in pace.parse_card_access(both)] == [Mapping.GM, Mapping.CAM]

    @pytest.mark.parametrize(
        "other",
        [
            CHIP_AUTHENTICATION,
            PARAMETERS_OF_ITS_OWN,
            "3012060A04007F0007020204040402010202010C",  # integrated mapping
            "3012060A04007F0007020204020102010202010C",  # triple DES
            "3012060A04007F0007020204010202010202010C",  # modulo a prime
            "3012060A04007F0007020204020402010102010C",  # version 1
            "3012060A04007F00070202040204020102020102",  # a group modulo a prime
            "300F060A04007F00070202040204020102",  # parameters that it does not name
            "3003060100",
        ],
        ids=["CA", "own", "IM", "3DES", "DH", "version 1", "MODP", "unnamed", "unknown"],
    )
    def test_what_is_not_spoken_is_skipped(self, other: str) -> None:
        spoken = PaceInfo.of(Mapping.GM, 32, 12)
        assert pace.parse_card_access(card_access(other)) == ()
        assert pace.parse_card_access(card_access(other, PACE_INFO_GM_AES_256_P256)) == (spoken,)
        assert pace.parse_card_access(card_access(PACE_INFO_GM_AES_256_P256, other)) == (spoken,)

    @given(infos=st.lists(st.sampled_from(SUITES), max_size=20), padding=st.integers(0, 64))
    def test_what_is_encoded_is_parsed(self, infos: list[PaceInfo], padding: int) -> None:
        encoded = pace.encode_card_access(infos)
        assert pace.parse_card_access(encoded + bytes(padding)) == tuple(infos)
        assert pace.card_access_length(encoded[:4]) == len(encoded)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x31",
            octets("3014"),
            octets("30143012060A04007F0007020204020402010202010C"),
            octets("3180"),
            octets("3183000014") + octets(PACE_INFO_GM_AES_256_P256),
            octets("31821000"),
            card_access(PACE_INFO_GM_AES_256_P256)[:-1],
            card_access(PACE_INFO_GM_AES_256_P256) + b"\x01",
            card_access(PACE_INFO_GM_AES_256_P256) + b"\x00\xff",
            card_access("020101"),
            card_access("3000"),
            card_access("3003020101"),
            card_access("3005060A04007F"),
            card_access("300C060A04007F00070202040204"),
            card_access("3015060A04007F0007020204020402010202010C020101"),
            card_access("3012060A04007F0007020204020404010202010C"),
            card_access("3011060A04007F00070202040204020002010C"),
        ],
        ids=[
            "nothing",
            "a tag",
            "a head",
            "no SET",
            "indefinite",
            "three length bytes",
            "4 KiB",
            "cut short",
            "a byte that follows",
            "a byte after padding",
            "no SEQUENCE",
            "an empty SEQUENCE",
            "no identifier",
            "an identifier cut short",
            "no version",
            "three numbers",
            "octets for a number",
            "an empty number",
        ],
    )
    def test_malformed(self, content: bytes) -> None:
        with pytest.raises(PaceError):
            pace.parse_card_access(content)

    @hostile
    @given(content=st.binary(max_size=80) | st.binary(max_size=60).map(lambda inner: tlv.encode(0x31, inner)))
    def test_any_octets(self, content: bytes) -> None:
        try:
            infos = pace.parse_card_access(content)
        except PaceError:
            return
        assert all(info.spoken for info in infos)

    def test_the_preferred_suite(self) -> None:
        short, long = PaceInfo.of(Mapping.GM, 16, 12), PaceInfo.of(Mapping.GM, 32, 12)
        chip = PaceInfo.of(Mapping.CAM, 16, 12)
        assert pace.preferred([short, long]) == long
        assert pace.preferred([long, chip, short]) == chip
        with pytest.raises(PaceError):
            pace.preferred([])

"""The certificate directory of a DNIe and the certificate that it leads to: where it is found, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import tlv
from tests.dnie_cards import (
    HOLDER,
    contents,
    entry,
    in_slot,
)
from tests.hostile import hostile
from tests.validator.dnie_taps import SLOT, Tapped
from validator.model import Assurance, Scheme
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    ProfileError,
)
from validator.proof import IdCertificate


def directory(*entries: bytes) -> bytes:
    return b"".join(entries)


def described(label: str = "CertAutenticacion", path: str = "3F0060817004", *, attributes: int = 0xA1) -> bytes:
    octets = bytes.fromhex(path)
    common = tlv.encode(0x30, tlv.encode(0x0C, label.encode()))
    inner = tlv.encode(0x30, tlv.encode(0x30, tlv.encode(0x04, octets)) + HOLDER.public_bytes())
    return tlv.encode(0x30, common + tlv.encode(0x30, tlv.encode(0x04, b"\1")) + tlv.encode(attributes, inner))


class TestDirectory:
    @pytest.mark.parametrize(
        "content",
        [
            described(),
            described(path="60817004"),
            directory(described("CertFirmaDigital", "3F0060817005"), described(), bytes(100)),
            directory(described(), described(path="3F009999")),  # the first one counts
            directory(described("CertCAIntermediaDGP", "3F0060617006"), described(), b"\xff" * 3),
        ],
        ids=["whole", "relative", "second", "twice", "followed"],
    )
    def test_where_the_certificate_is(self, content: bytes) -> None:
        card = contents(component=None, directory=content)
        assert Tapped(in_slot(card)).tap(**SLOT).shown == IdCertificate(Scheme.SPAIN, entry().certificate)

    @pytest.mark.parametrize(
        "content",
        [
            bytes(10),
            b"\xff" * 10,
            described("CertFirmaDigital"),
            described("certautenticacion"),
            described(path=""),
            described(path="3F00"),
            described(path="3F006081 70"),
            described(path="3F003F007004"),
            described(path="3F00" + "6081" * 5),
            described(attributes=0xA0),
            described()[:-1],
            b"\x30\x84\0\0\0\1\0",
            b"\x30\x82\x7f\xff\0",
            tlv.encode(0x30, b"\x0c"),
            tlv.encode(0x30, b""),
            directory(bytes(1), described()),
        ],
        ids=lambda _content: "case",
    )
    def test_tampered(self, content: bytes) -> None:
        with pytest.raises(CardMalformed):
            Tapped(in_slot(contents(component=None, directory=content))).tap(**SLOT)

    def test_a_path_that_leads_nowhere(self) -> None:
        with pytest.raises(CardRefused) as caught:
            Tapped(in_slot(contents(component=None, directory=described(path="3F0060819999")))).tap(**SLOT)
        assert caught.value.sw == 0x6A82

    @pytest.mark.parametrize(
        "change",
        [
            lambda octets: octets[:8],
            lambda octets: octets[:7],
            lambda octets: octets[:-1],
            lambda octets: (1).to_bytes(4, "little") + octets[4:],
            lambda octets: (2**31).to_bytes(4, "little") + octets[4:],
            lambda octets: octets[:4] + bytes(4) + octets[8:],
            lambda octets: octets[:4] + (len(octets) - 9).to_bytes(4, "little") + octets[8:],
            lambda octets: octets[:8] + b"\0" + octets[9:],
            lambda octets: octets[:40] + b"\x55" * 40 + octets[80:],
            lambda octets: b"\x30\x82\x7f\xff" + octets,
        ],
    )
    def test_a_certificate_file_that_cannot_be_unpacked(self, change: Callable[[bytes], bytes]) -> None:
        chip = in_slot(contents(component=None))
        files = dict(chip._files)
        files[entry().path] = change(files[entry().path])
        chip._files = files
        with pytest.raises(CardMalformed):
            Tapped(chip).tap(**SLOT)

    @hostile
    @given(content=st.binary(min_size=1, max_size=200))
    def test_any_bytes_are_no_directory(self, content: bytes) -> None:
        with pytest.raises(ProfileError):
            Tapped(in_slot(contents(component=None, directory=content))).tap(**SLOT)

    @given(at=st.integers(0, 400), flip=st.integers(1, 255))
    def test_a_changed_byte_leads_to_the_certificate_or_nowhere(self, at: int, flip: int) -> None:
        changed = bytearray(described())
        changed[at % len(changed)] ^= flip
        card = contents(component=None, directory=bytes(changed))
        try:
            proof = Tapped(in_slot(card)).tap(**SLOT)
        except ProfileError:
            return
        assert proof.assurance is Assurance.CLAIMED
        assert isinstance(proof.shown, IdCertificate)

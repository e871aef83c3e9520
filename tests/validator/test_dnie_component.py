"""The component certificates of a DNIe: which chains hold, and which answers; then every way that they do not."""

import datetime as dt
import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from hardware import cwa14890
from tests.dnie_cards import NEW, OLD, SINCE, UNTIL, Issuers, certificate, key, name, with_sha1
from tests.hostile import hostile
from tests.validator.authority import usage
from validator import dnie_component
from validator.certificates import CertificateError, KeyUnsupportedError, credential_id, spki_of
from validator.dnie_component import Component, answered
from validator.model import Reason
from validator.proof import DnieComponent, Recovered

ISSUERS = Issuers()
ROOTS = (ISSUERS.root.public_key(),)
CHIP, ISSUER = ISSUERS.chip(), ISSUERS.issuer()
MESSAGE = b"gate, time, nonce"
CERT_SIGN, SIGN = usage(certify=True), usage(sign=True)
DAY = dt.timedelta(days=1)


def judge(
    chip: bytes = CHIP, issuer: bytes = ISSUER, roots: tuple[rsa.RSAPublicKey, ...] = ROOTS
) -> Component | Reason:
    return dnie_component.judge(DnieComponent(chip, issuer), roots)


def seconds(moment: dt.datetime) -> int:
    return int(moment.timestamp())


class TestChain:
    def test_the_chips_key_and_who_vouches_for_it(self) -> None:
        found = judge()
        assert isinstance(found, Component)
        assert found.key.public_numbers() == key("chip").public_key().public_numbers()
        assert dnie_component.chip_key(CHIP).public_numbers() == found.key.public_numbers()
        assert found.spki == spki_of(key("chip").public_key())
        assert found.issuer_id == credential_id(spki_of(ISSUERS.issuer_key.public_key()))
        assert (found.not_before, found.not_after) == (seconds(SINCE), seconds(UNTIL))

    @pytest.mark.parametrize("older", ["chip", "issuer", "both"])
    def test_signatures_with_sha1_are_taken_here(self, older: str) -> None:
        chip = with_sha1(CHIP, ISSUERS.issuer_key) if older != "issuer" else CHIP
        issuer = with_sha1(ISSUER, ISSUERS.root) if older != "chip" else ISSUER
        assert isinstance(judge(chip, issuer), Component)

    @pytest.mark.parametrize("extensions", [(), ((SIGN, True),), ((SIGN, False),)])
    @pytest.mark.parametrize("authority", [None, False])
    def test_what_a_card_may_say_of_itself(self, extensions: Any, *, authority: bool | None) -> None:
        assert isinstance(judge(ISSUERS.chip(authority=authority, extensions=extensions)), Component)

    @pytest.mark.parametrize("extensions", [(), ((CERT_SIGN, True),)])
    @pytest.mark.parametrize("authority", [None, True])
    def test_what_an_issuer_may_say_of_itself(self, extensions: Any, *, authority: bool | None) -> None:
        assert isinstance(judge(issuer=ISSUERS.issuer(authority=authority, extensions=extensions)), Component)

    def test_the_dates_are_those_of_both(self) -> None:
        chip = ISSUERS.chip(valid=(SINCE + DAY, UNTIL + DAY))
        issuer = ISSUERS.issuer(valid=(SINCE - DAY, UNTIL))
        found = judge(chip, issuer)
        assert isinstance(found, Component)
        assert (found.not_before, found.not_after) == (seconds(SINCE + DAY), seconds(UNTIL))

    def test_any_of_the_roots_will_do(self) -> None:
        other = key("another root").public_key()
        assert isinstance(judge(roots=(other, *ROOTS)), Component)

    def test_a_larger_key(self) -> None:
        assert isinstance(judge(ISSUERS.chip(public=key("large chip", 2048).public_key())), Component)


class TestNoChain:
    @pytest.mark.parametrize("roots", [(), (key("another root").public_key(),), (ISSUERS.issuer_key.public_key(),)])
    def test_a_root_that_nobody_accepted(self, roots: tuple[rsa.RSAPublicKey, ...]) -> None:
        assert judge(roots=roots) is Reason.UNTRUSTED_ISSUER

    def test_the_published_roots_vouch_for_nothing_of_ours(self) -> None:
        roots = tuple(terminal.root.public_key() for terminal in (OLD, NEW))
        assert judge(roots=roots) is Reason.UNTRUSTED_ISSUER

    @pytest.mark.parametrize(
        ("chip", "issuer"),
        [
            (ISSUERS.chip(signer=key("thief")), ISSUER),
            (CHIP, ISSUERS.issuer(signer=key("thief"))),
            (CHIP, Issuers(label="thief").issuer()),
            (Issuers(label="thief").chip(), ISSUER),
            (ISSUERS.chip(issuer=name("AC COMPONENTES", "another")), ISSUER),
            (ISSUERS.chip(signer=ISSUERS.root, issuer=ISSUERS.root_name), ISSUER),
            (ISSUER, ISSUER),
            (CHIP, CHIP),
            (ISSUER, CHIP),
        ],
        ids=lambda _octets: "case",
    )
    def test_signed_by_somebody_else(self, chip: bytes, issuer: bytes) -> None:
        assert judge(chip, issuer) is Reason.UNTRUSTED_ISSUER

    def test_a_certificate_of_a_chip_is_no_issuer(self) -> None:
        """Whoever got a chip's key out of its card could certify others with it."""
        below = certificate(name("COMPONENTES", "x"), key("thief").public_key(), name("COMPONENTES", "y"), key("chip"))
        chip_as_issuer = certificate(
            name("COMPONENTES", "y"), key("chip").public_key(), ISSUERS.root_name, ISSUERS.root, authority=False
        )
        assert judge(below, chip_as_issuer) is Reason.WRONG_KEY_USAGE

    @pytest.mark.parametrize(
        ("chip", "issuer"),
        [
            (ISSUERS.chip(authority=True), ISSUER),
            (ISSUERS.chip(extensions=((CERT_SIGN, True),)), ISSUER),
            (CHIP, ISSUERS.issuer(authority=False)),
            (CHIP, ISSUERS.issuer(extensions=((SIGN, True),))),
        ],
        ids=lambda _octets: "case",
    )
    def test_made_for_something_else(self, chip: bytes, issuer: bytes) -> None:
        assert judge(chip, issuer) is Reason.WRONG_KEY_USAGE

    def test_a_critical_extension_that_is_not_known(self) -> None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        with pytest.raises(CertificateError, match="critical"):
            judge(ISSUERS.chip(extensions=((unknown, True),)))
        assert isinstance(judge(ISSUERS.chip(extensions=((unknown, False),))), Component)

    def test_a_key_of_another_kind(self) -> None:
        elliptic = (
            x509.CertificateBuilder()
            .subject_name(name("COMPONENTES", "x"))
            .issuer_name(ISSUERS.issuer_name)
            .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
            .serial_number(1)
            .not_valid_before(SINCE)
            .not_valid_after(UNTIL)
            .sign(ISSUERS.issuer_key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        for chip in (elliptic, ISSUERS.chip(public=key("odd", 1536).public_key())):
            with pytest.raises(KeyUnsupportedError):
                judge(chip)
            with pytest.raises(KeyUnsupportedError):
                dnie_component.chip_key(chip)

    def test_a_signature_of_another_kind(self) -> None:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("COMPONENTES", "x"))
            .issuer_name(ISSUERS.issuer_name)
            .public_key(key("chip").public_key())
            .serial_number(1)
            .not_valid_before(SINCE)
            .not_valid_after(UNTIL)
        )
        pss = builder.sign(
            ISSUERS.issuer_key, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        ).public_bytes(Encoding.DER)
        with pytest.raises(KeyUnsupportedError):
            judge(pss)

    @pytest.mark.parametrize(
        "octets",
        [b"", b"\x30\x00", CHIP[:-1], CHIP + b"\0", bytes(5000)],
        ids=["none", "empty", "cut", "followed", "large"],
    )
    def test_bytes_that_are_no_certificate(self, octets: bytes) -> None:
        for shown in ((octets, ISSUER), (CHIP, octets)):
            with pytest.raises(CertificateError):
                judge(*shown)

    def test_a_signature_that_is_not_whole_bytes(self) -> None:
        """The one octet that the signature does not cover; where the bit it takes away is set, it is no DER either."""
        for der in (CHIP, ISSUER):
            changed = der[:-129] + b"\1" + der[-128:]
            assert der[-129:-128] == b"\0"
            with pytest.raises(CertificateError):
                judge(changed if der is CHIP else CHIP, changed if der is ISSUER else ISSUER)

    @hostile
    @given(octets=st.binary(max_size=200), first=st.booleans())
    def test_any_bytes_are_refused(self, octets: bytes, *, first: bool) -> None:
        with pytest.raises(CertificateError):
            judge(octets if first else CHIP, ISSUER if first else octets)

    @given(at=st.integers(0, 2000), flip=st.integers(1, 255), first=st.booleans())
    def test_a_changed_byte_is_never_vouched_for(self, at: int, flip: int, *, first: bool) -> None:
        changed = bytearray(CHIP if first else ISSUER)
        changed[at % len(changed)] ^= flip
        shown = (bytes(changed), ISSUER) if first else (CHIP, bytes(changed))
        try:
            assert isinstance(judge(*shown), Reason)
        except CertificateError:
            return


class TestUnits:
    @pytest.mark.parametrize("terminal", [OLD, NEW], ids=lambda terminal: terminal.unit)
    def test_the_issuer_of_the_issuer_names_the_root(self, terminal: cwa14890.TerminalKeys) -> None:
        assert dnie_component.root_units(Issuers(terminal).issuer()) == ("DNIE", terminal.unit)

    @hostile
    @given(octets=st.binary(max_size=100))
    def test_any_bytes_are_refused(self, octets: bytes) -> None:
        with pytest.raises(CertificateError):
            dnie_component.root_units(octets)
        with pytest.raises(CertificateError):
            dnie_component.chip_key(octets)


def evidence(signer: str = "chip", message: bytes = MESSAGE, serial: bytes = NEW.serial) -> Recovered:
    numbers = key(signer).private_numbers()
    asked = cwa14890.challenge_of(message) + serial
    sent = cwa14890.answer((numbers.public_numbers.n, numbers.d), NEW.key, asked, bytes(32), os.urandom)
    return Recovered(message, serial, NEW.open(sent, 128))


class TestAnswered:
    def test_the_chip_answered(self) -> None:
        assert answered(key("chip").public_key(), evidence())

    @pytest.mark.parametrize(
        "wrong",
        [
            evidence("thief"),
            Recovered(b"another message", NEW.serial, evidence().signature),
            Recovered(MESSAGE, OLD.serial, evidence().signature),
            Recovered(MESSAGE, NEW.serial, evidence(message=b"an earlier challenge").signature),
            Recovered(MESSAGE, NEW.serial, evidence(serial=OLD.serial).signature),
            Recovered(MESSAGE, NEW.serial, bytes(128)),
            Recovered(MESSAGE, NEW.serial, b""),
            Recovered(MESSAGE, b"", evidence().signature),
        ],
        ids=["thief", "message", "serial", "replayed", "other serial", "zeros", "nothing", "no serial"],
    )
    def test_it_did_not(self, wrong: Recovered) -> None:
        assert not answered(key("chip").public_key(), wrong)

    @given(signature=st.binary(max_size=130), serial=st.binary(max_size=9), message=st.binary(max_size=9))
    def test_any_bytes_are_no_answer(self, signature: bytes, serial: bytes, message: bytes) -> None:
        assert not answered(key("chip").public_key(), Recovered(message, serial, signature))

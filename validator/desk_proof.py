"""What a desk says of a card that it read (`validator read --desk`): whose document it is, or only that it was here.

A person is named by a document that proved itself and tells an identifier, and by nothing less:

- the certificate of a national identity card, whose key signed after the PIN: the number that it names its holder by;
  in Japan, where it names nobody, its own number;
- a travel document whose chip proved itself: its issuing state, kind and number, which the state signed. A state may
  give a passport and an identity card the same number.

Every other card proves its chip and no person: those that an operator issues, a MyNumber card by its surface
application, and the chip of a DNIe, which nothing ties to the person whose name is beside it.

The identifier goes from here into the keyed hash and nowhere else.
"""

from collections.abc import Callable

from hardware import lds
from hardware.lds import DG1, LdsError, Mrz
from validator import dni, estonian_certificate, jpki_certificate
from validator.certificates import CertificateError, load_certificate
from validator.model import Assurance, Identity, Reason, Scheme
from validator.person_key import IdentifierError, serial_identifier
from validator.proof import IdCertificate, TravelDocument
from validator.proof_report import Desk, ProvedCard, ProvedPerson, report
from validator.reading import AUTHENTIC, Reading
from validator.reason_words import REASON_WORDS


class NotProvedError(Exception):
    """The card proved too little for a desk to speak of it; the message says what to do, and nothing of the card."""


def signed_line(found: Reading, desk: Desk, proved_ms: int, random: Callable[[int], bytes]) -> str:
    """Write what a desk says of a card that it read: one line for the back office, without its end.

    Args:
        found: What the card showed.
        desk: Who says so.
        proved_ms: When, milliseconds since 1970 UTC.
        random: Returns that many octets of the operating system's randomness.

    Raises:
        NotProvedError: The card did not prove its chip.
        IdentifierError: What the document tells is no identifier of its scheme.
    """
    return report(proved(found), desk, proved_ms, random)


def proved(found: Reading) -> ProvedPerson | ProvedCard:
    """Name the person whose document was read; of any other card, the card.

    Raises:
        NotProvedError: The card did not prove its chip.
        IdentifierError: What the document tells is no identifier.
    """
    who = found.who
    if not isinstance(who, Identity) or found.verdict != AUTHENTIC:
        raise NotProvedError(f"nothing is written for the back office: {_why(found)}")
    card = ProvedCard(who.profile, who.assurance, who.credential_id)
    if who.document is None or not isinstance(found.shown, IdCertificate | TravelDocument):
        return card
    return ProvedPerson(card, _identifier(found.shown), _scheme(found.shown), who.document)


def _why(found: Reading) -> str:
    if found.assurance is None:
        return REASON_WORDS[Reason[found.verdict]]
    what = f"the card proved {found.assurance}, and {Assurance.CHIP.name} is the least"
    return f"{what}: have its PIN entered (--pin -), or bring a card that proves its chip"


def _scheme(shown: IdCertificate | TravelDocument) -> Scheme | None:
    return shown.scheme if isinstance(shown, IdCertificate) else None


def _identifier(shown: IdCertificate | TravelDocument) -> str:
    try:
        return _number_in(shown)
    except (CertificateError, LdsError, KeyError):
        raise IdentifierError("what the document tells is no identifier: nobody can be known by it") from None


def _number_in(shown: IdCertificate | TravelDocument) -> str:
    if isinstance(shown, TravelDocument):
        return _number_of(lds.parse_dg1(shown.groups[DG1]))
    match shown.scheme:
        case Scheme.ESTONIA:
            return estonian_certificate.holder_of(load_certificate(shown.der)).personal_code.digits
        case Scheme.SPAIN:
            return dni.of_certificate(load_certificate(shown.der))
        case Scheme.JAPAN:
            read = jpki_certificate.read(shown.der)
            return serial_identifier(read.authority, int(read.serial, 16))


def _number_of(mrz: Mrz) -> str:
    """State, document code and number; the code is letters alone, so that a zero fills its second place."""
    if not (mrz.code.isascii() and mrz.code.isalpha()):
        raise IdentifierError("what the document tells is no identifier: its code is no code")
    return f"{mrz.issuer}-{mrz.code.ljust(2, '0')}{mrz.number}"

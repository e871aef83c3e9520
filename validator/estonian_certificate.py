"""What the certificate of an Estonian identity card says of its holder: the personal code, and the kind of document.

The code is the subject's serialNumber: ``PNOEE-38001085718`` since 2018 (EN 319 412-1 §5.1.3), the bare digits before.
The order of the attributes changed from one issuer to the next, and the common name carries commas of its own, so that
names are read attribute by attribute and never as one string.

The kind of document is a certificate policy. Who issued the certificate is not looked at here: a policy means something
only in a certificate whose chain holds, and a test policy (`EstonianHolder.test`) nothing at all on a real gate.

===================================  ===========  ============================================================
policy                               document     how sure
===================================  ===========  ============================================================
``1.3.6.1.4.1.51361.1.1.n`` (2018)                n = 1 was read from certificates; the rest of 2018 stands in
                                                  the allow lists of the state's guide to web servers
  1, 2                               ID-card      citizen; citizen of the European Union
  3                                  Digi-ID      of a resident; 3 and 4 as the state's DigiDoc4 has them
  4                                  Digi-ID      of an e-resident
  5, 6, 7                            residence    long-term, temporary, family member of a citizen of the Union
``1.3.6.1.4.1.51361.2.1.n`` (2025)                from that guide and from a map of the two generations which
                                                  nobody has verified against real cards but for n = 1
  1, 2                               ID-card      citizen; citizen of the European Union
  3, 4, 5                            residence    long-term, temporary, family member of a citizen of the Union
  6                                  Digi-ID      of an e-resident
``1.3.6.1.4.1.51455.{1,2}.1.1``      diplomat     from that guide
``1.3.6.1.4.1.10015.1.1`` (to 2018)  ID-card      of a citizen or of a resident: it does not say
``1.3.6.1.4.1.10015.1.2`` (to 2018)  Digi-ID      of an e-resident where the organisation's name says so
===================================  ===========  ============================================================

Test issuers write ``.2`` in place of the ``.1`` before n (2018), ``2.999.`` before the whole (2025), or ``10015.3`` in
place of ``10015.1``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from validator import personal_code
from validator.certificates import HOSTILE, CertificateError
from validator.model import DocumentType
from validator.personal_code import PersonalCode, PersonalCodeError

_NATURAL_PERSON = "PNOEE-"
_TEST_PREFIX = "2.999."
_POLICE, _FOREIGN_AFFAIRS, _SK = "1.3.6.1.4.1.51361", "1.3.6.1.4.1.51455", "1.3.6.1.4.1.10015"
_E_RESIDENT = "E-RESIDENT"

_OF_2018 = (
    DocumentType.CITIZEN,
    DocumentType.EU_CITIZEN,
    DocumentType.RESIDENT,
    DocumentType.E_RESIDENT,
    DocumentType.RESIDENT,
    DocumentType.RESIDENT,
    DocumentType.RESIDENT,
)
_OF_2025 = (
    DocumentType.CITIZEN,
    DocumentType.EU_CITIZEN,
    DocumentType.RESIDENT,
    DocumentType.RESIDENT,
    DocumentType.RESIDENT,
    DocumentType.E_RESIDENT,
)


def _numbered(arc: str, types: tuple[DocumentType, ...]) -> dict[str, DocumentType]:
    return {f"{arc}.{number}": kind for number, kind in enumerate(types, 1)}


_DOCUMENTS: Mapping[str, DocumentType] = MappingProxyType(
    _numbered(f"{_POLICE}.1.1", _OF_2018)
    | _numbered(f"{_POLICE}.2.1", _OF_2025)
    | {f"{_FOREIGN_AFFAIRS}.{generation}.1.1": DocumentType.DIPLOMAT for generation in (1, 2)}
)
_TEST_DOCUMENTS: Mapping[str, DocumentType] = MappingProxyType(
    _numbered(f"{_POLICE}.1.2", _OF_2018)
    | {f"{_FOREIGN_AFFAIRS}.1.2.1": DocumentType.DIPLOMAT}
    | {_TEST_PREFIX + policy: kind for policy, kind in _DOCUMENTS.items()}
)


@dataclass(frozen=True, slots=True)
class EstonianHolder:
    """What a certificate says of its holder, as far as it can be believed.

    Attributes:
        personal_code: Names the person. `repr` leaves it out.
        document_type: The kind of document; `UNKNOWN` where the policies name none, or two that differ.
        test: Whether a policy is one of a test issuer's.
    """

    personal_code: PersonalCode = field(repr=False)
    document_type: DocumentType
    test: bool


def holder_of(certificate: x509.Certificate) -> EstonianHolder:
    """Read what a certificate of SK ID Solutions or Zetes says of its holder.

    Args:
        certificate: An authentication or a signing certificate. Nothing of it is verified here.

    Raises:
        CertificateError: The subject or the policies cannot be read, or there is not one personal code of Estonia.
    """
    try:
        serial_numbers = _values(certificate.subject, NameOID.SERIAL_NUMBER)
        organisations = _values(certificate.subject, NameOID.ORGANIZATION_NAME)
        policies = _policies(certificate)
    except HOSTILE as error:
        raise CertificateError(f"a subject or policies that cannot be read: {type(error).__name__}") from None
    if len(serial_numbers) != 1:
        raise CertificateError(f"a subject with {len(serial_numbers)} serial numbers")
    try:
        code = personal_code.parse(serial_numbers[0].removeprefix(_NATURAL_PERSON))
    except PersonalCodeError as error:
        raise CertificateError(f"the subject's serial number: {error}") from None
    return EstonianHolder(code, *_document(policies, organisations))


def _values(name: x509.Name, oid: ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]


def _policies(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.CertificatePolicies)
    except x509.ExtensionNotFound:
        return []
    return [information.policy_identifier.dotted_string for information in extension.value]


def _document(policies: list[str], organisations: list[str]) -> tuple[DocumentType, bool]:
    """Name the document, and whether it is a test issuer's."""
    kinds = {_DOCUMENTS[policy] for policy in policies if policy in _DOCUMENTS}
    test_kinds = {_TEST_DOCUMENTS[policy] for policy in policies if policy in _TEST_DOCUMENTS}
    for arc, found in ((f"{_SK}.1", kinds), (f"{_SK}.3", test_kinds)):
        if any(_under(policy, f"{arc}.1") for policy in policies):
            found.add(DocumentType.UNKNOWN)
        if any(_under(policy, f"{arc}.2") for policy in policies):
            abroad = any(_E_RESIDENT in organisation for organisation in organisations)
            found.add(DocumentType.E_RESIDENT if abroad else DocumentType.RESIDENT)
    named = kinds | test_kinds
    return named.pop() if len(named) == 1 else DocumentType.UNKNOWN, bool(test_kinds)


def _under(policy: str, arc: str) -> bool:
    """Whether a policy is the arc or below it: policies before 2018 carried a version behind."""
    return policy == arc or policy.startswith(arc + ".")

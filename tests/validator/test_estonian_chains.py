"""Published test cards lead to the test issuers, through P-521 and P-384, and nowhere from the real ones."""

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from validator.certificates import load_certificate
from validator.chains import IDENTITY_CARD, Issuers, UntrustedIssuerError
from validator.estonian_issuers import issuers_of_test_cards, production_issuers

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "estonian_certificates.json").read_text()
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_a_published_card_leads_to_its_own_issuers_only(vector: dict[str, Any]) -> None:
    certificate = load_certificate(base64.b64decode(vector["certificate"]))
    at_s = int(dt.datetime.fromisoformat(vector["at"]).replace(tzinfo=dt.UTC).timestamp())
    real, test = production_issuers(), issuers_of_test_cards()
    with pytest.raises(UntrustedIssuerError):
        Issuers(real.anchors, real.intermediates, IDENTITY_CARD).chain(certificate, at_s)
    ours = Issuers(test.anchors, test.intermediates, IDENTITY_CARD)
    if vector["issuer"] is None:
        with pytest.raises(UntrustedIssuerError):
            ours.chain(certificate, at_s)
    else:
        chain = ours.chain(certificate, at_s)
        assert chain.not_before <= at_s <= chain.not_after

"""Reads the EstEID card in a PC/SC reader as a desk does, and prints what came: ``esteid3_session.py READER PIN``."""

import asyncio
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from hardware.pcsc import PcscReader
from tests.validator.estonian_cards import attempting, tap
from validator.certificates import certificate_key, load_certificate
from validator.dialogue import Traffic
from validator.estonian_certificate import holder_of
from validator.proof import CardProof, IdCertificate, Signed


def holds(proof: CardProof) -> bool:
    assert isinstance(proof.shown, IdCertificate)
    assert isinstance(proof.evidence, Signed)
    key = certificate_key(load_certificate(proof.shown.der))
    signature, challenge = proof.evidence.signature, proof.evidence.challenge
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, challenge, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, challenge, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


async def main(name: str, pin: str) -> None:
    reader, traffic = PcscReader(f"pcsc:{name}"), Traffic()
    await reader.open()
    try:
        medium = await reader.wait()
        proof = await medium.converse(lambda carry: tap(carry, attempting(pin), traffic))
        assert isinstance(proof.shown, IdCertificate)
        facts = {
            "technology": medium.target.technology.value,
            "assurance": proof.assurance.name,
            "holds": holds(proof),
            "personal_code": holder_of(load_certificate(proof.shown.der)).personal_code.digits,
            "apdus": traffic.apdus,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    finally:
        await reader.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

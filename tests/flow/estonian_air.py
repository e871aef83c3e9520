"""An Estonian identity card of 2018 on nfcpy's simulated air, and who issued it; good on the day of the test."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.esteid2018 import EstEid2018Chip
from tests.validator.authority import DAY, Authority
from tests.validator.dual_interface_cards import CAN, PIN, RESIDENT
from tests.validator.estonian_cards import NCP_PLUS, Form, extensions, subject
from validator.certificates import credential_id, spki_of
from validator.model import Scheme

POLICY = "1.3.6.1.4.1.51361.1.1"
CITIZEN, E_RESIDENT = f"{POLICY}.1", f"{POLICY}.4"


@dataclass(frozen=True)
class EstonianCard:
    """A card of `tests.validator.estonian_cards`'s invented holder."""

    chip: EstEid2018Chip
    credential_id: bytes

    def on_air(self) -> AirCard:
        return AirCard(self.chip, Technology.TYPE_A)


@dataclass(frozen=True)
class Estonia:
    """The issuer."""

    authority: Authority
    now: dt.datetime

    @classmethod
    def today(cls) -> "Estonia":
        now = dt.datetime.now(dt.UTC)
        return cls(Authority.root("Issuer of nobody", since=now - 10 * DAY, until=now + 365 * DAY), now)

    def issue(self, policy: str = CITIZEN) -> EstonianCard:
        key = ec.generate_private_key(ec.SECP384R1())
        der = self.authority.issue(
            key,
            since=self.now - DAY,
            until=self.now + 30 * DAY,
            subject=subject(Form.OF_2018),
            extensions=extensions(policy, NCP_PLUS),
        )
        return EstonianCard(
            EstEid2018Chip(key, der, RESIDENT, can=CAN, pin=PIN), credential_id(spki_of(key.public_key()))
        )

    def write(self, path: Path) -> Path:
        """Write the issuer's certificate."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))
        return path

    def trusted_in(self, trust: Path) -> None:
        """Have `validator read --trust` believe it."""
        self.write(trust / Scheme.ESTONIA.value / "root.pem")


@asynccontextmanager
async def held(card: AirCard) -> AsyncIterator[str]:
    """Hold a card against a simulated reader, and give the reader's name."""
    air = await Field.open()
    try:
        air.place(card)
        yield f"nfcpy:{air.path}"
    finally:
        await air.close()

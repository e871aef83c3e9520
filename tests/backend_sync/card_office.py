"""An office that issues cards, for tests: it opens everything anew for each run, and may end at any point of one."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7
from sqlalchemy import select

from backend_sync import enrolment, issuing, personalisation_file
from backend_sync.accounts_file import AccountsFile
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import KeyCheck
from backend_sync.issuing import Batch, Bound, Issuer
from backend_sync.issuing_tables import BINDING, CREDENTIAL, PERSONALISATION
from backend_sync.ledger import Ledger
from tests.backend_sync import card_bureau
from tests.backend_sync.card_bureau import KEY, packing, write_accounts
from tests.backend_sync.gate import DAWN_MS
from validator.certificates import token_id

ACCOUNTS = [f"account-{number}" for number in range(5)]
BATCH = Batch("letters", CardFamily.NTAG424, (KeyCheck(KEY.name, KEY.version, KEY.check_value),))
PACKING = packing()


class Died(BaseException):
    """The process ended here."""


@dataclass
class Office:
    """One folder with a ledger; each run opens everything anew, as a process would."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        Ledger.open(self.url, create=True).close()
        write_accounts(self.accounts, ACCOUNTS)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"

    @property
    def accounts(self) -> Path:
        return self.folder / "accounts.csv"

    @property
    def home(self) -> Path:
        return self.folder / "out" / BATCH.name

    def run(self, batch: Batch = BATCH, out: str = "out") -> tuple[Bound, Path | None]:
        with AccountsFile.open(self.accounts) as file, self.issuer() as issuer:
            bound = issuer.bind(file, batch)
            return bound, issuer.write(bound.order, PACKING, self.folder / out)

    def issuer(self) -> "OpenIssuer":
        return OpenIssuer(self.url)

    def rows(self, folder: Path | None = None) -> list[dict[str, str]]:
        """What the bureau reads."""
        home = folder or self.home
        rows: list[dict[str, str]] = []
        for part in json.loads((home / "manifest.json").read_bytes())["records"]:
            sealed = (home / part["file"]).read_bytes()
            plain = pkcs7.pkcs7_decrypt_der(sealed, card_bureau.bureau(), card_bureau.bureau_key(), [])
            rows += csv.DictReader(io.StringIO(plain.decode()))
        return rows

    def assert_whole(self) -> None:
        """The files are the ledger, the ledger is the accounts, each of them once, and nothing else lies about."""
        rows = self.rows()
        with Ledger.open(self.url) as ledger, ledger.reading() as connection:
            bound = connection.execute(select(BINDING).order_by(BINDING.c.serial)).all()
            kept = connection.execute(select(PERSONALISATION).order_by(PERSONALISATION.c.serial)).all()
            ids = connection.execute(select(CREDENTIAL.c.id).order_by(CREDENTIAL.c.serial)).scalars().all()
        assert [(row.serial, row.account, row.state) for row in bound] == [
            (serial, account, 1) for serial, account in enumerate(ACCOUNTS, 1)
        ]
        said = [(int(row["serial"]), bytes.fromhex(row["token"]), row["reference"]) for row in rows]
        assert said == [
            (row.serial, row.token, f"parcel-{account}") for row, account in zip(kept, ACCOUNTS, strict=True)
        ]
        assert {row["key_version"] for row in rows} == {str(KEY.version)}
        assert ids == [token_id("ntag424", token) for _, token, _ in said]
        assert len(set(ids)) == len(ACCOUNTS)
        assert [path.name for path in (self.folder / "out").iterdir()] == [BATCH.name]


class OpenIssuer:
    def __init__(self, url: str) -> None:
        self._ledger = Ledger.open(url)

    def __enter__(self) -> Issuer:
        return Issuer(self._ledger, lambda: DAWN_MS, os.urandom)

    def __exit__(self, *exc: object) -> None:
        self._ledger.close()


def in_small_pieces(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(issuing, "CHUNK", 2)
    patch.setattr(issuing, "give_way", lambda: None)
    patch.setattr(personalisation_file, "RECORDS_PER_FILE", 2)


HOOKS: tuple[tuple[Any, str], ...] = (
    (enrolment, "begin_order"),
    (enrolment, "issue"),
    (enrolment, "finish"),
    (issuing, "give_way"),
    (shutil, "rmtree"),
    (personalisation_file, "_write"),
    (personalisation_file, "sync"),
    (Path, "rename"),
)
"""What is done on the way, and can be the last thing done: a process may end before and after each."""


def dying(patch: pytest.MonkeyPatch, last: int | None) -> Callable[[], int]:
    """Let the process end at an event of that number; return what counts the events."""
    count = 0

    def event() -> None:
        nonlocal count
        if count == last:
            raise Died
        count += 1

    def hook(owner: Any, name: str) -> None:
        whole = getattr(owner, name)

        def hooked(*words: Any, **named: Any) -> Any:
            event()
            result = whole(*words, **named)
            event()
            return result

        patch.setattr(owner, name, hooked)

    for owner, name in HOOKS:
        hook(owner, name)
    return lambda: count

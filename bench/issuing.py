"""A batch of cards for a bureau: time, memory and octets, and what is left after ``kill -9`` in the middle of it."""

import asyncio
import csv
import datetime as dt
import io
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509.oid import NameOID
from rich.progress import Progress

from backend_sync.issuing import Issuer
from backend_sync.ledger import Ledger
from bench.figures import Figure, Report, scratch

RECORDS = 1_000_000
ANSWERS = 200_000
"""So many of the cards are answered for: enough for a rate, in less than a minute."""
BATCH = "bench"
FAMILY = "ntag424"
KEY_VERSION = 2
RATE_GOAL = 5_000.0
PEAK_GOAL_MB = 200.0

_ENROL = "from backend_sync.enrolling import app; app()"
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Site:
    """One folder with everything that issuing needs.

    Attributes:
        folder: The folder.
        bureau_key: Opens what is for the bureau.
        bureau: The bureau's certificate.
    """

    folder: Path
    bureau_key: rsa.RSAPrivateKey
    bureau: x509.Certificate

    def command(self, ledger: str, out: str) -> list[str]:
        """Return the command that issues the batch."""
        options = {
            "--ledger": f"sqlite:///{self.folder / ledger}",
            "--family": FAMILY,
            "--bureau": self.folder / "bureau.pem",
            "--key-file": f"{FAMILY}-application.{KEY_VERSION}={self.folder / 'application.key'}",
            "--signer": self.folder / "signer.pem",
            "--out": self.folder / out,
            "--name": BATCH,
        }
        told = [str(word) for option in options.items() for word in option]
        return [sys.executable, "-c", _ENROL, "batch", str(self.folder / "accounts.csv"), *told, "--json"]

    def answer_command(self, ledger: str) -> list[str]:
        """Return the command that records what the bureau says of the batch."""
        options = ["--batch", BATCH, "--ledger", f"sqlite:///{self.folder / ledger}", "--json"]
        return [sys.executable, "-c", _ENROL, "bureau-report", str(self.folder / "answer.csv"), *options]


@dataclass(slots=True)
class Faults:
    """What is wrong with the files of a batch, against its ledger; all zero if nothing is."""

    duplicates: int = 0
    gaps: int = 0
    unlike_the_ledger: int = 0
    unlike_the_accounts: int = 0
    unsigned: int = 0


async def run(records: int = RECORDS) -> Report:
    """Measure a batch, and one that is killed twice."""
    report = Report("issuing", f"Issuing {records:,} cards")
    with scratch() as folder:
        site = await asyncio.to_thread(_site, folder, records)
        await asyncio.to_thread(_measure, site, records, report)
    return report


def _measure(site: Site, records: int, report: Report) -> None:
    with Progress(transient=True) as progress:
        task = progress.add_task("a batch, undisturbed", total=None)
        seconds, peak_mb = _undisturbed(site)
        faults = _faults(site, "ledger.db", "out", records)
        progress.update(task, description="a batch, killed twice")
        bound, resumed_s = _killed(site, records)
        after = _faults(site, "killed.db", "killed", records)
        progress.update(task, description="the bureau's answer")
        answers = min(records, ANSWERS)
        answered_s = _answered(site, answers)
    sizes = [path.stat().st_size for path in (site.folder / "out" / BATCH).iterdir()]
    report.figures += [
        Figure("time", seconds, "s", records),
        Figure("cards a second", records / seconds, "1/s", records, goal=RATE_GOAL, better="higher"),
        Figure("peak memory", peak_mb, "MB", records, goal=PEAK_GOAL_MB),
        Figure("files for the bureau", sum(sizes) / 1e6, "MB", len(sizes)),
        Figure("ledger", (site.folder / "ledger.db").stat().st_size / 1e6, "MB", records),
        Figure("duplicates", faults.duplicates, "cards", records, goal=0),
        Figure("gaps", faults.gaps, "cards", records, goal=0),
        Figure("records unlike the ledger", faults.unlike_the_ledger, "cards", records, goal=0),
        Figure("records unlike the accounts", faults.unlike_the_accounts, "cards", records, goal=0),
        Figure("files that nobody signed", faults.unsigned, "files", len(sizes), goal=0),
        Figure("killed while binding, at", bound, "cards", records),
        Figure(
            "resumed after the second kill, time",
            resumed_s,
            "s",
            records,
            baseline="undisturbed",
            baseline_value=seconds,
        ),
        Figure("duplicates after kill -9", after.duplicates, "cards", records, goal=0),
        Figure("gaps after kill -9", after.gaps, "cards", records, goal=0),
        Figure("records unlike the ledger after kill -9", after.unlike_the_ledger, "cards", records, goal=0),
        Figure("records unlike the accounts after kill -9", after.unlike_the_accounts, "cards", records, goal=0),
        Figure("files that nobody signed after kill -9", after.unsigned, "files", len(sizes), goal=0),
        Figure("answers a second", answers / answered_s, "1/s", answers),
    ]


def _site(folder: Path, records: int) -> Site:
    now = dt.datetime.now(dt.UTC)
    bureau_key, signer_key = rsa.generate_private_key(65537, 3072), ec.generate_private_key(ec.SECP256R1())
    bureau, signer = _certificate(bureau_key, "bureau", now), _certificate(signer_key, "operator", now)
    (folder / "bureau.pem").write_bytes(bureau.public_bytes(Encoding.PEM))
    (folder / "operator.pem").write_bytes(signer.public_bytes(Encoding.PEM))
    private = {
        "signer.pem": signer_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + signer.public_bytes(Encoding.PEM),
        "application.key": os.urandom(16),
    }
    for name, content in private.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    with (folder / "accounts.csv").open("w") as file:
        file.write("account,reference\n")
        file.writelines(f"{_account(number)},{_reference(number)}\n" for number in range(records))
    with (folder / "answer.csv").open("w") as file:
        file.write("serial,uid,result\n")
        file.writelines(f"{serial},04{serial:012x},ok\n" for serial in range(1, min(records, ANSWERS) + 1))
    for name in ("ledger.db", "killed.db"):
        Ledger.open(f"sqlite:///{folder / name}", create=True).close()
    return Site(folder, bureau_key, bureau)


def _account(number: int) -> str:
    return f"account-{sha256(str(number).encode()).hexdigest()[:16]}"


def _reference(number: int) -> str:
    return f"parcel-{number}"


def _certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str, now: dt.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(days=1))
    return builder.not_valid_after(now + dt.timedelta(days=30)).sign(key, hashes.SHA256())


def _undisturbed(site: Site) -> tuple[float, float]:
    started = time.perf_counter()
    with subprocess.Popen(site.command("ledger.db", "out"), stdout=subprocess.DEVNULL) as process:
        usage = _ended(process)
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6


def _ended(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for a process, and return what this one used: the sum over all children would tell of other benchmarks."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"issuing ended with {process.returncode}")
    return usage


def _killed(site: Site, records: int) -> tuple[int, float]:
    """Kill it in the middle of binding, then in the middle of writing files, and let it end."""
    command = site.command("killed.db", "killed")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while (bound := _bound(site)) < records // 2 and process.poll() is None:
            time.sleep(_POLL_S)
        process.kill()
    if not 0 < bound < records:
        raise RuntimeError(f"it was to be killed while it bound, and had bound {bound}: give it more records")
    building = site.folder / "killed" / f".{BATCH}.building"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not any(building.glob("records-*")) and process.poll() is None:
            time.sleep(_POLL_S)
        process.kill()
    if (site.folder / "killed" / BATCH).exists():
        raise RuntimeError("it was done before it could be killed: give it more records")
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _ended(process)
    return bound, time.perf_counter() - started


def _answered(site: Site, answers: int) -> float:
    """Record the bureau's answer; return how long it took."""
    started = time.perf_counter()
    with subprocess.Popen(site.answer_command("ledger.db"), stdout=subprocess.DEVNULL) as process:
        _ended(process)
    seconds = time.perf_counter() - started
    with Ledger.open(f"sqlite:///{site.folder / 'ledger.db'}") as ledger:
        (standing,) = _issuer(ledger).standings()
    if standing.live != answers:
        raise RuntimeError(f"{answers} cards were answered for, and {standing.live} are live")
    return seconds


def _bound(site: Site) -> int:
    with Ledger.open(f"sqlite:///{site.folder / 'killed.db'}") as ledger:
        standings = _issuer(ledger).standings()
    return standings[0].issued if standings else 0


def _issuer(ledger: Ledger) -> Issuer:
    return Issuer(ledger, lambda: time.time_ns() // 1_000_000, os.urandom)


def _faults(site: Site, ledger_name: str, out: str, records: int) -> Faults:
    """Read every file as the bureau would, and compare it with the ledger."""
    folder = site.folder / out / BATCH
    manifest = json.loads((folder / "manifest.json").read_bytes())
    serials, tokens, faults = bytearray(records), set[bytes](), Faults()
    faults.unsigned = _unsigned(site, folder, manifest)
    with Ledger.open(f"sqlite:///{site.folder / ledger_name}") as ledger:
        issuer = _issuer(ledger)
        (standing,) = issuer.standings()
        ours = issuer.unmade(standing.order)
        for part in manifest["records"]:
            sealed = (folder / part["file"]).read_bytes()
            plain = pkcs7.pkcs7_decrypt_der(sealed, site.bureau, site.bureau_key, [])
            rows = list(csv.DictReader(io.StringIO(plain.decode())))
            held = issuer.held([_account(_place(row, manifest)) for row in rows])
            for row in rows:
                token, place = bytes.fromhex(row["token"]), _place(row, manifest)
                faults.duplicates += serials[place] + (token in tokens)
                serials[place] = 1
                tokens.add(token)
                kept, card = next(ours, None), held.get(_account(place))
                faults.unlike_the_ledger += kept is None or (kept.serial, kept.token) != (int(row["serial"]), token)
                # The row of the file of accounts, the label, the ledger's binding and the token: one and the same card.
                faults.unlike_the_accounts += (
                    row["reference"] != _reference(place) or card is None or card.serial != int(row["serial"])
                )
        faults.unlike_the_ledger += sum(1 for _ in ours)
    faults.gaps = serials.count(0) + records - standing.ordered
    return faults


def _unsigned(site: Site, folder: Path, manifest: dict[str, Any]) -> int:
    """Count the files that the operator's signature does not cover, by way of the hashes in the manifest."""
    words = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(folder / "manifest.json.p7s")]
    words += ["-content", str(folder / "manifest.json"), "-CAfile", str(site.folder / "operator.pem")]
    words += ["-purpose", "any", "-out", os.devnull]
    files = {path.name for path in folder.iterdir()} - {"manifest.json", "manifest.json.p7s"}
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        return len(files) + 1
    signed = {part["file"]: part["sha256"] for part in manifest["records"] + manifest["keys"]}
    unlike = sum(signed.get(name) != sha256((folder / name).read_bytes()).hexdigest() for name in files)
    return int(unlike) + len(signed.keys() - files)


def _place(row: dict[str, str], manifest: dict[str, Any]) -> int:
    return int(row["serial"]) - int(manifest["first_serial"])

"""``validator enrol-surface``: a desk enrols a MyNumber card, and says so in the file that is published to gates.

The file is CSV: what gates find the card under, a hash of its identification number, and the card's public key, both in
hexadecimal. One process writes it, nobody else may read it, and a line is durable before anybody is told of it. Neither
the birth date nor the identification number is in it, nor in anything that is said here.
"""

import asyncio
import fcntl
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from rich.console import Console

from hardware.medium import Medium, MediumLost, MediumTimeout, Reader, ReaderError, SeveralMedia, Technology
from validator import surface_enrolment
from validator.certificates import HOSTILE, CertificateError, credential_id, load_key, token_id
from validator.clock import SystemClock
from validator.commandline import JsonOption, print_json
from validator.dialogue import Traffic, drive
from validator.holder_secrets import ASK, SecretRefused, ask
from validator.issuers import IssuersError
from validator.model import Reason
from validator.operator_keys import OperatorKeys
from validator.profiles import mynumber_surface
from validator.profiles.attempt import Attempt
from validator.profiles.errors import PinAtRisk, PinBlocked, ProfileError, WrongFamily
from validator.secret_files import wipe
from validator.surface_enrolment import KEY_ID_BYTES, EnrolmentRefusedError, SurfaceFiles, WrongBirthDate

HEADING = b"name,public_key\n"
DIALOGUE_LIMIT_S = 30.0

_LANE = "validator-enrol-surface"
"""Stands for the gate in the challenge; a signature made here opens no gate."""
_MIN_ROOT_BITS = 2048
_MODE = 0o600
_LINE = re.compile(rb"([0-9a-fA-F]{32}),((?:[0-9a-fA-F]{2})+)\n")
_TORN = re.compile(rb"[0-9a-f]{0,32}|[0-9a-f]{32},[0-9a-f]*")


class NotEnrolledError(Exception):
    """A card was not enrolled; the message says why and what to do next, and nothing that the card told."""


class EnrolmentFileError(Exception):
    """The file of enrolled cards cannot be used; the message says why."""


EXITS: dict[type[Exception], int] = {NotEnrolledError: os.EX_NOPERM, EnrolmentFileError: os.EX_DATAERR}
"""For the composition root: how the failures of this command end the process."""

_LOOK = "do not enrol it, and have the card and its holder looked at"
_AGAIN = "present it again, or have the card replaced by its municipality"
_NEXT: Mapping[Reason, str] = {
    Reason.UNTRUSTED_ISSUER: "have J-LIS confirm the key that signs this municipality's cards, and put it there",
    Reason.DATA_TAMPERED: _LOOK,
    Reason.WRONG_SIGNATURE: _LOOK,
}


def add_to(app: typer.Typer, open_reader: Callable[[str], Reader]) -> None:
    """Add the command to a command line.

    Args:
        app: The command line.
        open_reader: Returns the driver for a reader's name, not yet open.
    """

    @app.command("enrol-surface")
    def command(
        *,
        reader: Annotated[str, typer.Option("--reader", help="For example nfcpy:usb or pcsc:READER NAME.")],
        roots: Annotated[
            Path, typer.Option("--roots", help="Directory of public keys of J-LIS, each called by its 32 digits.")
        ],
        out: Annotated[
            Path, typer.Option("--out", help="Where cards are added, for `backend-sync publish enrolled --named`.")
        ],
        birth_date: Annotated[
            str,
            typer.Option(
                "--birth-date",
                help="YYYYMMDD, the six digits of the era, or reference number B; - asks without showing it.",
            ),
        ] = ASK,
        wait_s: Annotated[
            float, typer.Option("--wait", help="Seconds to wait for a card.", callback=_some_time)
        ] = 30.0,
        as_json: JsonOption = False,
    ) -> None:
        """Enrol a MyNumber card, which opens gates from then on without a PIN.

        The birth date is shown to the card once, and never where one try is left.
        """
        authorities, driver = load_roots(roots), open_reader(reader)
        with EnrolledFile.open(out) as file:
            digits = _told(birth_date)
            try:
                if not as_json:
                    _say("hold the MyNumber card against the reader, and leave it there")
                files = asyncio.run(_collected(driver, digits, wait_s))
            finally:
                wipe(digits)
            try:
                card = surface_enrolment.judge(files, authorities)
            except EnrolmentRefusedError as error:
                where = f" in {roots}" if error.reason is Reason.UNTRUSTED_ISSUER else ""
                raise NotEnrolledError(f"{reader}: {error}{where}: {_NEXT.get(error.reason, _AGAIN)}") from None
            new = file.add(token_id(mynumber_surface.NAME, card.identifier), card.spki)
        _tell(out, credential_id(card.spki), new=new, as_json=as_json)


def load_roots(directory: Path) -> dict[bytes, rsa.RSAPublicKey]:
    """Load the public keys of J-LIS, PEM or DER, from files that are called by the keys' identifiers.

    Returns:
        The keys by their identifiers of 16 bytes.

    Raises:
        IssuersError: The directory cannot be read, holds no key, or holds something else as well.
    """
    found: dict[bytes, rsa.RSAPublicKey] = {}
    try:
        for path in sorted(directory.iterdir()):
            identifier = _identifier(path)
            if identifier in found:
                raise IssuersError(f"{path}: another file has this identifier: keep the one that J-LIS confirmed")
            found[identifier] = _root(path, path.read_bytes())
    except OSError as error:
        what = f"{error.filename or directory}: {error.strerror}"
        raise IssuersError(f"{what}; give the directory of public keys of J-LIS") from None
    if not found:
        raise IssuersError(f"{directory}: holds no key of J-LIS, so that no card could be believed: put them there")
    return found


def _identifier(path: Path) -> bytes:
    try:
        identifier = bytes.fromhex(path.stem)
    except ValueError:
        identifier = b""
    if len(identifier) != KEY_ID_BYTES or len(path.stem) != 2 * KEY_ID_BYTES:
        raise IssuersError(f"{path}: call it by the key's identifier, {2 * KEY_ID_BYTES} hexadecimal digits, and .pem")
    return identifier


def _root(path: Path, content: bytes) -> rsa.RSAPublicKey:
    try:
        key = load_pem_public_key(content) if b"-----BEGIN" in content else load_der_public_key(content)
    except HOSTILE:
        raise IssuersError(f"{path}: no public key in PEM or DER form: get the file again") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_ROOT_BITS:
        raise IssuersError(f"{path}: no RSA key of {_MIN_ROOT_BITS} bits or more, as J-LIS has: get the file again")
    return key


class EnrolledFile:
    """An open file of enrolled cards, which one process writes. Use `EnrolledFile.open`."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path, self._file = path, file
        self._mend()
        _sync_folder(path)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[EnrolledFile]":
        """Open a file, or begin one that only its owner may read. What a crash cut off is mended.

        Raises:
            EnrolmentFileError: It is something else, or another process writes it.
            OSError: It cannot be written.
        """
        with FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, _MODE)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EnrolmentFileError(f"{path}: is no file: give the desk's own, or a new one")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EnrolmentFileError(f"{path}: another desk writes this file: give each its own") from None
            yield cls(path, file)

    def add(self, name: bytes, spki: bytes) -> bool:
        """Add a card, unless it is there; when this returns, that is durable.

        Args:
            name: What gates find the key under, 16 bytes.
            spki: SubjectPublicKeyInfo, DER.

        Returns:
            Whether it is new.

        Raises:
            NotEnrolledError: Another key is there under this name, or this key under another one.
            OSError: It cannot be written.
        """
        wanted, known = (name.hex().encode(), spki.hex().encode()), False
        for number, line in self._lines():
            found = _LINE.fullmatch(line)
            if found is None:
                continue
            same = [found[1].lower() == wanted[0], found[2].lower() == wanted[1]]
            if same == [True, False]:
                raise NotEnrolledError(self._clash(number, "another key is enrolled under this card's number"))
            if same == [False, True]:
                raise NotEnrolledError(self._clash(number, "this card's key is enrolled under another number"))
            known = known or all(same)
        self._append(b"" if known else b"%s,%s\n" % wanted)
        return not known

    def _clash(self, number: int, what: str) -> str:
        todo = "enrol neither before both cards were looked at, and take that line out if it is the wrong one"
        return f"{self._path}, line {number}: {what}: {todo}"

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            yield from enumerate(lines, 1)

    def _mend(self) -> None:
        """Look at each line, and finish or take away the last one where a crash cut it off."""
        whole, number, rest = 0, 1, b""
        for number, line in self._lines():
            if not line.endswith(b"\n"):
                rest = line
            elif not (line == HEADING if number == 1 else _LINE.fullmatch(line)):
                raise self._foreign(number)
            else:
                whole += len(line)
        if whole and _is_complete(rest):
            self._append(b"\n")
            return
        if not (_TORN.fullmatch(rest) if whole else HEADING.startswith(rest)):
            raise self._foreign(number)
        if rest:
            self._file.truncate(whole)
        if not whole:
            self._append(HEADING)

    def _foreign(self, number: int) -> EnrolmentFileError:
        if number == 1:
            heading = HEADING.decode().strip()
            what = f"does not begin with {heading}: give the desk's own file, or a new one"
            return EnrolmentFileError(f"{self._path}: {what}")
        return EnrolmentFileError(
            f"{self._path}, line {number}: is no name and public key: restore the file from a copy"
        )

    def _append(self, octets: bytes) -> None:
        """Write at the end; what was there before is durable then as well."""
        try:
            left = memoryview(octets)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            what = f"{error.strerror}, so that it may not hold the card: make room and run this again"
            raise OSError(error.errno, what, str(self._path)) from None


def _is_complete(line: bytes) -> bool:
    """Whether nothing but the end of the line is missing."""
    found = _LINE.fullmatch(line + b"\n")
    try:
        return found is not None and bool(load_key(bytes.fromhex(found[2].decode())))
    except CertificateError:
        return False


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _collected(reader: Reader, digits: bytearray, wait_s: float) -> SurfaceFiles:
    """Wait for one card and ask it."""
    await reader.open()
    try:
        try:
            async with asyncio.timeout(wait_s):
                medium = await reader.wait()
        except TimeoutError:
            raise ReaderError(reader.name, f"no card within {wait_s:g} s: run this again") from None
        try:
            async with asyncio.timeout(DIALOGUE_LIMIT_S):
                return await _asked(medium, digits)
        except SeveralMedia:
            raise ReaderError(reader.name, "more than one card: run this again with one") from None
        except (MediumLost, MediumTimeout, TimeoutError):
            what = "the card was lost before it was done: run this again, and leave it there"
            raise ReaderError(reader.name, what) from None
        except ProfileError as error:
            raise NotEnrolledError(f"{reader.name}: {_words(error)}") from None
    finally:
        await reader.close()


async def _asked(medium: Medium, digits: bytearray) -> SurfaceFiles:
    if not medium.target.apdus:
        raise WrongFamily("a tag")
    attempt = Attempt(
        region=_LANE,
        gate=_LANE,
        wall_ms=SystemClock(0).now().wall_ms,
        uid=b"",
        random=secrets.token_bytes,
        known=lambda _key: None,
        begin=lambda _shown: None,
        keys=OperatorKeys({}),
        contactless=medium.target.technology is not Technology.CONTACT,
    )
    dialogue: Any = surface_enrolment.collect(attempt, digits)
    files: Any = await medium.converse(lambda transceive: drive(dialogue, transceive, Traffic()))
    assert isinstance(files, SurfaceFiles)
    return files


def _words(error: ProfileError) -> str:
    """Say what a card refused and what to do next; the card's own words are not in it."""
    match error:
        case WrongFamily():
            return "this is no MyNumber card, and it was told nothing: present a MyNumber card"
        case WrongBirthDate(tries_left=1):
            return f"{error}, and it is not spent here: its municipality resets the tries"
        case WrongBirthDate():
            return f"{error}: ask its holder again, and run this again"
        case PinAtRisk():
            return f"{error}: the birth date was not shown to it; its municipality resets the tries"
        case PinBlocked():
            return f"{error}: its municipality resets the tries"
    return f"{error}: {_AGAIN}"


def _told(given: str) -> bytearray:
    told = ask("Birth date of the card's holder (YYYYMMDD): ") if given == ASK else given
    try:
        return surface_enrolment.opening_digits(told)
    except ValueError as error:
        raise SecretRefused(f"--birth-date: {error}: the card was not asked; run this again") from None


def _some_time(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{seconds:g} s is no time to wait")
    return seconds


def _tell(out: Path, credential: bytes, *, new: bool, as_json: bool) -> None:
    if as_json:
        print_json({"event": "enrolled" if new else "known", "credential_id": credential.hex(), "file": str(out)})
        return
    _say("the record is its issuer's, and the chip holds the key in it: take the card away")
    _say(f"added to {out}" if new else f"{out} has this card already, with the same key: nothing was changed")
    _say(f"next: backend-sync publish enrolled --named {out}")
    _say(f"tickets are sold to credential {credential.hex()}")


def _say(words: str) -> None:
    Console(highlight=False, soft_wrap=True).print(words, markup=False)

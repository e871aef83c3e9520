"""A PC/SC service of one's own, with vpcd's virtual reader, in private namespaces: no port or socket is shared.

Debian: pcscd, vsmartcard-vpcd, opensc, yubico-piv-tool. Where they or the namespaces are missing the tests are skipped
with the reason; under continuous integration they fail instead.
"""

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer
from tests.missing import missing, program

ROOT = Path(__file__).parents[2]
DRIVERS = Path("/usr/lib/pcsc/drivers/serial")
READER = "Virtual PCD 00 00"
PORT = 35963
PIN = "123456"

_DEADLINE_S = 15.0
_ENTER = "mount -t tmpfs tmpfs /run && mkdir /run/pcscd && ip link set lo up && echo ready && exec cat"


class PcscService:
    """pcscd with one virtual reader, and a way to run programs beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if importlib.util.find_spec("smartcard") is None:
            missing("pyscard is not installed")
        drivers = sorted(DRIVERS.glob("libifdvpcd.so*"))
        if not drivers:
            missing("vsmartcard-vpcd is not installed")
        self._pcscd = program("pcscd")
        self._nsenter = program("nsenter")
        config = folder / "readers"
        config.mkdir()
        (config / "vpcd").write_text(
            f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{PORT:#06X}\n'
            f"LIBPATH {drivers[0]}\nCHANNELID {PORT:#06X}\n".replace("0X", "0x")
        )
        self._config = config
        self._root = os.geteuid() == 0
        self._space = self._enter()
        self._service: subprocess.Popen[str] | None = None

    def _enter(self) -> subprocess.Popen[str]:
        program("ip")
        unshare = [program("unshare"), *([] if self._root else ["--map-root-user"]), "--mount", "--net"]
        space = subprocess.Popen(
            [*unshare, "sh", "-c", _ENTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert space.stdout is not None
        if space.stdout.readline() != "ready\n":
            _, complaint = space.communicate()
            missing(f"private namespaces are not permitted ({complaint.strip()})")
        return space

    def popen(self, argv: list[str]) -> subprocess.Popen[str]:
        """Start a program beside the service; its output is piped, its errors join it."""
        as_root = [] if self._root else ["--user", "--preserve-credentials"]
        inside = [self._nsenter, "--target", str(self._space.pid), *as_root, "--mount", "--net", f"--wd={self._folder}"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "HOME": str(self._folder), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*inside, "--", *argv],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, argv: list[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program beside the service to its end."""
        with self.popen(argv) as process:
            try:
                output, _ = process.communicate(stdin, timeout=4 * _DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(argv, process.returncode, output)

    def start(self) -> None:
        """Start pcscd and wait until it listens."""
        self._service = self.popen([self._pcscd, "--foreground", "--config", str(self._config)])
        socket = Path(f"/proc/{self._space.pid}/root/run/pcscd/pcscd.comm")
        self._until(socket.exists, "pcscd does not listen")

    def stop(self) -> None:
        """Stop pcscd, as a package upgrade does."""
        if self._service is not None:
            _end(self._service)
        self._service = None

    def close(self) -> None:
        self.stop()
        _end(self._space)

    @contextlib.contextmanager
    def card(self, card: IssuedCard, *options: str) -> Iterator[None]:
        """Hold a virtual PIV card against the reader."""
        key, certificate, pin = (self._folder / name for name in ("key.pem", "cert.pem", "pin"))
        key.write_bytes(card.key_pem)
        certificate.write_bytes(card.pem)
        pin.write_text(PIN)
        present = [sys.executable, "-m", "hardware.virtual", "present", "piv", "--vpcd", f"127.0.0.1:{PORT}"]
        files = ["--key", str(key), "--cert", str(certificate), "--pin-file", str(pin)]
        holder = self.popen([*present, *files, *options])
        try:
            self.until_card()
            yield
        finally:
            _end(holder)
            self.until_card(there=False)

    def until_card(self, *, there: bool = True) -> None:
        """Wait until pcscd has noticed that the card came, or left."""
        waiter = str(Path(__file__).with_name("await_card.py"))
        result = self.run([sys.executable, waiter, READER, "present" if there else "empty", str(_DEADLINE_S)])
        assert result.returncode == 0, result.stdout

    def _until(self, holds: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not holds():
            assert self._service is not None
            if time.monotonic() > deadline or self._service.poll() is not None:
                self._service.kill()
                output, _ = self._service.communicate()
                pytest.fail(f"{complaint}:\n{output}")
            time.sleep(0.02)


def _end(process: subprocess.Popen[str]) -> str:
    process.terminate()
    try:
        output, _ = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PcscService]:
    """A running service that tests share; each holds its own card against it."""
    service = PcscService(tmp_path_factory.mktemp("pcsc"))
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[PcscService]:
    """A service that one test may stop and start."""
    service = PcscService(tmp_path)
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def issued() -> Callable[[KeyType], IssuedCard]:
    """The card of a key type, the same one for the whole session."""
    return functools.cache(Issuer().issue)


@pytest.fixture
def tool() -> Callable[[str], str]:
    """The path of a stranger's program."""
    return program

"""What every command line of ours does: exit codes of sysexits, failures in words, logs on standard error."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from validator.commandline import run_app

ROOT = Path(__file__).parents[2]
EXITS: dict[type[Exception], int] = {LookupError: os.EX_DATAERR, OSError: os.EX_IOERR}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = handlers


def run(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", package, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [
        ("validator",),
        ("validator", "nonsense"),
        ("validator", "check", "--bogus"),
        ("validator", "read", "--reader", "nfcpy:usb"),
        *(
            ("validator", "read", "--reader", "nfcpy:usb", "--trust", ".", "--wait", wait)
            for wait in ("-1", "0", "nan")
        ),
        ("backend_sync", "nonsense"),
        ("backend_sync", "demo", "--taps", "0"),
        ("backend_sync", "publish", "trust"),
    ],
)
def test_a_wrong_command_line_ends_with_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == os.EX_USAGE, done.stderr
    assert "Usage: " in done.stderr + done.stdout


def test_help_is_no_failure() -> None:
    assert run("validator", "--help").returncode == os.EX_OK


def ended(app: object, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    assert callable(app)
    with pytest.raises(SystemExit) as caught:
        run_app(app, "program", EXITS)
    said = capsys.readouterr()
    return caught.value.code, said.out, said.err


def failing(error: Exception) -> object:
    def app() -> None:
        raise error

    return app


def test_an_expected_failure_is_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(failing(KeyError("a")), capsys) == (os.EX_DATAERR, "", "program: 'a'\n")


def test_a_group_is_told_line_by_line_and_the_first_decides(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("two", [OSError("first"), LookupError("second")])
    assert ended(failing(group), capsys) == (os.EX_IOERR, "", "program: first\nprogram: second\n")


@pytest.mark.parametrize("bug", [ValueError("x"), ExceptionGroup("x", [LookupError("a"), ValueError("x")])])
def test_a_bug_shows(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught:
        run_app(failing(bug), "program", EXITS)  # type: ignore[arg-type]  # an object that can be called
    assert caught.value is bug


def test_logs_never_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        structlog.get_logger().warning("something")
        sys.stdout.write("{}\n")
        raise SystemExit(os.EX_OK)

    code, out, err = ended(app, capsys)
    assert (code, out) == (os.EX_OK, "{}\n")
    assert "something" in err

"""What the command lines of the gate and of the back office share: options, output, logs, exit codes, signals."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

import structlog
import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Log more, to standard error; never card data.")]

_TYPER_USAGE = 2


def run_app(app: Callable[[], object], program: str, exits: Mapping[type[Exception], int]) -> None:
    """Run a command line: logs go to standard error, failures end in words there and in a code from sysexits.

    A group of expected failures is told line by line and ends with the code of the first. What is not expected is a bug
    and shows.

    Args:
        app: The command line; ends the process by `SystemExit`.
        program: Stands before each message.
        exits: Exit code by exception type; the first that fits counts. A wrong command line is ``EX_USAGE``.
    """
    expected = tuple(exits)
    failures: tuple[type[Exception], ...] = (*expected, ExceptionGroup)
    log_to_stderr(verbose=False)
    try:
        app()
    except SystemExit as end:
        raise SystemExit(os.EX_USAGE if end.code == _TYPER_USAGE else end.code) from None
    except failures as error:
        told = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        if not all(isinstance(one, expected) for one in told):
            raise
        for one in told:
            sys.stderr.write(f"{program}: {one}\n")
        raise SystemExit(next(code for kind, code in exits.items() if isinstance(told[0], kind))) from None


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or the process is asked to stop by SIGTERM or SIGINT.

    A task group that fails for one expected reason fails with that reason.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def log_to_stderr(*, verbose: bool) -> None:
    """Log to standard error: lines for people on a terminal, JSON for the system's journal."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )

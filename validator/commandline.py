"""What the command lines of the gate and of the back office share: options, output, logs, exit codes, signals."""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping
from typing import Annotated, Any

import structlog
import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Log more, to standard error; never card data.")]


@contextlib.contextmanager
def explained(program: str, exits: Mapping[type[Exception], int]) -> Iterator[None]:
    """Turn an expected failure into one line on standard error and an exit code; anything else is a bug and shows.

    Args:
        program: Stands before the message.
        exits: Exit code from sysexits by exception type; the first that fits counts.
    """
    try:
        yield
    except tuple(exits) as error:
        sys.stderr.write(f"{program}: {error}\n")
        code = next(code for kind, code in exits.items() if isinstance(error, kind))
        raise SystemExit(code) from None


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

# noqa: INP001 - a script that CI runs by its path, in no package
"""Check that everything a gate installs can be installed on a Raspberry Pi without a compiler.

Each pinned run-time requirement must have a wheel for aarch64 on CPython 3.11 (Raspberry Pi OS bookworm, glibc 2.36)
and 3.13 (trixie, glibc 2.41), or be pure Python: then the wheel that pip builds from its source says so in its name.
pip itself answers, from wherever it is configured to look, and checks every hash. Optional extras are not asked about.

    .venv/bin/python .ci/check_wheels.py [requirements/run.txt]
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.progress import Progress

PIP_LIMIT_S = 180
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A machine that the requirements must fit.

    Attributes:
        name: What people call it.
        python: Version of CPython, for example ``3.11``.
        glibc: Minor version of glibc 2; wheels for older ones fit, too.
    """

    name: str
    python: str
    glibc: int

    def platforms(self) -> list[str]:
        """Platform tags that fit, the newest first (PEP 600)."""
        return [*(f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)), "manylinux2014_aarch64"]

    def environment(self) -> dict[str, str | AbstractSet[str]]:
        """Values of the environment markers there (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": "aarch64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


TARGETS = (Target("bookworm", "3.11", 36), Target("trixie", "3.13", 41))


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned requirement.

    Attributes:
        requirement: Name, version and marker.
        hashes: pip's ``--hash`` options.
    """

    requirement: Requirement
    hashes: tuple[str, ...]

    def line(self) -> str:
        """Return the pin without its marker, as a line for pip: pip would judge the marker by this machine."""
        return " ".join([f"{self.requirement.name}{self.requirement.specifier}", *self.hashes])

    def wanted_by(self, target: Target) -> bool:
        """Whether the marker holds on a target."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate(target.environment())


def pins(text: str) -> list[Pin]:
    """Read a requirements file of exact versions and hashes.

    Raises:
        ValueError: A line pins no exact version, or has no hash.
    """
    return [_pin(line) for line in _logical_lines(text)]


def main(arguments: list[str]) -> int:
    """Check a file for all targets; return 0 if everything fits, 1 if something does not."""
    path = Path(arguments[0]) if arguments else Path(__file__).parent.parent / "requirements" / "run.txt"
    wanted = [(pin, target) for target in TARGETS for pin in pins(path.read_text()) if pin.wanted_by(target)]
    console = Console()
    with Progress(console=console) as progress, ThreadPoolExecutor(WORKERS) as workers:
        task = progress.add_task("wheels for aarch64", total=len(wanted))
        results = []
        for result in workers.map(lambda job: _problem(*job), wanted):
            results.append(result)
            progress.advance(task)
    problems = [problem for problem in results if problem]
    for problem in problems:
        console.print(f"[red]✖[/] {problem}", highlight=False)
    if not problems:
        names = " and ".join(f"CPython {target.python} ({target.name})" for target in TARGETS)
        console.print(f"{path.name}: all {len(wanted)} installations fit aarch64 on {names}", highlight=False)
    return 1 if problems else 0


def _problem(pin: Pin, target: Target) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        platforms = [option for tag in target.platforms() for option in ("--platform", tag)]
        fits = ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}", *platforms]
        refused = _pip("download", pin, Path(folder), *fits)
        if refused is None:
            return None
        # No wheel that fits. A source of pure Python does, on every machine.
        failed = _pip("wheel", pin, Path(folder))
        built = next((wheel.name for wheel in Path(folder).glob("*.whl")), "nothing")
        if failed is None and built.endswith("-none-any.whl"):
            return None
        why = refused if failed else f"{refused}; built from source it is {built}, not pure Python"
        return f"{pin.requirement} on CPython {target.python} ({target.name}): {why}"


def _pip(verb: str, pin: Pin, folder: Path, *options: str) -> str | None:
    """Let pip fetch or build one pin into a folder; return what it said if it would not."""
    listed = folder / "requirement.txt"
    listed.write_text(pin.line() + "\n")
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", "--require-hashes", "--no-input"]
    command += [*options, "--disable-pip-version-check", "-r", str(listed)]
    command += ["--dest" if verb == "download" else "--wheel-dir", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments, no shell
            command,
            capture_output=True,
            text=True,
            timeout=PIP_LIMIT_S,
            check=False,
            env=os.environ | {"NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired:
        return f"pip {verb} did not end within {PIP_LIMIT_S} s"
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (said or [f"pip {verb} ended with {done.returncode}"])[-1].removeprefix("ERROR: ")


def _pin(line: str) -> Pin:
    words = line.split(" --hash=")
    requirement, hashes = Requirement(words[0].strip()), tuple(f"--hash={word.strip()}" for word in words[1:])
    if [specifier.operator for specifier in requirement.specifier] != ["=="] or not hashes:
        raise ValueError(f"{requirement}: wanted one exact version and its hashes")
    return Pin(requirement, hashes)


def _logical_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        stripped = " ".join(line.split("#", 1)[0].split())
        if stripped:
            yield stripped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

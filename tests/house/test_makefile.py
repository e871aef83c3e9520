"""`make` looks again for what was missing when it set the environment up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.missing import program

ROOT = Path(__file__).parents[2]


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout whose programs only write down that they were called."""
    for name in ("Makefile", "pyproject.toml", "requirements"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    script(tmp_path / "pip", 'echo pip "$@" >> log')
    script(tmp_path / "demo", "echo demo >> log")
    script(
        tmp_path / "bin" / "python3",
        "mkdir -p .venv/bin; cp pip .venv/bin/pip; cp demo .venv/bin/backend-sync; echo venv >> log",
    )
    return tmp_path


def make(tree: Path) -> list[str]:
    """Run `make demo`, and return what was done."""
    (tree / "log").unlink(missing_ok=True)
    done = subprocess.run(
        [program("make"), "demo"],
        cwd=tree, env={"PATH": f"{tree / 'bin'}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (tree / "log").read_text().splitlines()


def test_pyscard_comes_once_its_headers_are_there(tree: Path) -> None:
    for name in ("swig", "cc"):
        script(tree / "bin" / name, "exit 0")
    script(tree / "bin" / "pkg-config", "exit 1")
    first = make(tree)
    assert first[0] == "venv"
    assert not any("pcsc.txt" in line for line in first)
    assert make(tree) == ["demo"]
    script(tree / "bin" / "pkg-config", "exit 0")
    installed, last = make(tree)
    assert "pcsc.txt" in installed
    assert last == "demo"
    assert make(tree) == ["demo"]


def test_an_environment_that_is_made_anew_gets_pyscard_again(tree: Path) -> None:
    for name in ("swig", "cc", "pkg-config"):
        script(tree / "bin" / name, "exit 0")
    assert any("pcsc.txt" in line for line in make(tree))
    os.utime(tree / "requirements" / "dev.txt")
    again = make(tree)
    assert again[0] == "venv"
    assert any("pcsc.txt" in line for line in again)


def test_a_failed_installation_of_pyscard_is_tried_again(tree: Path) -> None:
    for name in ("swig", "cc", "pkg-config"):
        script(tree / "bin" / name, "exit 0")
    script(tree / "pip", 'echo pip "$@" >> log; case "$*" in *pcsc*) exit 1;; esac')
    for _ in range(2):
        done = subprocess.run(
            [program("make"), "demo"],
            cwd=tree, env={"PATH": f"{tree / 'bin'}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert not (tree / ".venv" / ".installed-pcsc").exists()

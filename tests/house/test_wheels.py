"""What the wheels check asks pip; whether the wheels are there is asked by CI, which has a network."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
HASH = "--hash=sha256:" + "0" * 64


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheels", ROOT / ".ci" / "check_wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_wheels = _script()


def test_every_line_of_the_run_time_requirements_is_read() -> None:
    text = (ROOT / "requirements" / "run.txt").read_text()
    pins = check_wheels.pins(text)
    assert [pin.requirement.name for pin in pins] == re.findall(r"^([\w-]+)==", text, re.MULTILINE)
    assert sum(len(pin.hashes) for pin in pins) == text.count("--hash=")


def test_markers_are_judged_by_the_target() -> None:
    pins = check_wheels.pins(
        f"a==1 ; sys_platform == 'win32' {HASH}\n"
        f"b==1 ; python_version < '3.13' {HASH}\n"
        f"c==1 ; platform_machine == 'aarch64' \\\n    {HASH}\n"
        f"d==1 {HASH}\n"
    )
    wanted = {
        target.python: [pin.requirement.name for pin in pins if pin.wanted_by(target)]
        for target in check_wheels.TARGETS
    }
    assert wanted == {"3.11": ["b", "c", "d"], "3.13": ["c", "d"]}
    assert pins[2].line() == f"c==1 {HASH}"


@pytest.mark.parametrize("line", [f"a>=1 {HASH}", f"a {HASH}", "a==1", f"a==1,<2 {HASH}"])
def test_what_is_not_pinned_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="one exact version and its hashes"):
        check_wheels.pins(line)


def test_the_platforms_of_a_target_end_at_its_glibc() -> None:
    bookworm, trixie = check_wheels.TARGETS
    assert bookworm.platforms()[0] == "manylinux_2_36_aarch64"
    assert trixie.platforms()[0] == "manylinux_2_41_aarch64"
    assert bookworm.platforms()[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]

"""The docs say what the code says, and no file says where packages come from or whose machine this is."""

import os
import re
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest
from packaging.markers import Marker

import backend_sync.__main__
import validator.__main__
from backend_sync import wire
from backend_sync.config import OfficeFile
from hardware.gate import CUES
from tests.missing import missing
from validator.config import GateFile
from validator.model import Assurance, Reason

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

# Written in pieces, so that this file does not name what no file may name.
REGISTRIES = [f"{name}.org" for name in ("pypi", "pythonhosted", "test.pypi")] + ["registry." + "npmjs"]
MACHINE_PATHS = re.compile(r"(?<![\w./}])/(work|home|root|Users|opt/pypi)/[\w.-]")
PIN = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>\d[\w.]*)( ; (?P<marker>[^\\]+?))?( \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def rows(text: str) -> Iterator[list[str]]:
    """Cells of the rows of all Markdown tables."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        missing("this is no git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a certificate or card image in binary


def numbered(heading: str) -> dict[str, str]:
    """Names by number of the table under one heading of the glossary."""
    section = GLOSSARY.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {row[0]: row[1] for row in rows(section) if row[0].isdecimal()}


@pytest.mark.parametrize(("heading", "kind"), [("Reasons", Reason), ("Assurance", Assurance)])
def test_the_glossary_has_every_number_and_no_other(heading: str, kind: type[Reason] | type[Assurance]) -> None:
    assert numbered(heading) == {str(member.value): f"`{member.name}`" for member in kind}


def test_the_glossary_has_every_topic() -> None:
    topics = [wire.tap_up("D"), wire.ack("D"), wire.presence("D"), wire.reported("D")]
    used = {topic.replace("/D/", "/<device>/") for topic in topics}
    listed = [wire.list_metadata("R", "N"), wire.list_object("R", b"").rstrip("/") + "/<digest>"]
    listed += [wire.list_change("R", "K", which) for which in get_args(wire.ChangeTopic)]
    names = {"/R/": "/<region>/", "/N": "/<name>", "/K/": "/<kind>/"}
    for name, words in names.items():
        listed = [topic.replace(name, words) for topic in listed]
    used |= set(listed)
    said = {row[0].strip("`"): row for row in rows(GLOSSARY) if row[0].startswith(f"`{wire.ROOT}")}
    assert used <= said.keys()
    assert all("reserved" in " ".join(said[topic]) for topic in said.keys() - used)


def test_operations_shows_every_cue() -> None:
    shapes = {row[1] for row in rows(OPERATIONS) if len(row) == 6}
    assert {cue.shape for cue in CUES.values()} <= shapes


def test_operations_has_every_exit_code() -> None:
    used = set(validator.__main__.EXITS.values()) | set(backend_sync.__main__.EXITS.values())
    said = {int(row[0]): row[1] for row in rows(OPERATIONS) if row[0].isdecimal()}
    assert used | {os.EX_OK, os.EX_USAGE} <= said.keys()
    assert {code: f"`{name}`" for name, code in vars(os).items() if name.startswith("EX_") and code in said} == said


def keys(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a configuration file, as its structs have them."""
    for name, hint in get_type_hints(struct, include_extras=True).items():
        options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        tables = [option for option in options if isinstance(option, type) and get_origin(option) is None]
        inner = [option for option in tables if issubclass(option, msgspec.Struct)]
        if inner:
            yield from keys(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(("heading", "struct"), [("The gate's file", GateFile), ("The back office's file", OfficeFile)])
def test_operations_has_every_configuration_key_and_no_other(heading: str, struct: type[msgspec.Struct]) -> None:
    section = OPERATIONS.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    said = [key for row in rows(section) for key in re.findall(r"`([\w.]+)`", row[0])]
    assert sorted(said) == sorted(keys(struct))


def test_every_decision_is_in_the_index_and_has_its_parts() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    records = sorted(folder.glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(len(records)))
    for record in records:
        text = record.read_text()
        assert f"({record.name})" in index
        assert re.match(rf"# {record.name[:4]}: ", text)
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Options", "Decision", "Consequences"]


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        (str(path), target)
        for path, text in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert dead == []


def test_no_file_names_a_registry_or_a_path_of_this_machine() -> None:
    found = [
        (str(path), number, line.strip()[:100])
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if any(name in line for name in REGISTRIES) or MACHINE_PATHS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_requirements_carry_names_versions_markers_and_hashes_only(path: Path) -> None:
    pinned = False
    for line in path.read_text().splitlines():
        if HASH.fullmatch(line):
            assert pinned
            continue
        pin = PIN.fullmatch(line)
        assert pin, line
        if pin["marker"]:
            Marker(pin["marker"])
        pinned = True

"""Files that say who is refused: credential ids, and numbers of an issuer who counts its cards."""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from backend_sync.publish_errors import PublishError
from backend_sync.text_lines import lines_of
from validator.lists.dense_deny import MAX_COVERS, DenseDeny, dense_deny
from validator.lists.rice import WORD
from validator.model import CREDENTIAL_ID_BYTES

_COVERS: Final = re.compile(r"#\s*covers\s+([0-9]{1,10})")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_HEADING: Final = "number"


def credential_ids_in(file: Path) -> Iterator[bytes]:
    """Yield the ids of a file: 32 hexadecimal digits a line, what follows a # is a comment.

    Raises:
        InputMissing: It cannot be read.
        PublishError: A line is something else.
    """
    for number, line in lines_of(file):
        try:
            credential_id = bytes.fromhex(line.partition("#")[0])
        except ValueError:
            credential_id = b""
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            raise PublishError(
                f"{file}, line {number}: a credential id has {2 * CREDENTIAL_ID_BYTES} hexadecimal digits"
            )
        yield credential_id


def numbers_in(file: Path, issuer: bytes) -> DenseDeny:
    """Read the numbers of an issuer's cards that are refused.

    A number a line, in any order; a heading ``number`` may come first. A comment ``# covers N`` says how many cards the
    issuer has numbered, so that all numbers are below N.

    Args:
        file: The file.
        issuer: The id of the issuer's key, 16 bytes.

    Raises:
        InputMissing: It cannot be read.
        PublishError: A line is something else, or nothing says how many cards there are.
    """
    numbers, covers, begun = array(WORD), None, False
    greatest = (-1, 0)
    for line, content in lines_of(file, comments=True):
        if content.startswith("#"):
            covers = _covers(file, line, content, covers)
        elif begun or content != _HEADING:
            numbers.append(_number(file, line, content))
            greatest = max(greatest, (numbers[-1], line))
            begun = True
        else:
            begun = True
    if covers is None:
        raise PublishError(f"{file}: add a line `# covers N`: how many cards the issuer has numbered, 0 to N - 1")
    if greatest[0] >= covers:
        raise PublishError(f"{file}, line {greatest[1]}: card {greatest[0]} is beyond the {covers} that are covered")
    return dense_deny(issuer, covers, sorted(set(numbers)), file)


def _covers(file: Path, line: int, comment: str, before: int | None) -> int | None:
    said = _COVERS.fullmatch(comment)
    if said is None:
        return before
    covers = int(said[1])
    if before is not None:
        raise PublishError(f"{file}, line {line}: says a second time how many cards the issuer has numbered")
    if covers > MAX_COVERS:
        raise PublishError(f"{file}, line {line}: covers {covers} cards, {MAX_COVERS} can have numbers")
    return covers


def _number(file: Path, line: int, content: str) -> int:
    text = content.partition("#")[0].rstrip()
    if not _NUMBER.fullmatch(text) or int(text) >= MAX_COVERS:
        raise PublishError(f"{file}, line {line}: is not the number of a card, 0 to {MAX_COVERS - 1}")
    return int(text)

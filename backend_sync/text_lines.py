"""Text files that people hand in, line by line."""

from collections.abc import Iterator
from pathlib import Path

from backend_sync.publish_errors import InputMissing, PublishError


def lines_of(file: Path, *, comments: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, numbered from 1, without the blanks around them.

    Args:
        file: The file, UTF-8.
        comments: Whether lines that begin with # come as well.

    Raises:
        InputMissing: It cannot be read.
        PublishError: It is not text.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as text:
            for number, line in enumerate(text, 1):
                content = line.strip()
                if content and (comments or not content.startswith("#")):
                    yield number, content
    except OSError as error:
        raise InputMissing(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise PublishError(f"{file}: is not text in UTF-8: {error}") from None

"""OpenSC takes the virtual card for a DNIe: its driver, and the tool that reads what is free through contacts."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.dnie_cards import NUMBER
from tests.strangers.conftest import PORT, READER, PcscService, _end


@contextmanager
def held(service: PcscService) -> Iterator[None]:
    """Hold a card against the reader."""
    holder = service.popen([sys.executable, str(Path(__file__).with_name("hold_dnie.py")), str(PORT)])
    try:
        service.until_card()
        yield
    finally:
        _end(holder)
        service.until_card(there=False)


def test_the_driver_of_the_dnie_is_chosen(service: PcscService, tool: Callable[[str], str]) -> None:
    with held(service):
        result = service.run([tool("opensc-tool"), "--reader", READER, "--name"])
    assert result.returncode == 0, result.stdout
    assert result.stdout.strip().endswith("dnie")


def test_what_is_free_is_read(service: PcscService, tool: Callable[[str], str]) -> None:
    """Directory of certificates, support number, version and serial number, by the tool's own paths."""
    with held(service):
        result = service.run([tool("dnie-tool"), "--reader", READER, "--all"])
    assert result.returncode == 0, result.stdout
    told = dict(re.findall(r"^(.+?):\s+(.+?)\s*$", result.stdout, re.MULTILINE))
    assert told == {
        "DNIe Number": NUMBER,
        "Surname": "ESPECIMEN",
        "Name": "CARMEN",
        "IDESP": "BMP100001",
        "DNIe Version": "DNIe 4.00",
        "Serial number": "0011223344556A",
    }

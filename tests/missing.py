"""What a test needs and this machine may not have: skipped with the reason, but a failure where CI=true."""

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip a test, or a module that is being imported; fail where the suite must be whole."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI=true forbids to skip")
    pytest.skip(what, allow_module_level=True)


def program(name: str) -> str:
    """Find a Debian program."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or missing(f"{name} is not installed")

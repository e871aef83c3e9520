"""``backend-sync enrol`` in small pieces, so that a test that kills it meets many of them; says when it begins."""

import os
import sys

from backend_sync import enrolling, issuing, personalisation_file
from backend_sync.ledger import LedgerUnavailable
from validator.commandline import run_app


def main() -> None:
    issuing.CHUNK = 50
    personalisation_file.RECORDS_PER_FILE = 50
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run_app(enrolling.app, "backend-sync", {**enrolling.EXITS, LedgerUnavailable: os.EX_TEMPFAIL})


if __name__ == "__main__":
    main()

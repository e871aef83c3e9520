"""What ends an enrolment in words. No message repeats an account, a reference, a token or a key: it names the line."""


class EnrolmentError(Exception):
    """A file, a key or a certificate cannot be used, or what was asked contradicts what the ledger holds."""


class EnrolmentInputMissing(EnrolmentError):  # noqa: N818 - names the file that has to be brought
    """A file that was named cannot be read."""


class EnrolmentBusy(EnrolmentError):  # noqa: N818 - the state that is answered by trying again later
    """Another process enrols cards in this ledger."""

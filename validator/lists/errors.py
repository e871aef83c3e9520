"""Why a list is not believed, not installed or not readable."""


class ListError(Exception):
    """A list cannot be used. The message names the file, the field or key, and why.

    Attributes:
        where: The file or directory.
        why: What is wrong with it.
    """

    def __init__(self, where: object, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = str(where)
        self.why = why

"""Why a tariff, or a file of its editions, cannot be used."""

from collections.abc import Sequence


class TariffError(Exception):
    """A tariff's bytes cannot be used. The message names what they are called, the field and why.

    Attributes:
        where: The file, or what the bytes are called.
        why: What is wrong.
    """

    def __init__(self, where: object, why: str) -> None:
        super().__init__(f"{where}: {why}; compile it again from its feeds")
        self.where = str(where)
        self.why = why


class EditionsError(Exception):
    """A file of editions cannot be used. The message names what it is called, and all that is wrong.

    Attributes:
        where: The file, or what the bytes are called.
        problems: What is wrong: editions, places and fields are named.
    """

    def __init__(self, where: object, problems: Sequence[str]) -> None:
        super().__init__(f"{where}: {'; '.join(problems)}; publish the tariff again")
        self.where = str(where)
        self.problems = tuple(problems)

"""Why a tariff cannot be used."""


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

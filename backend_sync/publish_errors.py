"""Why nothing is published."""


class PublishError(Exception):
    """A list cannot be published, or a key not be written; the message names the file and why."""


class InputMissing(PublishError):  # noqa: N818 - names the file that has to be brought
    """A file that was named cannot be read."""

"""What can go wrong with a demo."""


class DemoError(Exception):
    """The demo did not do what it should; the message says what."""


class ProcessDied(DemoError):  # noqa: N818 - an event, told with the process's last words
    """A process of the demo ended on its own, or did not do its part in time."""


class Surprise(DemoError):  # noqa: N818 - an event, told in plain words
    """A tap ended otherwise than its passenger should."""

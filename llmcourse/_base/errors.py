"""The one error of the course."""

from llmcourse._base import redact


class CourseError(Exception):
    """A problem that the user can fix. The message says what went wrong, where, and what to do next.

    Messages often quote a library's error, so access tokens are taken out of them.
    """

    def __init__(self, *what: object):
        super().__init__(*(redact.redacted(part) if isinstance(part, str) else part for part in what))

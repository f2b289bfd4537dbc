"""The one error of the course."""

from llmcourse._base import redact


class CourseError(Exception):
    """A problem that the user can fix. The message says what went wrong, where, and what to type next.

    Messages often quote a library's error, so access tokens are removed from them. The library's error itself is not
    changed: where it may quote a hub's answer and is raised from, pass it to `redact.clean` first.
    """

    def __init__(self, *what: object):
        super().__init__(*(redact.redacted(part) if isinstance(part, str) else part for part in what))

"""The one error of the course, and its one kind of warning."""

from llmcourse._base import redact


class CourseError(Exception):
    """A problem that the user can fix. The message says what went wrong, where, and what to type next.

    Messages often quote a library's error, so access tokens are removed from them. The library's error itself is not
    changed: where it may quote a hub's answer and is raised from, pass it to `redact.clean` first.
    """

    def __init__(self, *what: object):
        super().__init__(*(redact.redacted(part) if isinstance(part, str) else part for part in what))


class CourseWarning(UserWarning):
    """Something that the user should know, and that stops nothing. The command line shows these, and no others."""

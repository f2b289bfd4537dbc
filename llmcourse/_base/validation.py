"""What pydantic refuses, said in the course's words."""

from collections.abc import Callable
from typing import Any, cast

from pydantic import ValidationError, model_validator

from llmcourse._base.errors import CourseError


def refuse_with(kind: str, explain: Callable[[ValidationError], str]) -> Any:
    """Return a validator for a pydantic dataclass that raises CourseError: "KIND 'its name': " and `explain(error)`."""

    def check(values: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(values)
        except ValidationError as error:
            name = (values.kwargs or {}).get("name", *(values.args or ())[:1])
            raise CourseError(f"{kind} {name!r:.60}: {explain(error)}") from None

    return model_validator(mode="wrap")(cast(Any, staticmethod(check)))

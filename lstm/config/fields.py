"""The kinds of value that several keys of the configuration share: columns, durations, spans, values to keep."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lstm.calendars.durations import duration


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _kept(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(one, str | int | float) for one in values):
        raise ValueError("must be a text, a number or true or false, or a list of them (put a date in quotes)")
    return tuple(values)


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            duration(value)
        except ValueError:
            raise ValueError("must be a duration above zero such as 30d, 6h, 10min") from None
    return value


def _with_unit(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("must be a duration with its unit, such as 60s or 10min")
    return _duration(value)


def _span(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000_000
    share = isinstance(value, float) and 0 < value < 1
    if not isinstance(value, str) and not whole and not share:
        raise ValueError("must be rows (1 or more), a fraction between 0 and 1, or a duration such as 30d")
    return _duration(value)


def _steps(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000_000
    if not isinstance(value, str) and not whole:
        raise ValueError("must be a number of steps, or a duration such as 6h")
    return _duration(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
WideColumns = Annotated[
    tuple[str, ...] | Literal["all"], BeforeValidator(lambda value: value if value == "all" else _as_tuple(value))
]
FilterValues = Annotated[tuple[str | int | float | bool, ...], BeforeValidator(_kept)]
Duration = Annotated[str, BeforeValidator(_with_unit)]
StepsOrDuration = Annotated[int | str, BeforeValidator(_steps)]
Span = Annotated[
    int | float | str, BeforeValidator(_span), Field(description="rows, a fraction of the span, or a duration")
]

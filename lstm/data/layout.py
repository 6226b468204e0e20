"""The columns of a panel, their order, and their roles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from lstm.config.data import DataSpec
from lstm.data.calendar import calendar_columns

SINCE_LAST = "since_last"


@dataclass(frozen=True)
class Layout:
    """Columns of a panel: targets, observed inputs, then known inputs.

    Observed inputs: the observed columns, their categories, the missing indicators and, for irregular rows, the time
    since the row before. Known inputs: the known and static columns, their categories, and the calendar.
    """

    columns: tuple[str, ...]
    n_targets: int
    n_known: int  # known inputs, the last columns
    scaled: tuple[int, ...]  # positions of the columns that are normalized: measured numbers
    static: tuple[int, ...]  # positions of the scaled columns that are constant within a series

    @classmethod
    def of(cls, spec: DataSpec, categories: Mapping[str, Sequence[str]]) -> Self:
        """Return the layout of a specification; `categories` are those of each column in training."""
        observed = [*spec.target, *numeric_columns(spec, spec.observed)]
        past = [*observed, *_category_columns(spec, spec.observed, categories)]
        past += [f"{name}_missing" for name in observed] if spec.missing.indicators else []
        past += [SINCE_LAST] if spec.frequency == "irregular" else []
        known, static = numeric_columns(spec, spec.known), numeric_columns(spec, spec.static)
        ahead = [*known, *static, *_category_columns(spec, (*spec.known, *spec.static), categories)]
        ahead += calendar_columns(spec.calendar)
        first_static = len(past) + len(known)
        first_unscaled = first_static + len(static)
        return cls(
            columns=(*past, *ahead),
            n_targets=len(spec.target),
            n_known=len(ahead),
            scaled=(*range(len(observed)), *range(len(past), first_unscaled)),
            static=tuple(range(first_static, first_unscaled)),
        )


def category_column(column: str, category: str) -> str:
    """Return the name of the 0/1 input of a category."""
    return f"{column}={category}"


def numeric_columns(spec: DataSpec, names: Sequence[str]) -> list[str]:
    """Return those of `names` that are not categorical."""
    return [name for name in names if name not in spec.categorical]


def _category_columns(spec: DataSpec, names: Sequence[str], categories: Mapping[str, Sequence[str]]) -> list[str]:
    categorical = [name for name in names if name in spec.categorical]
    return [category_column(name, category) for name in categorical for category in categories[name]]

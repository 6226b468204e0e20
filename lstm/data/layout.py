"""Which columns a panel has, in which order: what a network reads, and what it may know ahead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from lstm.config.data import DataSpec
from lstm.data.calendar import calendar_columns

SINCE_LAST = "since_last"


@dataclass(frozen=True)
class Layout:
    """Columns of a panel: targets, observed inputs, then the known ones.

    Observed are the observed columns, their categories, the missing indicators and, with irregular rows, the
    time since the last one. Known are the known columns, the static ones, their categories, and the calendar.
    """

    columns: tuple[str, ...]
    n_targets: int
    n_known: int  # the last columns
    scaled: tuple[int, ...]  # positions of the columns that are normalised: measured numbers
    static: tuple[int, ...]  # positions of the scaled columns that never change within a series

    @classmethod
    def of(cls, spec: DataSpec, categories: Mapping[str, Sequence[str]]) -> Self:
        """The layout of a specification; `categories` are the categories that each categorical column had in training."""
        observed = [*spec.target, *_numbers(spec, spec.observed)]
        past = [*observed, *_categories(spec, spec.observed, categories)]
        past += [f"{name}_missing" for name in observed] if spec.missing.indicators else []
        past += [SINCE_LAST] if spec.frequency == "irregular" else []
        known, static = _numbers(spec, spec.known), _numbers(spec, spec.static)
        ahead = [*known, *static, *_categories(spec, (*spec.known, *spec.static), categories)]
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
    """The name of the 0/1 input of one category."""
    return f"{column}={category}"


def _numbers(spec: DataSpec, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in spec.categorical]


def _categories(spec: DataSpec, names: Sequence[str], categories: Mapping[str, Sequence[str]]) -> list[str]:
    chosen = [name for name in names if name in spec.categorical]
    return [category_column(name, category) for name in chosen for category in categories[name]]

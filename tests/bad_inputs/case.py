"""The parts of a bad input, and fixes that several messages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bad_inputs.tables import Content

PASSWORD = "geheim"  # must appear in no message

ISO = "Use ISO 8601 such as 2013-01-31T18:00:00Z, or say how times are written: data.time_format: '%d/%m/%Y %H:%M'."
NUMERIC = "A target must be numeric; leave a missing value empty."
FREQUENCY = "Set the true frequency, or set data.resample: mean."
ONCE = (
    "Keep one row a series and time, name the column that tells them apart in data.series, or set "
    "data.duplicates: mean or last."
)
OFFSETS = "Write all times with an offset, or all without."
CLOCK = "Write times with their offset (2013-11-03T01:30:00-04:00), or in UTC with a Z."
WINDOWLESS = "Shorten the horizon or the lookback, lengthen the split, or bring more data."
LOGARITHM = "Set normalize.log: false, or leave a missing value empty."
EXTENSION = "Give it the right extension."
QUERY = "Check data.source.sql and the address in the variable."
ID = "Give every row the name of its series."
INFER = "Name the frequency with a data.resample rule, or set data.frequency: irregular."


@dataclass(frozen=True)
class Case:
    """An input that is refused."""

    title: str
    says: str  # place, and the rule or the value; … stands for any text
    fix: str  # the rest of the message; empty if the rule says it all
    files: Mapping[str, Content] = field(default_factory=dict)  # in addition to the good sales.csv, or instead of it
    data: Mapping[str, Any] = field(default_factory=dict)  # changed keys of `data`; None: removed
    sections: Mapping[str, Any] = field(default_factory=dict)  # sections other than `data`
    text: str | bytes | None = None  # the whole configuration file
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("train", "sales.yaml")

    @property
    def message(self) -> str:
        """The whole line without `lstm: `."""
        return f"{self.says} {self.fix}".strip()

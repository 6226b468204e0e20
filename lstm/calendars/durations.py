"""Parsing of durations: `30d`, `6h`, `10min`, `1d 12h`."""

import re

import pandas as pd


def parse_duration(text: str) -> pd.Timedelta:
    """Parse a duration in pandas' units; lower-case `d` and `w`, which pandas deprecates, are accepted.

    Raises:
        ValueError: `text` is not a duration, or not above zero.
    """
    length = pd.Timedelta(re.sub(r"(?<=\d)\s*([dw])(?![a-z])", lambda unit: unit[1].upper(), text))
    if not length > pd.Timedelta(0):
        raise ValueError(f"{text!r} is not above zero")
    return length

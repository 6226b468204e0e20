"""Values for JSON."""

import math
from typing import Any

import pandas as pd


def nan_to_null(value: Any) -> Any:
    """Return a copy in which every float that is not finite is None; tuples become lists."""
    if isinstance(value, dict):
        return {key: nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def records(table: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """Return the rows as dictionaries."""
    return tuple({str(name): value for name, value in row.items()} for row in table.to_dict("records"))

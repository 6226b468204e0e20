"""Which row groups of a Parquet file may hold wanted rows, by what the file says of each without reading it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from lstm.sources.reading import WantedValues
from lstm.sources.row_filter import comparison_key, may_contain

GroupRun = tuple[int, list[int]]  # neighbouring row groups, and how many rows of the file lie before them


def select_row_groups(file: pq.FileMetaData, where: WantedValues, constants: Mapping[str, Any]) -> list[GroupRun]:
    """The row groups that may hold a row in which each column has one of its values; none of them: one empty run.

    Args:
        file: its metadata.
        where: for each column the values, by the texts that they are compared by.
        constants: columns that the file's folders name.
    """
    if any(name in where and not _is(value, where[name]) for name, value in constants.items()):
        return [(0, [])]
    runs: list[GroupRun] = []
    start = 0
    for number in range(file.num_row_groups):
        group = file.row_group(number)
        if _may_hold(group, where):
            if runs and runs[-1][1][-1] == number - 1:
                runs[-1][1].append(number)
            else:
                runs.append((start, [number]))
        start += group.num_rows
    return runs or [(0, [])]


def _is(constant: Any, values: Mapping[str, Any]) -> bool:
    return not pd.isna(constant) and comparison_key(constant) in values


def _may_hold(group: pq.RowGroupMetaData, where: WantedValues) -> bool:
    for number in range(group.num_columns) if where else ():
        column = group.column(number)
        values, told = where.get(column.path_in_schema), column.statistics if column.is_stats_set else None
        if values and told is not None and told.has_min_max and not may_contain(told.min, told.max, values):
            return False
    return True

"""Selection of the row groups of a Parquet file that may hold wanted rows, by their statistics."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from lstm.sources.reading import WantedValues
from lstm.sources.row_filter import comparison_key, may_contain

GroupRun = tuple[int, list[int]]  # rows of the file before adjacent row groups, and these groups


def select_row_groups(file: pq.FileMetaData, where: WantedValues, constants: Mapping[str, Any]) -> list[GroupRun]:
    """Return the row groups that may hold a row in which each column of `where` has one of its values.

    Args:
        file: metadata of the file.
        where: values by column and comparison key.
        constants: columns that the file's folders name.

    Returns:
        Runs of adjacent row groups; if none may hold a row, one run without groups.
    """
    if any(name in where and not _is_wanted(value, where[name]) for name, value in constants.items()):
        return [(0, [])]
    runs: list[GroupRun] = []
    start = 0
    for number in range(file.num_row_groups):
        group = file.row_group(number)
        if _may_match(group, where):
            if runs and runs[-1][1][-1] == number - 1:
                runs[-1][1].append(number)
            else:
                runs.append((start, [number]))
        start += group.num_rows
    return runs or [(0, [])]


def _is_wanted(constant: Any, values: Mapping[str, Any]) -> bool:
    return not pd.isna(constant) and comparison_key(constant) in values


def _may_match(group: pq.RowGroupMetaData, where: WantedValues) -> bool:
    for number in range(group.num_columns) if where else ():
        column = group.column(number)
        values, statistics = where.get(column.path_in_schema), column.statistics if column.is_stats_set else None
        if not values or statistics is None or not statistics.has_min_max:
            continue
        if not may_contain(statistics.min, statistics.max, values):
            return False
    return True

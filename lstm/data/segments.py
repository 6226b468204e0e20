"""The segments of a source: the distinct values of the columns of `data.partition_by`."""

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from lstm.atomic import write_atomic
from lstm.config.data import DataSpec
from lstm.errors import DataError, did_you_mean
from lstm.sources.row_filter import RowFilter, comparison_codes
from lstm.sources.source import Source, open_source

Segment = tuple[str, ...]  # a value of each column, as its comparison key
_CODE = "segments/1"  # change it when the same source gives other segments
_MAX_SEGMENTS = 100_000
_MAX_LIST = 300  # characters of a list of values in a message


def find_segments(spec: DataSpec, work: Path, downloads: Path) -> tuple[Segment, ...]:
    """Return the segments among the rows of `spec.where`, sorted. They are cached in `work`.

    Raises:
        DataError: the source can't be read, a column is missing, a row has no value, or there are too many segments.
    """
    source = open_source(spec, downloads)
    index = work / f"segments-{_cache_key(source, spec)}.json" if source.sha256 else None
    try:
        if index is not None:
            return tuple(map(tuple, json.loads(index.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        pass  # missing or damaged
    segments = tuple(sorted(_scan(source, spec)))
    if index is not None:
        write_atomic(index, json.dumps(segments).encode(), durable=False)
    return segments


def _cache_key(source: Source, spec: DataSpec) -> str:
    parts = spec.model_dump(mode="json", include={"partition_by", "where", "csv", "time"})
    return sha256(json.dumps([_CODE, source.sha256, parts], sort_keys=True).encode()).hexdigest()[:16]


def _scan(source: Source, spec: DataSpec) -> set[Segment]:
    row_filter = RowFilter(spec.where)
    segments, missing = _distinct(source, spec.partition_by, row_filter)
    check_matched(source, row_filter)
    for column, rows in missing.items():
        raise DataError(
            f"{source.name}: column {column!r} of data.partition_by is empty or NA in {rows:,} rows. Give every row "
            f"its segment, or name the segments to train: data.where: {{{column}: […]}}."
        )
    if not segments:
        raise DataError(f"{source.name}: holds no rows. Name a source with data.")
    return segments


def check_matched(source: Source, row_filter: RowFilter) -> None:
    """Check, after the source has been read, that each value of `data.where` occurred.

    Raises:
        DataError: one did not, or no row matches all columns.
    """
    if (unseen := row_filter.unseen) is not None:
        column, value = unseen
        known = {text for (text,) in _distinct(source, (column,), RowFilter({}))[0]}
        if known:  # a source without rows has another error
            raise DataError(
                f"{source.name}: no row has {value!r} in column {column!r}, which data.where asks for."
                f"{did_you_mean(str(value), known, _MAX_LIST)}"
            )
    elif not row_filter.any_kept and row_filter.wanted:
        raise DataError(
            f"{source.name}: no row has what data.where asks for in {' and '.join(row_filter.wanted)} at once. Ask for "
            "less."
        )


def _distinct(source: Source, columns: Sequence[str], row_filter: RowFilter) -> tuple[set[Segment], Counter[str]]:
    """Return the combinations of values in `columns` of matching rows, and the rows without a value by column."""
    wanted = (*columns, *row_filter.wanted)
    segments: set[Segment] = set()
    missing: Counter[str] = Counter()
    for frame in source.chunks(wanted, wanted, where=row_filter.wanted):
        for column in wanted:
            if column not in frame:
                key = "partition_by" if column in columns else "where"
                hint = did_you_mean(column, source.columns(), _MAX_LIST)
                raise DataError(f"{source.name}: column {column!r} of data.{key} is not there.{hint}")
        frame = frame[row_filter.mask(frame)]
        coded = [comparison_codes(frame[column]) for column in columns]
        codes = np.stack([codes for codes, _ in coded], axis=1)  # (rows, columns)
        missing += Counter({name: int(count) for name, count in zip(columns, (codes < 0).sum(axis=0), strict=True)})
        for row in np.unique(codes[(codes >= 0).all(axis=1)], axis=0):
            segments.add(tuple(texts[code] for code, (_, texts) in zip(row, coded, strict=True)))
        if len(segments) > _MAX_SEGMENTS:
            raise DataError(
                f"{source.name}: data.partition_by: {', '.join(columns)} holds over {_MAX_SEGMENTS:,} segments. "
                "Name columns that group the rows."
            )
    return segments, missing

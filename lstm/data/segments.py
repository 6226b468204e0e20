"""The distinct values that columns of a source hold, of any size: what `data.partition_by` cuts it into."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from lstm.config.data import DataSpec
from lstm.errors import DataError, did_you_mean
from lstm.sources.row_filter import RowFilter, comparison_codes
from lstm.sources.source import Source, open_source

Segment = tuple[str, ...]  # a value of each column, by the text it is compared by
_CODE = "segments/1"  # changes when the same source holds other segments
_MOST = 100_000
_LONGEST = 300  # characters of a list of values


def find_segments(spec: DataSpec, work: Path, downloads: Path) -> tuple[Segment, ...]:
    """The values of `spec.partition_by` among the rows of `spec.where`, sorted; kept as `ingest_table` keeps a table.

    Raises:
        DataError: the source can't be read, a column is missing, a row has no value, or there are over 100,000.
    """
    source = open_source(spec, downloads)
    kept = work / f"segments-{_key(source, spec)}.json" if source.sha256 else None
    try:
        if kept is not None:
            return tuple(map(tuple, json.loads(kept.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        pass  # not there, or not whole
    found = tuple(sorted(_scanned(source, spec)))
    if kept is not None:
        beside = kept.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(found), encoding="utf-8")
        os.replace(beside, kept)
    return found


def _key(source: Source, spec: DataSpec) -> str:
    asked = spec.model_dump(mode="json", include={"partition_by", "where", "csv", "time"})
    return sha256(json.dumps([_CODE, source.sha256, asked], sort_keys=True).encode()).hexdigest()[:16]


def _scanned(source: Source, spec: DataSpec) -> set[Segment]:
    chosen = RowFilter(spec.where)
    found, missing = _distinct(source, spec.partition_by, chosen)
    check_matched(source, chosen)
    for column, rows in missing.items():
        raise DataError(
            f"{source.name}: column {column!r} of data.partition_by is empty or NA in {rows:,} rows. Give every row "
            f"its segment, or name the segments to train: data.where: {{{column}: […]}}."
        )
    if not found:
        raise DataError(f"{source.name}: holds no rows. Name a source with data.")
    return found


def check_matched(source: Source, chosen: RowFilter) -> None:
    """Every value that was asked for must have come, when the source has been read to its end.

    Raises:
        DataError: one has not, or no row has all of them.
    """
    if (left := chosen.unseen) is not None:
        column, value = left
        known = {text for (text,) in _distinct(source, (column,), RowFilter({}))[0]}
        if known:  # else the source holds no rows, which has an error of its own
            raise DataError(
                f"{source.name}: no row has {value!r} in column {column!r}, which data.where asks for."
                f"{did_you_mean(str(value), known, _LONGEST)}"
            )
    elif not chosen.any_kept and chosen.wanted:
        raise DataError(
            f"{source.name}: no row has what data.where asks for in {' and '.join(chosen.wanted)} at once. Ask for "
            "less."
        )


def _distinct(source: Source, columns: Sequence[str], chosen: RowFilter) -> tuple[set[Segment], Counter[str]]:
    """The values that come together in `columns` of chosen rows, and in how many of these rows a column has none."""
    wanted = (*columns, *chosen.wanted)
    found: set[Segment] = set()
    missing: Counter[str] = Counter()
    for frame in source.chunks(wanted, wanted, where=chosen.wanted):
        for column in wanted:
            if column not in frame:
                key = "partition_by" if column in columns else "where"
                hint = did_you_mean(column, source.columns(), _LONGEST)
                raise DataError(f"{source.name}: column {column!r} of data.{key} is not there.{hint}")
        frame = frame[chosen.mask(frame)]
        coded = [comparison_codes(frame[column]) for column in columns]
        codes = np.stack([codes for codes, _ in coded], axis=1)  # (rows, columns)
        missing += Counter({name: int(count) for name, count in zip(columns, (codes < 0).sum(axis=0), strict=True)})
        for row in np.unique(codes[(codes >= 0).all(axis=1)], axis=0):
            found.add(tuple(texts[code] for code, (_, texts) in zip(row, coded, strict=True)))
        if len(found) > _MOST:
            raise DataError(
                f"{source.name}: data.partition_by: {', '.join(columns)} holds over {_MOST:,} segments. Name columns "
                "that group the rows."
            )
    return found, missing

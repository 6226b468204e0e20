"""Parquet files as frames, a bounded number of rows at a time. Folders such as year=2024 become columns."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lstm.errors import DataError
from lstm.sources.files import Files
from lstm.sources.parquet_groups import GroupRun, select_row_groups
from lstm.sources.reading import (
    PLACE,
    WantedValues,
    check_same_columns,
    check_unique_columns,
    limit_rows,
    read_errors,
    select_columns,
)

_MAGIC = b"PAR1"
_NULL = "__HIVE_DEFAULT_PARTITION__"
_INDEX = r"__index_level_\d+__"  # pandas' unnamed index, which is not a column
_BATCH_ROWS = 65_536  # rows that are decoded at a time
_BUFFER_BYTES = 1 << 20  # of a column that are read at a time, instead of a whole row group


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files with the same columns."""

    files: Files
    schema: Any  # pa.Schema with types that fit all files
    folders: dict[str, dict[str, str]]  # by file: the values of its folders by column

    @classmethod
    def open(cls, files: Files) -> "ParquetFiles":
        """Read the schema of each file.

        Raises:
            DataError: a file is not Parquet, or has other columns or types than the others.
        """
        schemas = {part: _schema(files.path(part), files.label(part)) for part in files.parts}
        folders = {part: _folders(part) for part in files.parts}
        for columns in ({part: schema.names for part, schema in schemas.items()}, folders):
            check_same_columns({files.label(part): list(names) for part, names in columns.items()}, files.name)
        for part, schema in schemas.items():
            check_unique_columns([*schema.names, *folders[part]], files.label(part))
        return cls(files, _common_schema(schemas, files), folders)

    def columns(self) -> list[str]:
        """Return the names of all columns."""
        return [*self.schema.names, *self.folders[self.files.parts[0]]]

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, where: WantedValues = MappingProxyType({})
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows in the order of the files, without files and row groups that can't hold a row of `where`."""
        wanted = select_columns(self.columns(), columns)
        stored, rows = select_columns(self.schema.names, wanted), limit_rows(rows, len(wanted))
        constants = self._constants(wanted, text)
        rows_before = 0  # of the files before
        for part in self.files.parts:
            label, path = self.files.label(part), self.files.path(part)
            with read_errors(label):
                metadata = pq.read_metadata(path)
            groups = select_row_groups(metadata, where, constants[part])
            tables = self._tables(path, stored, rows, groups)
            while (table := _next(tables, label)) is not None:
                start, frame = table
                frame = frame.assign(**constants[part])[wanted]
                frame.attrs[PLACE] = (rows_before + start, rows_before)
                yield self.files.tag_file(frame, part)
            rows_before += metadata.num_rows

    def _tables(
        self, path: Path, names: list[str], rows: int, runs: Sequence[GroupRun]
    ) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield frames and the rows of the file before each.

        ParquetFile decodes in batches; a dataset would decode a whole row group, which may be the whole file.
        """
        schema = pa.schema([self.schema.field(name) for name in names])
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True) as file:
            for start, groups in runs:
                batches = file.iter_batches(min(rows, _BATCH_ROWS), groups, columns=names or self.schema.names[:1])
                for group in _group_batches(batches, rows):
                    count = sum(batch.num_rows for batch in group)
                    tables = [pa.Table.from_batches([batch]).select(names).cast(schema) for batch in group]
                    yield start, _frame(pa.concat_tables([schema.empty_table(), *tables]), count)
                    start += count

    def _constants(self, wanted: Sequence[str], text: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the values of the folders by file: integers if all are and the column isn't in `text`, else text."""
        values = pd.DataFrame.from_dict(self.folders, orient="index")
        for name in values.columns:
            filled = values[name].dropna()
            if name not in text and len(filled) and filled.str.fullmatch(r"-?\d{1,15}").all():
                values[name] = pd.to_numeric(values[name])
        kept = [name for name in values.columns if name in wanted]
        return {part: {name: values.at[part, name] for name in kept} for part in self.files.parts}


def _group_batches(batches: Iterator[Any], rows: int) -> Iterator[list[Any]]:
    """Yield lists of batches with at most `rows` rows together."""
    group: list[Any] = []
    for batch in batches:
        if group and sum(other.num_rows for other in group) + batch.num_rows > rows:
            yield group
            group = []
        group.append(batch)
    yield group


def _frame(table: Any, rows: int) -> pd.DataFrame:
    if not table.num_columns:
        return pd.DataFrame(index=range(rows))
    return table.to_pandas(ignore_metadata=True, date_as_object=False, split_blocks=True, self_destruct=True)


def _next(tables: Iterator[tuple[int, pd.DataFrame]], label: str) -> tuple[int, pd.DataFrame] | None:
    with read_errors(label):
        return next(tables, None)


def _schema(path: Path, label: str) -> Any:
    with read_errors(label):
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(max(0, path.stat().st_size - 4))
            tail = stream.read(4)
        if not head:
            raise DataError(f"{label}: is empty. Name a file with data.")
        if head != _MAGIC:
            raise DataError(f"{label}: is not Parquet. Give it the right extension.")
        if tail != _MAGIC:
            raise DataError(f"{label}: is cut off: a Parquet file without its end. Copy or make it again.")
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow.remove_metadata()
        return pa.schema([column for column in schema if not re.fullmatch(_INDEX, column.name)])


def _folders(part: str) -> dict[str, str]:
    """Parse the folders of `year=2024/shop=north/a.parquet`: {"year": "2024", "shop": "north"}."""
    pairs = (folder.split("=", 1) for folder in part.split("/")[:-1] if "=" in folder)
    return {name: None if value == _NULL else unquote(value) for name, value in pairs}  # type: ignore[misc]


def _common_schema(schemas: dict[str, Any], files: Files) -> Any:
    first = common = schemas[files.parts[0]]
    for part, schema in schemas.items():
        for name in schema.names:
            try:
                merged = _merge_fields(common.field(name), schema.field(name))
            except pa.ArrowException:
                types = f"{schema.field(name).type}, but {first.field(name).type} in {files.label(files.parts[0])}"
                raise DataError(f"{files.label(part)}: column {name!r} holds {types}. Write it in one type.") from None
            common = common.set(common.get_field_index(name), merged)
    return common


def _merge_fields(first: Any, second: Any) -> Any:
    """Return a column of a type that fits both; dictionary-encoded text counts as text."""
    if first.type == second.type:
        return first
    both = (
        column.with_type(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in (first, second)
    )
    return pa.unify_schemas([pa.schema([column]) for column in both], promote_options="permissive").field(0)

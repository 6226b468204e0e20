"""The log of scheduled forecasts: one part a slot, in files or in a table of a database.

Rows: `series`, `time`, `target` (only with several), `forecast`, `lo-80`, `hi-80`, … a level, `issued_at` (the slot),
`model_version` (`NAME/3`) and `run` (the Prefect flow run, or empty). Times are datetime64[us] in UTC. Whatever the
back end, what is read is what was written, in the order of slots.
"""

import os
from pathlib import Path
from threading import get_ident
from typing import Protocol

import pandas as pd
import pyarrow as pa

from lstm.config.pipeline import PipelineConfig
from lstm.data.rows import TIME
from lstm.errors import StoreError
from tasks.forecast_store.schema import ISSUED, TEXT, is_band, log_columns, typed, utc
from tasks.forecast_store.sql_log import TableLog
from tasks.settings import home

_STAMP = "%Y%m%dT%H%M%SZ"


class ForecastLog(Protocol):
    """Forecasts by slot. Of one name; a slot is a moment of whole seconds, with its time zone.

    Every method raises `StoreError` where the store does not do what it is asked.
    """

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """The slots that are there from `since` on, in order, UTC."""

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """Put the rows of a slot, whole or not at all; rows that it had before are gone. Sets `issued_at`."""

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """The rows of the slots in [since, until); with no slot there: no rows, the same columns."""

    def drop(self, before: pd.Timestamp) -> int:
        """Remove the slots before a moment; how many they were."""


def open_log(config: PipelineConfig) -> ForecastLog:
    """The log of a configuration's forecasts, as its section `forecast.log` says. Nothing is made or asked yet."""
    log, targets = config.forecast.log, config.data.target
    columns = log_columns(targets, config.evaluate.levels)
    if log.format == "sql":
        assert log.uri is not None  # as LogSpec demands
        return TableLog(log.uri, log.table, config.name, tuple(columns), targets)
    return FolderLog(home() / "forecasts" / config.name, log.format, tuple(columns))


class FolderLog:
    """A file a slot: `20260101T000000Z.parquet`."""

    def __init__(self, folder: Path, format: str, columns: tuple[str, ...]) -> None:
        """Keep files of a format, parquet or csv, in a folder, which is made with the first of them."""
        self.folder, self.format, self.columns = folder, format, columns

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """As `ForecastLog.slots`."""
        first = None if since is None else since.tz_convert("UTC")
        return [slot for slot in self._all() if first is None or slot >= first]

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """As `ForecastLog.write`."""
        path = self._path(slot)
        rows = frame.assign(**{ISSUED: utc(slot)})
        try:
            write_table(rows[[*(name for name in self.columns if name in rows)]], path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"{path}: can't be written ({reason}). Make room, or set LSTM_HOME.") from None

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """As `ForecastLog.read`."""
        wanted = [slot for slot in self.slots(since) if until is None or slot < until]
        if not wanted:
            return typed(pd.DataFrame(columns=list(self.columns)))
        return typed(pd.concat([self._frame(self._path(slot)) for slot in wanted], ignore_index=True))

    def drop(self, before: pd.Timestamp) -> int:
        """As `ForecastLog.drop`."""
        old = [slot for slot in self._all() if slot < before]
        for slot in old:
            self._path(slot).unlink(missing_ok=True)
        return len(old)

    def _all(self) -> list[pd.Timestamp]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.folder}: can't be read ({error.strerror}). Check its permissions.") from None
        stems = (name.removesuffix(f".{self.format}") for name in names if name.endswith(f".{self.format}"))
        found = pd.to_datetime(sorted(stems), format=_STAMP, errors="coerce", utc=True)
        return list(found[found.notna()].as_unit("us"))  # others are none of ours

    def _path(self, slot: pd.Timestamp) -> Path:
        return self.folder / f"{utc(slot).strftime(_STAMP)}.{self.format}"

    def _known(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The log's columns, of any levels; one of the others that is missing is a KeyError."""
        needed = {name for name in self.columns if not is_band(name)}
        if missing := sorted(needed - {str(name) for name in rows}):
            raise KeyError(f"no column {missing[0]!r}")
        return rows[[name for name in rows if name in needed or is_band(str(name))]]

    def _frame(self, path: Path) -> pd.DataFrame:
        try:
            if self.format == "parquet":
                return typed(self._known(pd.read_parquet(path)))
            rows = pd.read_csv(path, dtype="str", keep_default_na=False)  # NA may be a series, 007 is not 7
            numbers = [str(name) for name in rows if name not in (*TEXT, TIME, ISSUED)]
            rows[numbers] = rows[numbers].replace("", "nan").astype("float64")  # to the last bit, unlike pandas' reader
            return self._known(rows.assign(**{name: pd.to_datetime(rows[name], utc=True) for name in (TIME, ISSUED)}))
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0][:200]
            fix = "Remove it; where newer slots are there, run `forecast` with its `slot`."
            raise StoreError(f"{path}: is damaged ({reason}). {fix}") from None


def write_table(frame: pd.DataFrame, out: Path) -> None:
    """Write Parquet or CSV beside `out`, then move it into place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.stem}.{os.getpid()}-{get_ident()}{out.suffix}")
    try:
        frame.to_parquet(beside, index=False) if out.suffix == ".parquet" else frame.to_csv(beside, index=False)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)

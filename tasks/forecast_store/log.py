"""The log of scheduled forecasts by slot, in files or in a table of a database.

Columns: `series`, `time`, `target` (only with several targets), `forecast`, `lo-80`, `hi-80`, … per level, `issued_at`
(the slot), `model_version` (`NAME/3`) and `run` (the Prefect flow run, or empty). Times are datetime64[us] in UTC. All
back ends return the rows that were written, in the order of slots.
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
from tasks.forecast_store.schema import ISSUED, TEXT, cast_rows, is_band, log_columns, slot_in_utc
from tasks.forecast_store.sql_log import TableLog
from tasks.settings import home

_SLOT_FORMAT = "%Y%m%dT%H%M%SZ"


class ForecastLog(Protocol):
    """The scheduled forecasts of one model. Slots are in whole seconds, with a time zone.

    All methods raise `StoreError` if the store can't be read or written.
    """

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """Return the logged slots from `since` on, sorted, in UTC."""

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """Write the rows of a slot atomically, replacing earlier ones. Sets `issued_at`."""

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return the rows of the slots in [since, until); an empty frame with the same columns if there are none."""

    def drop(self, before: pd.Timestamp) -> int:
        """Delete the slots before a time; return their number."""


def open_log(config: PipelineConfig) -> ForecastLog:
    """Return the log that `forecast.log` of a configuration describes. Creates nothing and sends no request."""
    log, targets = config.forecast.log, config.data.target
    columns = log_columns(targets, config.evaluate.levels)
    if log.format == "sql":
        assert log.uri is not None  # checked by LogSpec
        return TableLog(log.uri, log.table, config.name, tuple(columns), targets)
    return FolderLog(home() / "forecasts" / config.name, log.format, tuple(columns))


class FolderLog:
    """A log with one file per slot: `20260101T000000Z.parquet`."""

    def __init__(self, folder: Path, format: str, columns: tuple[str, ...]) -> None:
        """Use files of a format (parquet or csv) in `folder`, which the first write creates."""
        self.folder, self.format, self.columns = folder, format, columns

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """As `ForecastLog.slots`."""
        first = None if since is None else since.tz_convert("UTC")
        return [slot for slot in self._all() if first is None or slot >= first]

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """As `ForecastLog.write`."""
        path = self._path(slot)
        rows = frame.assign(**{ISSUED: slot_in_utc(slot)})
        try:
            write_table(rows[[*(name for name in self.columns if name in rows)]], path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"{path}: can't be written ({reason}). Make room, or set LSTM_HOME.") from None

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """As `ForecastLog.read`."""
        selected = [slot for slot in self.slots(since) if until is None or slot < until]
        if not selected:
            return cast_rows(pd.DataFrame(columns=list(self.columns)))
        return cast_rows(pd.concat([self._frame(self._path(slot)) for slot in selected], ignore_index=True))

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
        slots = pd.to_datetime(sorted(stems), format=_SLOT_FORMAT, errors="coerce", utc=True)
        return list(slots[slots.notna()].as_unit("us"))  # other file names are not of the log

    def _path(self, slot: pd.Timestamp) -> Path:
        return self.folder / f"{slot_in_utc(slot).strftime(_SLOT_FORMAT)}.{self.format}"

    def _known(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the columns of the log, with intervals of any level.

        Raises:
            KeyError: another column is missing.
        """
        required = {name for name in self.columns if not is_band(name)}
        if missing := sorted(required - {str(name) for name in rows}):
            raise KeyError(f"no column {missing[0]!r}")
        return rows[[name for name in rows if name in required or is_band(str(name))]]

    def _frame(self, path: Path) -> pd.DataFrame:
        try:
            if self.format == "parquet":
                return cast_rows(self._known(pd.read_parquet(path)))
            rows = pd.read_csv(path, dtype="str", keep_default_na=False)  # a series may be called NA or 007
            numbers = [str(name) for name in rows if name not in (*TEXT, TIME, ISSUED)]
            rows[numbers] = rows[numbers].replace("", "nan").astype("float64")  # exact to the last bit, unlike read_csv
            return self._known(rows.assign(**{name: pd.to_datetime(rows[name], utc=True) for name in (TIME, ISSUED)}))
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0][:200]
            fix = "Remove it; where newer slots are there, run `forecast` with its `slot`."
            raise StoreError(f"{path}: is damaged ({reason}). {fix}") from None


def write_table(frame: pd.DataFrame, out: Path) -> None:
    """Write Parquet or CSV to a temporary file, then move it to `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.{os.getpid()}-{get_ident()}{out.suffix}")
    try:
        frame.to_parquet(partial, index=False) if out.suffix == ".parquet" else frame.to_csv(partial, index=False)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)

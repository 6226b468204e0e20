"""The log of scheduled forecasts in a table of a database: PostgreSQL, SQLite, or what else SQLAlchemy speaks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lstm.errors import InputError, StoreError
from lstm.sources.queries import database_url, environment, scrubbed
from tasks.forecast_store.schema import is_band, typed, utc

_KEY = ("name", "issued_at", "series", "time", "target")  # its index finds a slot of a name
_PATIENCE = 60.0  # seconds that a writer waits for another one, on SQLite
_ROWS = 10_000  # sent at a time


class _Utc(sql.types.TypeDecorator[Any]):
    """A moment: with its time zone where the database has one, else in UTC without."""

    impl = sql.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if value is None or dialect.name == "postgresql" else value.replace(tzinfo=None)


@dataclass(frozen=True)
class TableLog:
    """Rows of all names in one table, which is made if missing. See `tasks.forecast_store.log.ForecastLog`."""

    variable: str  # env:NAME, read at each use and kept nowhere
    table: str
    name: str
    columns: tuple[str, ...]  # of a row, as it is read
    targets: tuple[str, ...]

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """As `ForecastLog.slots`: one step through the index a slot, whatever rows it has."""
        with self._connection() as connection:
            if not self._is_there(connection):
                return []
            log = self._described(())
            mine = sql.select(sql.func.min(log.c.issued_at)).where(log.c.name == self.name)
            first = mine if since is None else mine.where(log.c.issued_at >= _moment(since))
            found = sql.select(first.scalar_subquery().label("slot")).cte("found", recursive=True)
            later = mine.where(log.c.issued_at > found.c.slot).scalar_subquery()
            found = found.union_all(sql.select(later).where(found.c.slot.is_not(None)))
            rows = connection.execute(sql.select(found.c.slot).where(found.c.slot.is_not(None))).scalars().all()
            return sorted(pd.to_datetime(pd.Series(rows, dtype=object), utc=True).dt.as_unit("us"))

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """As `ForecastLog.write`, in one transaction."""
        moment, rows = _moment(utc(slot)), frame.drop(columns="issued_at", errors="ignore")
        rows = rows[[name for name in self.columns if name in rows]]
        rows = rows.assign(name=self.name, target=rows["target"] if "target" in rows else self.targets[0])
        values = {str(name): rows[name].tolist() for name in rows if name != "time"}
        values["time"] = list(rows["time"].dt.tz_convert("UTC").dt.to_pydatetime())
        self._prepare()
        with self._connection() as connection:
            log = self._described(self._bands())
            connection.execute(log.delete().where((log.c.name == self.name) & (log.c.issued_at == moment)))
            statement = _upsert(log, connection.dialect.name, [*values, "issued_at"])
            names = list(values)
            for start in range(0, len(rows), _ROWS):
                part = zip(*(values[name][start : start + _ROWS] for name in names), strict=True)
                connection.execute(statement, [dict(zip(names, row, strict=True), issued_at=moment) for row in part])

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """As `ForecastLog.read`."""
        with self._connection() as connection:
            if not self._is_there(connection):
                return typed(pd.DataFrame(columns=list(self.columns)))
            present = {one["name"] for one in sql.inspect(connection).get_columns(self.table)}
            bands = [name for name in present if is_band(name)]
            log = self._described(sorted(bands, key=_by_level))
            asked = sql.select(log).where(log.c.name == self.name)
            asked = asked if since is None else asked.where(log.c.issued_at >= _moment(since))
            asked = asked if until is None else asked.where(log.c.issued_at < _moment(until))
            result = connection.execute(asked)
            rows = pd.DataFrame.from_records(list(map(tuple, result)), columns=list(result.keys()))
            for name in ("time", "issued_at"):
                rows[name] = pd.to_datetime(rows[name].astype(object), utc=True)
            return typed(self._ordered(rows))

    def drop(self, before: pd.Timestamp) -> int:
        """As `ForecastLog.drop`."""
        old = [slot for slot in self.slots() if slot < before]
        if old:
            with self._connection() as connection:
                log = self._described(())
                mine = (log.c.name == self.name) & (log.c.issued_at < _moment(before))
                connection.execute(log.delete().where(mine))
        return len(old)

    def _ordered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """In order, without what the log has not: the name, and levels that no row of this name has."""
        place = rows["target"].map({target: number for number, target in enumerate(self.targets)})
        keys = rows.assign(place=place).sort_values(["issued_at", "series", "time", "place"], kind="stable").index
        own = list(self.columns)
        others = [name for name in rows if name not in (*own, "name", "target") and rows[name].notna().any()]
        at = own.index("issued_at")
        return rows.loc[keys, [*own[:at], *others, *own[at:]]].reset_index(drop=True)

    def _bands(self) -> list[str]:
        return [name for name in self.columns if is_band(name)]

    def _described(self, bands: Any) -> sql.Table:
        text = sql.Text()
        return sql.Table(
            self.table,
            sql.MetaData(),
            *(sql.Column(name, _Utc() if name in ("issued_at", "time") else text, primary_key=True) for name in _KEY),
            sql.Column("forecast", sql.Double(), nullable=False),
            *(sql.Column(name, sql.Double()) for name in bands),
            sql.Column("model_version", text, nullable=False),
            sql.Column("run", text, nullable=False),
        )

    def _is_there(self, connection: sql.Connection) -> bool:
        """Whether the table is there.

        Raises:
            StoreError: it is another one.
        """
        if not sql.inspect(connection).has_table(self.table):
            return False
        present = {one["name"] for one in sql.inspect(connection).get_columns(self.table)}
        missing = [one.name for one in self._described(()).columns if one.name not in present]
        if missing:
            raise StoreError(
                f"forecast.log: the table {self.table!r} has no column {missing[0]!r}: it is none of forecasts. Name "
                "another in forecast.log.table."
            )
        return True

    def _prepare(self) -> None:
        """Make the table, and columns for levels that it does not have yet; another process may do so as well."""
        for last in (False, True):
            try:
                with self._connection() as connection:
                    log = self._described(self._bands())
                    if not self._is_there(connection):
                        log.create(connection)
                    present = {one["name"] for one in sql.inspect(connection).get_columns(self.table)}
                    quoted = connection.dialect.identifier_preparer.quote
                    for name in (one for one in self._bands() if one not in present):
                        kind = sql.Double().compile(connection.dialect)
                        connection.exec_driver_sql(f"ALTER TABLE {quoted(self.table)} ADD COLUMN {quoted(name)} {kind}")
                return
            except StoreError:
                if last:
                    raise

    @contextmanager
    def _connection(self) -> Iterator[sql.Connection]:
        """A transaction, with no part of the address in any message."""
        try:
            url = database_url(self.variable, "forecast.log.uri")
            patience = {"timeout": _PATIENCE} if url.get_backend_name() == "sqlite" else {}
            engine = sql.create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=patience)
            with engine.begin() as connection:
                yield connection
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # of what was read
            reason = (str(error).splitlines() or [""])[0][:200]
            raise StoreError(
                f"forecast.log: table {self.table!r} of {self.variable} holds what is no forecast ({reason}). Remove "
                "the row."
            ) from None
        except (SQLAlchemyError, ImportError) as error:
            what = "can't be reached, or refuses" if isinstance(error, DBAPIError) else "can't be used"
            why = scrubbed(error, environment(self.variable))
            raise StoreError(
                f"forecast.log: the database of {self.variable} {what} ({why}). Check the variable's value (not shown) "
                "and the database."
            ) from None


def _upsert(log: sql.Table, dialect: str, names: list[str]) -> Any:
    """Insert rows; one that another process has put meanwhile is replaced."""
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}.get(dialect)
    if insert is None:
        return log.insert()
    statement = insert(log)
    others = {name: statement.excluded[name] for name in names if name not in _KEY}
    return statement.on_conflict_do_update(index_elements=list(_KEY), set_=others)


def _moment(stamp: pd.Timestamp) -> Any:
    return stamp.tz_convert("UTC").to_pydatetime()


def _by_level(name: str) -> tuple[int, bool]:
    """lo-80, hi-80, lo-95, …"""
    side, _, level = name.partition("-")
    return int(level), side == "hi"

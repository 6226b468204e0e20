"""The log of scheduled forecasts in a database table: PostgreSQL, SQLite, or another that SQLAlchemy supports."""

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
from lstm.sources.queries import parse_database_url, read_environment, scrub_secrets
from tasks.forecast_store.schema import cast_rows, is_band, slot_in_utc

_KEY = ("name", "issued_at", "series", "time", "target")  # primary key; its index finds the slots of a name
_TIMEOUT_S = 60.0  # of waiting for another writer, on SQLite
_BATCH_ROWS = 10_000  # rows of one insert


class _UtcDateTime(sql.types.TypeDecorator[Any]):
    """A time in UTC: with a time zone on PostgreSQL, without one on other databases."""

    impl = sql.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if value is None or dialect.name == "postgresql" else value.replace(tzinfo=None)


@dataclass(frozen=True)
class TableLog:
    """The rows of all models in one table, which is created if missing. See `tasks.forecast_store.log.ForecastLog`."""

    variable: str  # env:NAME of the address, which is read at each use and not kept
    table: str
    name: str
    columns: tuple[str, ...]  # that `read` returns
    targets: tuple[str, ...]

    def slots(self, since: pd.Timestamp | None = None) -> list[pd.Timestamp]:
        """As `ForecastLog.slots`, by a loose index scan: one index lookup per slot, however many rows it has."""
        with self._connection() as connection:
            if not self._table_exists(connection):
                return []
            log = self._sql_table(())
            earliest = sql.select(sql.func.min(log.c.issued_at)).where(log.c.name == self.name)
            first = earliest if since is None else earliest.where(log.c.issued_at >= _to_datetime(since))
            slots = sql.select(first.scalar_subquery().label("slot")).cte("slots", recursive=True)
            following = earliest.where(log.c.issued_at > slots.c.slot).scalar_subquery()
            slots = slots.union_all(sql.select(following).where(slots.c.slot.is_not(None)))
            rows = connection.execute(sql.select(slots.c.slot).where(slots.c.slot.is_not(None))).scalars().all()
            return sorted(pd.to_datetime(pd.Series(rows, dtype=object), utc=True).dt.as_unit("us"))

    def write(self, slot: pd.Timestamp, frame: pd.DataFrame) -> None:
        """As `ForecastLog.write`, in one transaction."""
        moment, rows = _to_datetime(slot_in_utc(slot)), frame.drop(columns="issued_at", errors="ignore")
        rows = rows[[name for name in self.columns if name in rows]]
        rows = rows.assign(name=self.name, target=rows["target"] if "target" in rows else self.targets[0])
        values = {str(name): rows[name].tolist() for name in rows if name != "time"}
        values["time"] = list(rows["time"].dt.tz_convert("UTC").dt.to_pydatetime())
        self._ensure_table()
        with self._connection() as connection:
            log = self._sql_table(self._bands())
            connection.execute(log.delete().where((log.c.name == self.name) & (log.c.issued_at == moment)))
            statement = _upsert(log, connection.dialect.name, [*values, "issued_at"])
            names = list(values)
            for start in range(0, len(rows), _BATCH_ROWS):
                part = zip(*(values[name][start : start + _BATCH_ROWS] for name in names), strict=True)
                connection.execute(statement, [dict(zip(names, row, strict=True), issued_at=moment) for row in part])

    def read(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> pd.DataFrame:
        """As `ForecastLog.read`."""
        with self._connection() as connection:
            if not self._table_exists(connection):
                return cast_rows(pd.DataFrame(columns=list(self.columns)))
            present = {column["name"] for column in sql.inspect(connection).get_columns(self.table)}
            bands = [name for name in present if is_band(name)]
            log = self._sql_table(sorted(bands, key=_band_order))
            query = sql.select(log).where(log.c.name == self.name)
            query = query if since is None else query.where(log.c.issued_at >= _to_datetime(since))
            query = query if until is None else query.where(log.c.issued_at < _to_datetime(until))
            result = connection.execute(query)
            rows = pd.DataFrame.from_records(list(map(tuple, result)), columns=list(result.keys()))
            for name in ("time", "issued_at"):
                rows[name] = pd.to_datetime(rows[name].astype(object), utc=True)
            return cast_rows(self._ordered(rows))

    def drop(self, before: pd.Timestamp) -> int:
        """As `ForecastLog.drop`."""
        old = [slot for slot in self.slots() if slot < before]
        if old:
            with self._connection() as connection:
                log = self._sql_table(())
                is_old = (log.c.name == self.name) & (log.c.issued_at < _to_datetime(before))
                connection.execute(log.delete().where(is_old))
        return len(old)

    def _ordered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Sort the rows, and drop the name and levels that no row of this name has."""
        order = rows["target"].map({target: number for number, target in enumerate(self.targets)})
        keys = rows.assign(order=order).sort_values(["issued_at", "series", "time", "order"], kind="stable").index
        columns = list(self.columns)
        others = [name for name in rows if name not in (*columns, "name", "target") and rows[name].notna().any()]
        position = columns.index("issued_at")
        return rows.loc[keys, [*columns[:position], *others, *columns[position:]]].reset_index(drop=True)

    def _bands(self) -> list[str]:
        return [name for name in self.columns if is_band(name)]

    def _sql_table(self, bands: Any) -> sql.Table:
        text = sql.Text()
        return sql.Table(
            self.table,
            sql.MetaData(),
            *(
                sql.Column(name, _UtcDateTime() if name in ("issued_at", "time") else text, primary_key=True)
                for name in _KEY
            ),
            sql.Column("forecast", sql.Double(), nullable=False),
            *(sql.Column(name, sql.Double()) for name in bands),
            sql.Column("model_version", text, nullable=False),
            sql.Column("run", text, nullable=False),
        )

    def _table_exists(self, connection: sql.Connection) -> bool:
        """Return whether the table exists.

        Raises:
            StoreError: it lacks columns of the log.
        """
        if not sql.inspect(connection).has_table(self.table):
            return False
        present = {column["name"] for column in sql.inspect(connection).get_columns(self.table)}
        missing = [column.name for column in self._sql_table(()).columns if column.name not in present]
        if missing:
            raise StoreError(
                f"forecast.log: the table {self.table!r} has no column {missing[0]!r}, so it is no forecast log. "
                "Name another table in forecast.log.table."
            )
        return True

    def _ensure_table(self) -> None:
        """Create the table and missing columns of levels; retry once, as another process may do so too."""
        for is_last in (False, True):
            try:
                with self._connection() as connection:
                    log = self._sql_table(self._bands())
                    if not self._table_exists(connection):
                        log.create(connection)
                    present = {column["name"] for column in sql.inspect(connection).get_columns(self.table)}
                    quoted = connection.dialect.identifier_preparer.quote
                    for name in (band for band in self._bands() if band not in present):
                        kind = sql.Double().compile(connection.dialect)
                        connection.exec_driver_sql(f"ALTER TABLE {quoted(self.table)} ADD COLUMN {quoted(name)} {kind}")
                return
            except StoreError:
                if is_last:
                    raise

    @contextmanager
    def _connection(self) -> Iterator[sql.Connection]:
        """Open a transaction; errors show no part of the address."""
        try:
            url = parse_database_url(self.variable, "forecast.log.uri")
            timeout = {"timeout": _TIMEOUT_S} if url.get_backend_name() == "sqlite" else {}
            engine = sql.create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=timeout)
            with engine.begin() as connection:
                yield connection
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # of values that were read
            reason = (str(error).splitlines() or [""])[0][:200]
            raise StoreError(
                f"forecast.log: table {self.table!r} of {self.variable} has an invalid row ({reason}). Remove it."
            ) from None
        except (SQLAlchemyError, ImportError) as error:
            problem = "can't be reached, or refuses" if isinstance(error, DBAPIError) else "can't be used"
            reason = scrub_secrets(error, read_environment(self.variable))
            raise StoreError(
                f"forecast.log: the database of {self.variable} {problem} ({reason}). Check the variable's value "
                "(not shown) and the database."
            ) from None


def _upsert(log: sql.Table, dialect: str, names: list[str]) -> Any:
    """Return an insert that replaces rows with the same key, which another process may have written."""
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}.get(dialect)
    if insert is None:
        return log.insert()
    statement = insert(log)
    others = {name: statement.excluded[name] for name in names if name not in _KEY}
    return statement.on_conflict_do_update(index_elements=list(_KEY), set_=others)


def _to_datetime(stamp: pd.Timestamp) -> Any:
    return stamp.tz_convert("UTC").to_pydatetime()


def _band_order(name: str) -> tuple[int, bool]:
    """Return the sort key of lo-80, hi-80, lo-95, …"""
    side, _, level = name.partition("-")
    return int(level), side == "hi"

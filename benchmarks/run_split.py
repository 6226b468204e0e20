"""Where the time of `make run` goes: .venv/bin/python benchmarks/run_split.py [repeats]

Runs the weather example in a folder of its own, first with no stores, then with the stores that the first
run made, and writes the split to benchmarks/README.md. Imports are part of "everything else".
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "nyc_weather.yaml"
COMMAND = [str(Path(sys.executable).with_name("lstm")), "train", str(CONFIG), "--json", "--fresh"]


def one_run(home: Path) -> dict[str, float]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_"))}
    environment = {**kept, "LSTM_HOME": str(home / "mlruns"), "PREFECT_HOME": str(home / "prefect")}
    started = time.perf_counter()
    done = subprocess.run(COMMAND, cwd=home, env=environment, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - started
    outcome = json.loads(done.stdout)
    rows = {row["name"]: row["test_rmse"] for row in outcome["leaderboard"]}
    kind = outcome["promotion"]["kind"]
    best = next(row["test_rmse"] for row in outcome["leaderboard"] if row["kind"] == kind)
    spent = outcome["seconds"]
    return {
        "total, s": whole,
        "training, s": spent["train"],
        "evaluation, s": spent["evaluate"],
        "everything else, s": whole - spent["train"] - spent["evaluate"],
        "test RMSE, °F": best,
        "skill against the seasonal naive, %": 100 * (1 - best / rows["seasonal_naive"]),
        "skill against persistence, %": 100 * (1 - best / rows["persistence"]),
    }


def table(first: dict[str, float], later: list[dict[str, float]]) -> str:
    lines = [f"| | no stores yet | stores there (median of {len(later)}) |", "|---|---|---|"]
    for key in first:
        lines.append(f"| {key} | {first[key]:.2f} | {median(run[key] for run in later):.2f} |")
    return "\n".join(lines)


def main(repeats: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = [one_run(Path(folder)) for _ in range(repeats + 1)]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "prefect", "mlflow", "optuna"))
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {packages}."
    text = f"{machine}\n\n{table(runs[0], runs[1:])}"
    print(text)
    readme = ROOT / "benchmarks" / "README.md"
    pattern = re.compile(r"(<!-- run_split -->\n).*?(<!-- end -->)", re.DOTALL)
    readme.write_text(pattern.sub(lambda match: match[1] + text + "\n" + match[2], readme.read_text()))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

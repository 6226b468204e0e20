"""The tables of benchmarks/README.md from what accuracy.py and peers.py found."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Results = dict[str, Any]

# Mean squared errors on the normalised scale: DLinear (Zeng et al. 2023), PatchTST/64 (Nie et al. 2023), iTransformer
# (Liu et al. 2024), SegRNN (Lin et al. 2023).
PUBLISHED = {
    96: {"SegRNN": "0.341–0.351", "PatchTST": "0.370", "DLinear": "0.375", "iTransformer": "0.386"},
    192: {"SegRNN": "0.392", "PatchTST": "0.413", "DLinear": "0.405", "iTransformer": "0.441"},
    336: {"SegRNN": "0.423", "PatchTST": "0.422", "DLinear": "0.439", "iTransformer": "0.487"},
    720: {"SegRNN": "0.466", "PatchTST": "0.447", "DLinear": "0.472", "iTransformer": "0.503"},
}
_BASELINES = ("seasonal_naive", "persistence", "ridge")


def write(readme: Path, results: Results) -> None:
    """Replace each table between its marks."""
    text = readme.read_text(encoding="utf-8")
    peers = readme.with_name("peers.json")
    tables = {
        "etth1": _etth1(results),
        "energy": _raw(results, "energy-"),
        "stocks": _raw(results, "stocks-"),
        "weather": [*_raw(results, "weather-"), *_peers(peers)],
        "series": _skills(results),
        "cells": _cells(results),
    }
    for name, lines in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        body = "\n".join(lines)
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
    readme.write_text(text, encoding="utf-8")


def ours(result: dict[str, Any]) -> dict[str, float]:
    """The figures of the candidate that was proposed as champion."""
    return dict(result["rows"][result["champion"].removeprefix("best-")])


def _etth1(results: Results) -> Iterator[str]:
    names = list(PUBLISHED[96])
    heads = ["steps", "fast", "its CPU-s", "accurate, best single", "accurate", "its CPU-s", "ridge", *names]
    yield from _head(heads)
    for horizon, published in PUBLISHED.items():
        fast, accurate = (results.get(f"etth1-{horizon}-{preset}") for preset in ("fast", "accurate"))
        cells = [f"{horizon}", _mse(fast), _seconds(fast), _mse(accurate, "single"), _mse(accurate, "ensemble")]
        cells += [_seconds(accurate), _mse(fast or accurate, "ridge"), *(published[name] for name in names)]
        yield _row(cells)


def _mse(result: dict[str, Any] | None, row: str | None = None) -> str:
    if result is None:
        return "–"
    return f"{(result['rows'][row] if row else ours(result))['test_mse_normalized']:.4f}"


def _seconds(result: dict[str, Any] | None) -> str:
    return "–" if result is None else f"{result['train_cpu_seconds']:.0f}"


def _raw(results: Results, prefix: str) -> Iterator[str]:
    yield from _head(["task", "model", "RMSE", "MAPE, %", "R²", "skill, %", "training, CPU-s"])
    for task, result in results.items():
        if not task.startswith(prefix):
            continue
        rows = {f"ours ({result['champion'].removeprefix('best-')})": ours(result)}
        rows |= {name: result["rows"][name] for name in _BASELINES if name in result["rows"]}
        for name, row in rows.items():
            figures = [f"{row[f'test_{key}']:.{digits}f}" for key, digits in (("rmse", 4), ("mape", 2), ("r2", 4))]
            seconds = _seconds(result) if name.startswith("ours") else "–"
            yield _row([task, name, *figures, f"{100 * row['test_rmse_skill']:.1f}", seconds])


def _peers(path: Path) -> Iterator[str]:
    """Rows of the table above: one JSON object a line, as peers.py prints them."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        result = json.loads(line)
        name = f"{result['model']} ({result['package']} {result['version']}), look-back {result['look_back']}"
        yield _row(["weather", name, f"{result['test_rmse']:.4f}", "–", "–", "–", f"{result['cpu_seconds']:.0f}"])


def _skills(results: Results) -> Iterator[str]:
    yield from _head(["series", "skill, %", "ridge's, %", "persistence's, %", "became champion", "said"])
    for task, result in results.items():
        if task.startswith("series-"):
            rows = (ours(result), *(result["rows"].get(name) for name in ("ridge", "persistence")))
            skills = [f"{100 * row['test_rmse_skill']:.1f}" if row else "–" for row in rows]
            notices = "; ".join(line.split(":")[0] for line in result["said"])
            yield _row([task.removeprefix("series-"), *skills, "yes" if result["promoted"] else "no", notices or "–"])


def _cells(results: Results) -> Iterator[str]:
    yield from _head(["cell", "parameters", "training, s", "best epoch", "validation RMSE, scaled"])
    for trial in results["cells"]["trials"] if "cells" in results else ():
        figures = [f"{trial['parameters']:,}", f"{trial['seconds']:.1f}", f"{trial['best_epoch']}"]
        yield _row([trial["network"]["cell"], *figures, f"{trial['val_rmse']:.4f}"])


def _head(names: list[str]) -> Iterator[str]:
    yield _row(names)
    yield "|---" * len(names) + "|"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

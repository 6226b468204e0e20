"""The pictures of a report: which section each belongs into, what it shows, and its bytes inside the page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

# By section the pictures that belong into it, each with what it shows.
_SHOWN = {
    "leaderboard": {"leaderboard": "Test error of every model, with its 95 % bootstrap interval"},
    "forecasts": {
        "forecast_vs_actual": "Forecast and actual values over the newest test windows, with prediction intervals",
        "error_by_horizon": "Test error of every model by step ahead",
        "residuals": "Distribution of the residuals beside a normal density, and their autocorrelation by lag",
    },
    "intervals": {"calibration": "Empirical against nominal coverage of the prediction intervals"},
    "networks": {"training_curves": "Losses, validation error, learning rate and gradient norm by epoch"},
    "search": {
        "search_history": "Validation error by trial, the best so far, and the pruned trials",
        "importance": "Share of each searched key in the differences between trials",
        "parallel_coordinates": "Values of the searched keys of each trial, coloured by validation error",
        "pareto": "Validation error against the time of one forecast",
    },
    "data": {
        "series": "The target over time, with the splits shaded and missing steps marked",
        "gaps": "Where steps are missing, and how long gaps are",
        "distribution": "Distribution of the target in each split",
        "autocorrelation": "Autocorrelation of the target in the training span",
    },
}


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page."""

    name: str
    shows: str
    data: Markup  # a data: URI


def pictures(paths: Sequence[Path]) -> dict[str, list[Picture]]:
    """By section, in their order there; what no section knows is in `others`."""
    at = {path.stem: path for path in paths}
    named = {section: [name for name in names if name in at] for section, names in _SHOWN.items()}
    shows = {name: text for names in _SHOWN.values() for name, text in names.items()}
    named["others"] = [name for name in at if name not in shows]
    return {
        section: [Picture(name, shows.get(name, name.replace("_", " ")), _inside(at[name])) for name in names]
        for section, names in named.items()
    }


def _inside(path: Path) -> Markup:
    return Markup(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}")

"""Images of the report: their sections, descriptions and embedded bytes."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

# By section and file name: what the image shows.
_DESCRIPTIONS = {
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
class Image:
    """A PNG embedded in the page."""

    name: str
    description: str
    data: Markup  # a data: URI


def images_by_section(paths: Sequence[Path]) -> dict[str, list[Image]]:
    """Load PNGs by section, in their order there; unknown names are in the section `others`."""
    by_name = {path.stem: path for path in paths}
    sections = {section: [name for name in names if name in by_name] for section, names in _DESCRIPTIONS.items()}
    descriptions = {name: text for names in _DESCRIPTIONS.values() for name, text in names.items()}
    sections["others"] = [name for name in by_name if name not in descriptions]
    return {
        section: [
            Image(name, descriptions.get(name, name.replace("_", " ")), _data_uri(by_name[name])) for name in names
        ]
        for section, names in sections.items()
    }


def _data_uri(path: Path) -> Markup:
    return Markup(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}")

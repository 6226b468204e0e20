"""`report.html`: a model card in one file, with embedded images, without scripts and external resources.

Plain functions of the evaluation folder's files and of `ReportInputs`.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.reporting import report_tables
from tasks.reporting.facts import data_facts, gate_facts, lineage_facts
from tasks.reporting.images import images_by_section
from tasks.reporting.tables import REFERENCE, Table, format_metric, networks
from tasks.settings import without_password

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_SECRET = re.compile(
    r"(?i)((?:[?&][^=&#\s]*(?:signature|token|sig|secret|password|key|credential)[^=&#\s]*|\b(?:password|passwd|pwd))=)"
    r"[^&#\s]+"
)
# In their order on the page.
_SECTIONS = {
    "use": "How to use it",
    "leaderboard": "Leaderboard",
    "gate": "The gate",
    "findings": "Findings",
    "audit": "Leakage audit",
    "forecasts": "Forecasts",
    "backtest": "Backtest",
    "intervals": "Intervals",
    "networks": "Networks",
    "search": "Search",
    "data": "Data",
    "lineage": "Lineage",
    "others": "More pictures",
    "config": "Configuration",
}
_SECTION_OF_TABLE = {
    **dict.fromkeys(("fold", "series", "hour", "weekday", "horizon"), "backtest"),
    "metrics": "leaderboard",
    "ensembles": "networks",
    "columns": "data",
}
_MAX_NETWORKS = 25


@dataclass(frozen=True)
class ReportInputs:
    """What the report needs besides the evaluation folder, JSON-ready but for the paths."""

    name: str  # of the registered model
    run_name: str
    run_id: str
    promotion: Mapping[str, Any]  # as in promotion.json
    config: Mapping[str, Any]  # PipelineConfig.to_dict()
    lineage: Mapping[str, Any]  # tags of the run, and `packages`: name -> version
    data: Mapping[str, Any]  # as in profile/summary.json
    trials: Sequence[Mapping[str, Any]] = ()  # as in flows.pipeline.Outcome
    notices: Sequence[str] = ()
    advisories: Sequence[str] = ()
    images: Sequence[Path] = field(default=())  # PNGs besides those of the folder

    @property
    def levels(self) -> Sequence[int]:
        """Levels of the intervals, in percent."""
        levels: Sequence[int] = self.config.get("evaluate", {}).get("levels", ())
        return levels


def write_report(folder: Path, inputs: ReportInputs) -> str:
    """Write `report.html` into the evaluation folder; return its text.

    Sections whose files are missing are left out. Credentials in addresses are hidden.
    """
    text = _template().render(_context(folder, inputs))
    (folder / "report.html").write_text(text, encoding="utf-8")
    return text


@functools.cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_without_secrets,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _without_secrets(value: Any) -> Any:
    """Hide credentials in every text of the page; markup of the template stays as it is."""
    return without_secrets(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def without_secrets(text: str) -> str:
    """Hide user and password in addresses, and values of parameters that are named like secrets."""
    return _SECRET.sub(r"\1…", _URL.sub(lambda match: without_password(match[0]), text))


def _context(folder: Path, inputs: ReportInputs) -> dict[str, Any]:
    """Return the variables of the template."""
    scores = report_tables.read_json(folder / "scores.json") or {}
    proposed = report_tables.proposed_model(scores, str(inputs.promotion.get("kind", "")))
    findings, audit = (report_tables.read_json(folder / f"{name}.json") for name in ("findings", "audit"))
    tables = dict(_tables(folder, inputs, scores, proposed))
    if audit is not None:
        tables["audit"] = report_tables.audit_checks(audit["checks"])
    images = images_by_section((*sorted(folder.glob("*.png")), *inputs.images))
    always = {"use", "gate", "data", "lineage", "config"} | ({"findings"} if findings is not None else set())
    filled = always | {_SECTION_OF_TABLE.get(name, name) for name in tables}
    filled |= {section for section, section_images in images.items() if section_images}
    lineage = {"run_id": inputs.run_id, "run_name": inputs.run_name, **inputs.lineage}
    return {
        "inputs": inputs,
        "sections": [(name, title) for name, title in _SECTIONS.items() if name in filled],
        "tiles": list(_tiles(inputs)),
        "proposed": proposed,
        "metrics": scores.get(proposed, {}).get("metrics", {}),
        "format_metric": format_metric,
        "usage": _usage(inputs),
        "gate": list(gate_facts(inputs.promotion)),
        "tables": tables,
        "findings": findings,
        "audit": audit,
        "images": images,
        "data": list(data_facts(inputs.data, inputs.config.get("data", {}))),
        "lineage": list(lineage_facts(lineage)),
        "config": yaml.safe_dump(dict(inputs.config), sort_keys=False, allow_unicode=True, width=100),
    }


def _tiles(inputs: ReportInputs) -> Iterator[tuple[str, str]]:
    """Yield key and label of the metrics at the top."""
    yield "test_rmse", "test RMSE"
    yield "test_rmse_skill", f"skill over {REFERENCE}"
    yield from ((f"test_coverage_{level}", f"inside the {level} % interval") for level in inputs.levels)


def _tables(
    folder: Path, inputs: ReportInputs, scores: report_tables.Scores, proposed: str
) -> Iterator[tuple[str, Table]]:
    """Yield the tables that have rows, by name."""
    methods = report_tables.read_json(folder / "ensembles.json") or {}
    tables = {
        "leaderboard": report_tables.leaderboard(scores, proposed),
        "intervals": report_tables.intervals(scores, inputs.levels),
        "ensembles": report_tables.ensemble_methods(methods, str(inputs.config.get("ensemble", {}).get("method", ""))),
        "networks": networks(inputs.trials, _MAX_NETWORKS),
        "columns": report_tables.column_roles(inputs.config.get("data", {})),
        **({"metrics": report_tables.all_metrics(scores[proposed])} if proposed else {}),
        **dict(_breakdowns(folder, proposed)),
    }
    yield from ((name, table) for name, table in tables.items() if table.rows)


def _breakdowns(folder: Path, proposed: str) -> Iterator[tuple[str, Table]]:
    """Yield test errors by group, of the groups that have a file with rows."""
    builders: dict[str, Callable[[pd.DataFrame], Table]] = {
        "fold": lambda metrics: report_tables.rmse_by_group(metrics, "fold", "fold", proposed),
        "horizon": lambda metrics: report_tables.rmse_by_group(metrics, "horizon", "step ahead", proposed),
        "series": lambda metrics: report_tables.worst_series(metrics, proposed),
        "hour": lambda metrics: report_tables.metrics_by_group(metrics, "hour", proposed),
        "weekday": lambda metrics: report_tables.metrics_by_group(metrics, "weekday", proposed),
    }
    for by, build in builders.items():
        file = "backtest.csv" if by == "fold" else f"by_{by}.csv"
        metrics = report_tables.read_metrics(folder / file, by)
        if len(metrics):
            yield by, build(metrics)


def _usage(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the commands of the section `use` hold: the model's name, and its input."""
    data, promotion, window = inputs.config.get("data", {}), inputs.promotion, inputs.config.get("window", {})
    numbered = f"{inputs.name}/{promotion['version']}" if promotion.get("version") else inputs.name
    types = _types(data)
    single = promotion.get("kind") == "best-single"
    members = inputs.trials[:1] if single else [trial for trial in inputs.trials if trial["in_ensemble"]]
    lookbacks = [trial["network"].get("sequence_length") for trial in members]
    return {
        "model": inputs.name if promotion.get("champion") else numbered,
        "numbered": numbered,
        "uri": f"models:/{inputs.name}@champion" if promotion.get("champion") else f"models:/{numbered}",
        "columns": list(types),
        "others": data.get("wide") == "all",
        "types": ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {dtype}" for name, dtype in types.items()),
        "known": list(data.get("known") or ()),
        "horizon": window.get("horizon"),
        "levels": list(inputs.levels),
        "rows": max((lookback for lookback in lookbacks if lookback), default=None),
    }


def _types(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the type of each input column; of a table that is wide by `all`, of the named columns."""
    wide = data.get("wide") or ()
    series = () if wide == "all" else wide or data.get("target") or ()
    texts = (data.get("time", "time"), *(data.get("series") or ()))
    values = (*series, *(name for role in ("observed", "known", "static") for name in data.get(role) or ()))
    categorical = data.get("categorical") or ()
    return dict.fromkeys(texts, "str") | {name: "str" if name in categorical else "float" for name in values}

"""`report.html`: a model card in one file, with its pictures inside, no script and nothing from the network.

Plain functions: what they need lies in the evaluation folder and in `Facts`.
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

from tasks.reporting import tables as tables
from tasks.reporting.images import pictures
from tasks.reporting.tables import Grid
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
_SECTION_OF = {
    **dict.fromkeys(("fold", "series", "hour", "weekday", "horizon"), "backtest"),
    "metrics": "leaderboard",
    "ensembles": "networks",
    "columns": "data",
}
_LINEAGE = {
    "run_id": "MLflow run",
    "run_name": "run name",
    "prefect_flow_run_id": "Prefect flow run",
    "data_sha256": "data, sha256",
    "config_sha256": "configuration, sha256",
    "git_commit": "git commit",
    "lock_sha256": "requirements.lock, sha256",
    "seed": "seed",
    "device": "device",
    "packages": "packages",
}
_GATE = {
    "test_rmse": "test RMSE",
    "val_rmse": "validation RMSE",
    "baseline_test_rmse": "test RMSE of the baseline",
    "folds_won": "folds won",
    "folds": "folds",
    "incumbent_version": "champion until then, version",
    "incumbent_test_rmse": "test RMSE of that champion",
    "effect": "share of its error that is gone",
    "min_effect": "least share that counts",
    "statistic": "Diebold–Mariano statistic",
    "p_value": "p value",
    "alpha": "alpha",
    "origins": "origin times compared",
    "freedom": "degrees of freedom",
}


@dataclass(frozen=True)
class Facts:
    """What the evaluation folder does not say, JSON-ready but for the paths."""

    name: str  # of the registered model
    run_name: str
    run_id: str
    promotion: Mapping[str, Any]  # as in promotion.json
    config: Mapping[str, Any]  # PipelineConfig.to_dict()
    lineage: Mapping[str, Any]  # tags of the run, and `packages`: name -> version
    data: Mapping[str, Any]  # as in profile/summary.json
    trials: Sequence[Mapping[str, Any]] = ()  # as flows.train.Outcome has them
    notices: Sequence[str] = ()
    advisories: Sequence[str] = ()
    pictures: Sequence[Path] = field(default=())  # PNGs beside those of the folder


def write_report(folder: Path, facts: Facts) -> str:
    """Write `report.html` into the evaluation folder; its text.

    Files of the folder that are not there leave their sections out. What looks like a password or a key in an address
    is not shown.
    """
    text = _template().render(_content(folder, facts))
    (folder / "report.html").write_text(text, encoding="utf-8")
    return text


@functools.cache
def _template() -> Any:
    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=here, autoescape=True, finalize=_shown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _shown(value: Any) -> Any:
    """Every text on its way into the page, without credentials; markup of the template itself as it is."""
    return without_secrets(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def without_secrets(text: str) -> str:
    """Without what stands before the host of an address, and without the value of what is called like a key."""
    return _SECRET.sub(r"\1…", _URL.sub(lambda found: without_password(found[0]), text))


def _content(folder: Path, facts: Facts) -> dict[str, Any]:
    """All that the template reads."""
    scores = tables.read_json(folder / "scores.json") or {}
    ours = tables.proposed(scores, str(facts.promotion.get("kind", "")))
    findings, audit = (tables.read_json(folder / f"{name}.json") for name in ("findings", "audit"))
    grids = dict(_grids(folder, facts, scores, ours))
    if audit is not None:
        grids["audit"] = tables.checks(audit["checks"])
    shown = pictures((*sorted(folder.glob("*.png")), *facts.pictures))
    always = {"use", "gate", "data", "lineage", "config"} | ({"findings"} if findings is not None else set())
    filled = always | {_SECTION_OF.get(name, name) for name in grids} | {name for name, some in shown.items() if some}
    return {
        "facts": facts,
        "sections": [(name, title) for name, title in _SECTIONS.items() if name in filled],
        "tiles": list(_tiles(facts)),
        "ours": ours,
        "metrics": scores.get(ours, {}).get("metrics", {}),
        "figure": tables.figure,
        "uses": _uses(facts),
        "gate": [(label, _gate_figure(key, facts.promotion.get(key))) for key, label in _GATE.items()],
        "grids": grids,
        "findings": findings,
        "audit": audit,
        "pictures": shown,
        "data": list(_data(facts)),
        "lineage": list(_lineage(facts)),
        "config": yaml.safe_dump(dict(facts.config), sort_keys=False, allow_unicode=True, width=100),
    }


def _tiles(facts: Facts) -> Iterator[tuple[str, str]]:
    """The metrics that stand at the top."""
    yield "test_rmse", "test RMSE"
    yield "test_rmse_skill", f"skill over {tables.REFERENCE}"
    yield from ((f"test_coverage_{level}", f"inside the {level} % interval") for level in _levels(facts))


def _levels(facts: Facts) -> Sequence[int]:
    found: Sequence[int] = facts.config.get("evaluate", {}).get("levels", ())
    return found


def _grids(folder: Path, facts: Facts, scores: tables.Scores, ours: str) -> Iterator[tuple[str, Grid]]:
    """The tables that have rows, by name."""
    combined = tables.read_json(folder / "ensembles.json") or {}
    found = {
        "leaderboard": tables.leaderboard(scores, ours),
        "intervals": tables.intervals(scores, _levels(facts)),
        "ensembles": tables.ensembles(combined, str(facts.config.get("ensemble", {}).get("method", ""))),
        "networks": tables.networks(facts.trials),
        "columns": tables.columns_of(facts.config.get("data", {})),
        **({"metrics": tables.every_metric(scores[ours])} if ours else {}),
        **dict(_breakdowns(folder, ours)),
    }
    yield from ((name, grid) for name, grid in found.items() if grid.rows)


def _breakdowns(folder: Path, ours: str) -> Iterator[tuple[str, Grid]]:
    """The test errors by group, of the groups that have a file with rows."""
    makers: dict[str, Callable[[pd.DataFrame], Grid]] = {
        "fold": lambda table: tables.across(table, "fold", "fold", ours),
        "horizon": lambda table: tables.across(table, "horizon", "step ahead", ours),
        "series": lambda table: tables.worst_series(table, ours),
        "hour": lambda table: tables.by_group(table, "hour", ours),
        "weekday": lambda table: tables.by_group(table, "weekday", ours),
    }
    for by, made in makers.items():
        table = tables.read_table(folder / ("backtest.csv" if by == "fold" else f"by_{by}.csv"), by)
        if len(table):
            yield by, made(table)


def _uses(facts: Facts) -> dict[str, Any]:
    """What a reader types: the model's name, and what its input must hold."""
    data, promotion, window = facts.config.get("data", {}), facts.promotion, facts.config.get("window", {})
    numbered = f"{facts.name}/{promotion['version']}" if promotion.get("version") else facts.name
    types = _types(data)
    single = promotion.get("kind") == "best-single"
    members = facts.trials[:1] if single else [one for one in facts.trials if one["in_ensemble"]]
    lookbacks = [one["network"].get("sequence_length") for one in members]
    return {
        "model": facts.name if promotion.get("champion") else numbered,
        "numbered": numbered,
        "uri": f"models:/{facts.name}@champion" if promotion.get("champion") else f"models:/{numbered}",
        "columns": list(types),
        "others": data.get("wide") == "all",
        "types": ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {kind}" for name, kind in types.items()),
        "known": list(data.get("known") or ()),
        "horizon": window.get("horizon"),
        "levels": list(_levels(facts)),
        "rows": max((one for one in lookbacks if one), default=None),
    }


def _types(data: Mapping[str, Any]) -> dict[str, str]:
    """The columns of the input and what they are read as; of a table that is wide by `all` those that have a name."""
    wide = data.get("wide") or ()
    series = () if wide == "all" else wide or data.get("target") or ()
    texts = (data.get("time", "time"), *(data.get("series") or ()))
    values = (*series, *(name for role in ("observed", "known", "static") for name in data.get(role) or ()))
    categories = data.get("categorical") or ()
    return dict.fromkeys(texts, "str") | {name: "str" if name in categories else "float" for name in values}


def _gate_figure(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in ("p_value", "alpha"):
        return f"{value:.3g}"
    return tables.figure("skill" if key in ("effect", "min_effect") else key, value)


def _data(facts: Facts) -> Iterator[tuple[str, str]]:
    """What the data are, in words."""
    found, data = facts.data, facts.config.get("data", {})
    source = data.get("source", "")
    yield "source", f"{source.get('sql')} ({source.get('uri')})" if isinstance(source, dict) else str(source)
    if found.get("first"):
        yield "span", _span((found["first"], found["last"]))
    yield "frequency", str(found.get("frequency") or data.get("frequency", ""))
    for key, label in (("rows", "rows"), ("series", "series"), ("season", "steps of a season")):
        if found.get(key) is not None:
            yield label, f"{found[key]:,}"
    for split, span in (found.get("splits") or {}).items():
        yield split, _span(span)
    if found.get("missing") is not None:
        counts = f"{found['missing']:,} of {found['steps']:,} without a target, {found['filled']:,} of them filled"
        yield "steps", f"{counts}; {found['gaps']:,} gaps, the longest of {found['longest_gap']:,}"
    if found.get("left_out") is not None:
        yield "series left out", f"{found['left_out']:,}"
    if found.get("drift_psi_max") is not None:
        yield "largest drift between splits", f"PSI {found['drift_psi_max']:.2f}, {found.get('drift_column')}"
    if found.get("sha256"):
        yield "sha256 of the prepared table", str(found["sha256"])


def _span(moments: Sequence[str]) -> str:
    """From when to when, to the second where that says something."""
    shown = [pd.Timestamp(moment).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00") for moment in moments]
    return f"{' to '.join(shown)} UTC"


def _lineage(facts: Facts) -> Iterator[tuple[str, str]]:
    """Where the model came from; what has no label here is called as it is."""
    known = {"run_id": facts.run_id, "run_name": facts.run_name, **facts.lineage}
    for key in (*_LINEAGE, *(key for key in known if key not in _LINEAGE)):
        value = known.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        if value:
            yield _LINEAGE.get(key, key.replace("_", " ")), str(value)

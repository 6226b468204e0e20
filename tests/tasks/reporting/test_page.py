"""`report.html`: sections, valid markup, escaping, hidden credentials; and its tables."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting.page import ReportInputs, without_secrets, write_report
from tasks.reporting.plotting import save_plots, subplots
from tasks.reporting.report_tables import leaderboard, proposed_model, worst_series
from tasks.reporting.tables import format_metric

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "hr", "link", "input"}
SECTIONS = {
    "use",
    "leaderboard",
    "gate",
    "findings",
    "audit",
    "forecasts",
    "backtest",
    "intervals",
    "networks",
    "search",
    "data",
    "lineage",
    "others",
    "config",
}


class Page(HTMLParser):
    """Parsed HTML: tags with attributes, text, and tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags, self.text, self.unbalanced = [], [], [], []
        self.feed(text)
        self.close()
        self.unbalanced += self.opened

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        if not self.opened or self.opened.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def make_scores(kind, rmse):
    metrics = {f"{split}_{name}": rmse for split in ("val", "test") for name in ("rmse", "mae", "mase")}
    metrics |= {"test_rmse_skill": 1 - rmse / 8, "test_coverage_80": 0.75, "test_width_80": 3.0}
    return {
        "kind": kind,
        "metrics": metrics,
        "low": {"test_rmse": 0.9 * rmse, "test_mae": None},
        "high": {"test_rmse": 1.1 * rmse, "test_mae": None},
    }


SCORES = {
    "trial-003": make_scores("best-single", 6.0),
    "ensemble-mean-2": make_scores("best-ensemble", 5.0),
    "seasonal_naive": make_scores("baseline", 8.0),
}


def metrics_by(by, names):
    rows = [
        (model, name, 10, SCORES[model]["metrics"]["val_rmse"] + n) for model in SCORES for n, name in enumerate(names)
    ]
    table = pd.DataFrame(rows, columns=["model", by, "windows", "rmse"])
    return table.assign(mae=table["rmse"] / 2, mase=table["rmse"] / 4, coverage_80=0.8)


def evaluation_folder(folder, series=("north", "south")):
    """Write every file that an evaluation writes."""
    contents = {
        "scores": SCORES,
        "findings": [{"trouble": "not_learning", "evidence": "0.9 ≈ 1", "remedy": "Raise it", "where": "trial-003"}],
        "ensembles": {"mean": 0.31, "greedy": 0.3},
        "audit": {"passed": True, "checks": [{"name": "future", "passed": True, "evidence": "moved by 0"}]},
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    groups = {"horizon": range(1, 7), "series": series, "hour": range(24), "weekday": range(7)}
    for by, names in groups.items():
        metrics_by(by, names).to_csv(folder / f"by_{by}.csv", index=False)
    metrics_by("fold", range(1, 5)).to_csv(folder / "backtest.csv", index=False)
    names = ("forecast_vs_actual", "training_curves", "search_history", "calibration", "series", "own_plot")
    save_plots(folder, {name: subplots(name, 2)[0] for name in names})
    return folder


def make_inputs(**changes):
    network = {"cell": "lstm", "hidden_size": 8, "sequence_length": 48, "lags": [24]}
    values = {
        "name": "shops",
        "run_name": "train-1",
        "run_id": "abc123",
        "promotion": {
            "version": 3,
            "kind": "best-ensemble",
            "champion": True,
            "reason": "beats seasonal_naive",
            "p_value": 0.0123,
            "effect": 0.031,
            "checks": [{"name": "serves", "passed": True, "reason": "same numbers"}],
        },
        "config": {
            "name": "shops",
            "data": {"source": "a.csv", "time": "time", "series": ["shop"], "target": ["sales"], "known": ["price"]},
            "window": {"horizon": 6},
            "ensemble": {"method": "mean"},
            "evaluate": {"levels": [80]},
        },
        "lineage": {"data_sha256": "d" * 64, "seed": "0", "packages": {"torch": "2.13.0"}},
        "data": {"rows": 1920, "series": 2, "first": "2024-03-01T00:00:00+00:00", "last": "2024-04-09T23:00:00+00:00"},
        "trials": [
            {
                "name": "trial-003",
                "in_ensemble": True,
                "val_rmse": 0.31,
                "best_epoch": 2,
                "parameters": 21433,
                "seconds": 3.2,
                "network": network,
            },
            {
                "name": "trial-001",
                "in_ensemble": True,
                "val_rmse": 0.32,
                "best_epoch": 4,
                "parameters": 12985,
                "seconds": 4.1,
                "network": {**network, "hidden_size": 16},
            },
        ],
        "notices": ["3 of 1944 steps lacked a target and were filled"],
        "advisories": ["short_sequences: too short"],
    }
    return ReportInputs(**{**values, **changes})


def sections(page):
    return {attrs["id"] for attrs in page.of("section")}


def test_a_complete_folder_fills_every_section_and_the_markup_is_valid(tmp_path):
    text = write_report(evaluation_folder(tmp_path), make_inputs())
    page = Page(text)
    assert sections(page) == SECTIONS
    assert page.unbalanced == []
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.of("a")} == {f"#{name}" for name in SECTIONS}


def test_an_empty_folder_leaves_the_sections_of_the_inputs(tmp_path):
    bare = make_inputs(trials=(), notices=(), advisories=(), data={}, lineage={})
    page = Page(write_report(tmp_path, bare))
    assert sections(page) == {"use", "gate", "data", "lineage", "config"}
    assert page.unbalanced == [] and not page.of("img")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("scores.json", "leaderboard"),
        ("scores.json", "intervals"),
        ("findings.json", "findings"),
        ("audit.json", "audit"),
        ("forecast_vs_actual.png", "forecasts"),
        ("search_history.png", "search"),
        ("own_plot.png", "others"),
    ],
)
def test_a_missing_file_leaves_out_its_section_alone(tmp_path, file, section):
    evaluation_folder(tmp_path)
    (tmp_path / "calibration.png").unlink()
    (tmp_path / file).unlink()
    page = Page(write_report(tmp_path, make_inputs()))
    gone = {"leaderboard", "intervals"} if file == "scores.json" else {section}
    assert section not in sections(page) and SECTIONS - sections(page) == gone


def test_nothing_comes_from_the_network_and_no_script_runs(tmp_path):
    text = write_report(evaluation_folder(tmp_path), make_inputs())
    page = Page(text)
    loads = [
        attrs[key] for _, attrs in page.tags for key in ("src", "srcset", "action", "data", "poster") if key in attrs
    ]
    assert len(loads) == 6 and all(source.startswith("data:image/png;base64,") for source in loads)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|url\(|@import", text)
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


def test_hostile_names_are_escaped(tmp_path):
    evaluation_folder(tmp_path, series=(EVIL, '" onload="x'))
    findings = [{"trouble": EVIL, "evidence": EVIL, "remedy": EVIL, "where": EVIL}]
    (tmp_path / "findings.json").write_text(json.dumps(findings))
    hostile = make_inputs(
        run_name=EVIL,
        notices=[EVIL],
        advisories=[EVIL],
        config={**make_inputs().config, "data": {"source": EVIL, "time": EVIL, "target": [EVIL]}},
        lineage={EVIL: EVIL},
        promotion={**make_inputs().promotion, "reason": EVIL},
    )
    text = write_report(tmp_path, hostile)
    page = Page(text)
    assert "<script" not in text.lower() and page.unbalanced == []
    assert page.words.count(EVIL) >= 12
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


def test_credentials_in_addresses_are_hidden_everywhere(tmp_path):
    secrets = ("hunter2", "s3cr3t", "AKIA99", "p%40ss")
    source = "postgresql://me:hunter2@db.example/shop?sslmode=require&password=s3cr3t"
    signed = "https://bucket.example/a.csv?X-Amz-Signature=AKIA99&part=1"
    evaluation_folder(tmp_path)
    findings = [{"trouble": "shift", "evidence": f"of {source}, as", "remedy": signed, "where": "https://a:p%40ss@b/"}]
    (tmp_path / "findings.json").write_text(json.dumps(findings))
    inputs = make_inputs(
        config={**make_inputs().config, "data": {"source": source, "time": "t", "target": ["y"]}},
        lineage={"tracking_uri": source, "packages": {"lstm": signed}},
        notices=[f"read from {signed}"],
        promotion={**make_inputs().promotion, "reason": f"host=x password=hunter2 in {source}"},
    )
    text = write_report(tmp_path, inputs)
    assert [secret for secret in secrets if secret in text] == []
    assert "db.example/shop" in text and "part=1" in text


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4), st.sampled_from(["", "/x?a=1", ":5432/x"])
)
def test_credentials_before_a_host_are_hidden(password, rest):
    hidden = f"zz{password}zz"
    shown = without_secrets(f"from postgresql+psycopg://user:{hidden}@db.example{rest} on")
    assert hidden not in shown and "db.example" in shown and shown.endswith(" on")


@given(st.text(st.characters(exclude_characters="=:", exclude_categories=["Cs"])))
def test_text_without_an_address_is_unchanged(text):
    assert without_secrets(text) == text


def test_commands_name_the_champion_or_the_version_of_a_challenger(tmp_path):
    champion = Page(write_report(tmp_path, make_inputs()))
    refused = {**make_inputs().promotion, "champion": False, "reason": "p = 0.31 is not below 0.05"}
    challenger = Page(write_report(tmp_path, make_inputs(promotion=refused)))
    assert "★ Champion: version 3" in champion.words and "lstm serve shops --port 5001" in champion.words
    assert "Challenger: version 3" in challenger.words and "p = 0.31 is not below 0.05." in challenger.words
    assert "lstm forecast shops/3 --data history.csv" in challenger.words
    assert 'load_model("models:/shops/3")' in challenger.words
    assert 'load_model("models:/shops@champion")' in champion.words


def test_the_python_example_reads_every_column_with_its_type(tmp_path):
    data = {
        "source": "a",
        "time": "t",
        "series": ["shop"],
        "target": ["y"],
        "static": ["size", 'ki"nd'],
        "categorical": ['ki"nd'],
    }
    page = Page(write_report(tmp_path, make_inputs(config={**make_inputs().config, "data": data})))
    lines = next(text for text in page.text if text.startswith("import mlflow"))
    types = next(line for line in lines.splitlines() if line.startswith("types = "))
    assert eval(types.removeprefix("types = ")) == {"t": str, "shop": str, "y": float, "size": float, 'ki"nd': str}
    compile(lines, "report", "exec")


@pytest.mark.parametrize(("wide", "columns"), [("all", "t and one a series"), (["a", "b"], "t , a , b")])
def test_the_columns_of_a_wide_table_are_listed(tmp_path, wide, columns):
    data = {"source": "a", "time": "t", "wide": wide, "target": ["y"]}
    page = Page(write_report(tmp_path, make_inputs(config={**make_inputs().config, "data": data})))
    assert f"The input holds the columns {columns}" in page.words


def test_images_have_descriptions_and_tables_have_headers(tmp_path):
    page = Page(write_report(evaluation_folder(tmp_path), make_inputs()))
    assert all(attrs["alt"] for attrs in page.of("img"))
    assert {attrs.get("scope") for attrs in page.of("th")} == {"col", "row"}
    assert page.of("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.tags if tag == "h1"] == ["h1"]


def test_images_of_other_folders_are_embedded(tmp_path):
    folder, elsewhere = tmp_path / "evaluation", tmp_path / "profile"
    folder.mkdir()
    elsewhere.mkdir()
    save_plots(elsewhere, {"gaps": subplots("gaps", 2)[0]})
    page = Page(write_report(folder, make_inputs(images=[elsewhere / "gaps.png"])))
    assert [attrs["alt"] for attrs in page.of("img")] == ["Where steps are missing, and how long gaps are"]


def test_a_failed_audit_is_shown(tmp_path):
    audit = {"passed": False, "checks": [{"name": "future", "passed": False, "evidence": "moved by 0.3"}]}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    page = Page(write_report(tmp_path, make_inputs()))
    assert "A leak was found" in page.words and "failed" in page.words


def test_the_proposed_model_is_of_the_judged_kind():
    assert proposed_model(SCORES, "best-single") == "trial-003"
    assert proposed_model(SCORES, "best-ensemble") == "ensemble-mean-2"
    assert proposed_model(SCORES, "") == "ensemble-mean-2"
    assert proposed_model({}, "best-single") == ""


def test_the_leaderboard_has_intervals_and_dashes_for_missing_values():
    table = leaderboard({**SCORES, "broken": {"kind": "baseline", "metrics": {"val_rmse": None}}}, "trial-003")
    assert [row[0].text for row in table.rows] == ["ensemble-mean-2", "trial-003 ★", "seasonal_naive", "broken"]
    test_rmse = table.columns.index("test RMSE")
    assert (table.rows[0][test_rmse].text, table.rows[0][test_rmse].detail) == ("5.000", "4.50 to 5.50")
    assert [cell.text for cell in table.rows[3][1:]] == ["–"] * (len(table.columns) - 1)
    assert table.highlighted == {1}


def test_the_ten_worst_series_are_listed_by_mase():
    metrics = metrics_by("series", [f"s{number}" for number in range(30)])
    table = worst_series(metrics, "ensemble-mean-2")
    assert [row[0].text for row in table.rows] == [f"s{number}" for number in range(29, 19, -1)]
    assert table.rows[0][-1].text == format_metric("skill", 1 - (5 + 29) / (8 + 29))


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("rmse", 5.46, "5.460"),
        ("rmse", -0.5, "−0.5000"),
        ("rmse", float("nan"), "–"),
        ("rmse", None, "–"),
        ("rmse", np.float64(12345.6), "12,346"),
        ("windows", 2090, "2,090"),
        ("test_rmse_skill", -0.024, "−2.4 %"),
        ("coverage_80", 0.8, "80.0 %"),
    ],
)
def test_metrics_are_formatted(key, value, shown):
    assert format_metric(key, value) == shown


def test_series_named_like_numbers_or_missing_values_keep_their_names(tmp_path):
    evaluation_folder(tmp_path, series=("007", "NA"))
    page = Page(write_report(tmp_path, make_inputs()))
    assert {"007", "NA"} <= {text.strip() for text in page.text}


def test_the_inputs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_inputs().name = "other"
    assert make_inputs().name == "shops"

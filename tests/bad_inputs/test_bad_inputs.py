"""Each bad input through the real command: one line that says where, the rule and the fix, and nothing left behind."""

import re
import shutil
from pathlib import Path

import pytest

from lstm.config.data import DataSpec
from lstm.data.ingest import ingest_table
from lstm.errors import DataError, InputError
from lstm.load_config import load_config
from tests.bad_inputs.case import PASSWORD, Case
from tests.bad_inputs.cases import CASES
from tests.bad_inputs.tables import BASE

ELSEWHERE = ("Queries", "Splits and windows", "Forecasts")
REFUSED = [case for group, cases in CASES.items() if group not in ELSEWHERE for case in cases]
GOOD = {"split": {"validation": "2d", "test": "2d"}, "window": {"horizon": 6}, "model": {"sequence_length": 24}}


def titled(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.title.replace(" ", "-") for case in cases])


def fits(message: str, case: Case) -> bool:
    pattern = ".+?".join(re.escape(part) for part in case.message.split("…"))
    return re.fullmatch(pattern, message) is not None


def assert_told(done, case: Case) -> None:
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("lstm: ") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert fits(done.err.removeprefix("lstm: ").strip(), case), f"{done.err}is not\nlstm: {case.message}"
    assert PASSWORD not in done.err


def prepared(path: str):
    """What the flow does before it trains."""
    from tasks.ingest import ingest
    from tasks.normalize import normalize
    from tasks.window import window

    config = load_config(path)
    return window.fn(config, normalize.fn(config, ingest.fn(config)))


def assert_nothing_left(place: Path) -> None:
    assert not (place / "mlruns" / "mlflow.db").exists()
    for folder in ("work", "downloads"):
        assert list((place / "mlruns" / folder).rglob("*")) == []


@titled(REFUSED)
def test_a_bad_input_is_told_in_one_line_and_leaves_nothing(place, command, spoil, case):
    spoil(case)
    assert_told(command(*case.arguments), case)
    assert_nothing_left(place)


@titled([*CASES["Queries"], *CASES["Splits and windows"]])
def test_what_the_command_meets_later_is_told_by_the_tasks(place, spoil, case):
    """On the tasks themselves: the command meets these behind the heavy imports, with a Prefect server up."""
    spoil(case, hours=240, **GOOD)
    with pytest.raises(InputError) as caught:
        prepared("sales.yaml")
    message = str(caught.value)
    assert fits(message, case), f"{message}\nis not\n{case.message}"
    assert "\n" not in message and PASSWORD not in message
    assert not [path for path in (place / "mlruns" / "work").iterdir() if path.name.startswith(".")]


@titled(CASES["Forecasts"])
def test_a_bad_forecast_is_told_and_writes_nothing(place, command, spoil, saved_model, case):
    spoil(case, hours=240)
    shutil.copytree(saved_model, place / "model")
    before = set(place.rglob("*"))
    assert_told(command(*case.arguments), case)
    assert_nothing_left(place)
    assert {path for path in place.rglob("*") if "mlruns" not in path.parts} == before


def test_the_good_input_that_the_cases_spoil_is_accepted(spoil):
    spoil(Case("", "", ""), hours=240, **GOOD)
    assert prepared("sales.yaml").test > 0


RULES = (
    r"must |should |can't |can be|needs |one role|go together|leave it out|name one|use |given twice|Did you mean|"
    r"Known: |no valid YAML|holds no forecaster"
)


def test_titles_are_unique_and_every_message_has_a_fix_or_a_rule_that_says_it():
    cases = [case for group in CASES.values() for case in group]
    assert len({case.title for case in cases}) == len(cases) >= 70
    assert [case.title for case in cases if not case.fix and not re.search(RULES, case.says)] == []


def test_a_folder_that_can_not_keep_the_table_is_told(place, spoil):
    spoil(Case("", "", ""))
    (place / "full").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="full: the table can't be kept there .* Make room, or set LSTM_HOME"):
        ingest_table(DataSpec.parse(BASE), place / "full", place / "downloads")


def test_an_sqlite_file_that_is_not_there_is_not_made(place, spoil):
    spoil(next(case for case in CASES["Queries"] if case.title == "an SQLite file that is not there"))
    with pytest.raises(InputError):
        prepared("sales.yaml")
    assert not (place / "sales.db").exists()

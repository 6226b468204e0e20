"""Each bad input through the real command: one line with place, rule and fix, and nothing left behind."""

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
from tests.bad_inputs.cases_later import PANELS, SPLITS
from tests.bad_inputs.tables import BASE

OTHERS = ("Queries", "Splits and windows", "Forecasts")
CHECKED_FIRST = [case for group, cases in CASES.items() if group not in OTHERS for case in cases]
GOOD = {"split": {"validation": "2d", "test": "2d"}, "window": {"horizon": 6}, "model": {"sequence_length": 24}}


def titled(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.title.replace(" ", "-") for case in cases])


def terms_and_words(text: str) -> tuple[set[str], set[str]]:
    """Split a message into terms (files, columns, keys, values, numbers) and plain words."""
    parts = {part.strip("().,;:") for part in text.replace("…", " ").split()} - {""}
    words = {part for part in parts if re.fullmatch(r"[A-Za-z]+([-’'][a-z]+)*", part)}
    return parts - words, {word.lower() for word in words}


def missing_from(message: str, case: Case) -> str:
    """Return what a message lacks: it must have every term of the case and half of its words."""
    terms, words = terms_and_words(case.message)
    said_terms, said_words = terms_and_words(message)
    missing = [term for term in sorted(terms) if term not in said_terms and term not in message]
    too_few = 2 * len(words & said_words) < len(words)
    return ", ".join([*missing, *(["most of its words"] if too_few else [])])


def assert_refused(done, case: Case) -> None:
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("lstm: ") and done.err.count("\n") == 1 and done.err.endswith("\n")
    missing = missing_from(done.err.removeprefix("lstm: ").strip(), case)
    assert not missing, f"{done.err}lacks {missing}, unlike\nlstm: {case.message}"
    assert PASSWORD not in done.err


def prepared(path: str):
    """Run the flow's steps before the training."""
    from tasks.ingest import ingest
    from tasks.normalize import normalize
    from tasks.window import window

    config = load_config(path)
    return window.fn(config, normalize.fn(config, ingest.fn(config)))


def assert_nothing_left(place: Path) -> None:
    assert not (place / "mlruns" / "mlflow.db").exists()
    for folder in ("work", "downloads"):
        assert list((place / "mlruns" / folder).rglob("*")) == []


@titled(CHECKED_FIRST)
def test_a_bad_input_is_refused_in_one_line_and_leaves_nothing(place, command, spoil, case):
    spoil(case)
    assert_refused(command(*case.arguments), case)
    assert_nothing_left(place)


@titled(SPLITS)
def test_a_split_too_short_is_refused_before_a_prefect_server_starts(place, command, spoil, case):
    spoil(case, hours=240, **GOOD)
    assert_refused(command("train", "sales.yaml"), case)
    assert not (place / "mlruns" / "mlflow.db").exists()


@titled([*CASES["Queries"], *PANELS])
def test_what_only_the_steps_find_is_refused_by_them(place, spoil, case):
    """Run the steps without the command, which starts a Prefect server before them."""
    spoil(case, hours=240, **GOOD)
    with pytest.raises(InputError) as caught:
        prepared("sales.yaml")
    message = str(caught.value)
    missing = missing_from(message, case)
    assert not missing, f"{message}\nlacks {missing}, unlike\n{case.message}"
    assert "\n" not in message and PASSWORD not in message
    assert not [path for path in (place / "mlruns" / "work").iterdir() if path.name.startswith(".")]


@titled(CASES["Forecasts"])
def test_a_bad_forecast_is_refused_and_writes_nothing(place, command, spoil, saved_model, case):
    spoil(case, hours=240)
    shutil.copytree(saved_model, place / "model")
    before = set(place.rglob("*"))
    assert_refused(command(*case.arguments), case)
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

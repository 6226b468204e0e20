"""Each accepted form through `ingest_table`: the good table, or the stated one."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
import yaml

from lstm.config.data import DataSpec
from lstm.data.fingerprint import fingerprint
from lstm.data.ingest import ingest_table
from lstm.data.table import canonicalize
from lstm.sources.catalogue import CATALOGUE
from lstm.sources.source import Source
from tests.bad_inputs.accepted import FORMS
from tests.bad_inputs.form import GOOD, Form
from tests.bad_inputs.render import GUIDE, rendered
from tests.bad_inputs.tables import BASE, csv, write_files

ALL = [form for forms in FORMS.values() for form in forms]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(place: Path) -> Iterator[str]:
    """The address of a server of the working directory."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(place)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def rows_of(path: Path) -> list[tuple[object, ...]]:
    table = pd.read_parquet(path).astype(object)
    table["time"] = [time.strftime("%Y-%m-%dT%H:%M") for time in table["time"]]
    return [tuple(None if pd.isna(value) else value for value in row) for row in table.itertuples(index=False)]


@pytest.mark.parametrize("form", ALL, ids=[form.title.replace(" ", "-") for form in ALL])
def test_an_accepted_form_yields_the_table(form: Form, place: Path, web: str, monkeypatch):
    write_files(place, {"sales.csv": csv(), **form.files})
    for name, value in form.environment.items():
        monkeypatch.setenv(name, value.replace("{web}", web))
    spec = DataSpec.parse({**BASE, **(yaml.safe_load(form.config.replace("{web}", web)) or {})})
    work = place / "work"
    work.mkdir()
    table = ingest_table(spec, work, place / "downloads")
    if form.size:
        assert (table.rows, table.series) == form.size
    elif form.rows is None:
        assert table.sha256 == fingerprint(canonicalize(GOOD, DataSpec.parse(BASE)))
    else:
        assert rows_of(table.path) == list(form.rows)
    assert (table.notices, table.frequency) == (form.notices, form.frequency)


def test_hundreds_of_covariates_are_read_without_a_warning():
    names = [f"c{number}" for number in range(200)]
    wider = pd.concat([GOOD, pd.DataFrame(1.0, GOOD.index, names)], axis=1)
    table = canonicalize(wider, DataSpec.parse({**BASE, "observed": names}))
    assert table.shape == (48, 3 + 200)


def test_a_category_is_the_same_in_whichever_chunk_it_comes(place, monkeypatch):
    """Alone, a chunk of 007 and 008 would be numbers, and a chunk of 2.0 would be whole ones."""
    codes = ["007", "008", "7", "x", "2.0", "1.5", "2.0", "2.0"]
    write_files(place, {"sales.csv": csv(GOOD[:8].assign(code=codes))})
    chunks = Source.chunks
    monkeypatch.setattr(Source, "chunks", lambda self, columns, text, *_: chunks(self, columns, text, rows=2))
    (place / "work").mkdir()
    spec = DataSpec.parse({**BASE, "observed": "code", "categorical": "code"})
    table = ingest_table(spec, place / "work", place / "downloads")
    assert [row[3] for row in rows_of(table.path)] == ["007", "008", "7", "x", "2", "1.5", "2", "2"]


def test_titles_are_unique():
    assert len({form.title for form in ALL}) == len(ALL) >= 50


def test_the_guide_holds_both_tables_as_they_are():
    """Written anew by: .venv/bin/python -m tests.bad_inputs.render"""
    guide = GUIDE.read_text(encoding="utf-8")
    assert rendered(guide) == guide


def test_the_guide_names_every_data_set_of_the_catalogue():
    guide = GUIDE.read_text(encoding="utf-8")
    for name in CATALOGUE:
        assert re.search(rf"\| `{name}`.* \| .+ \| .+ \|", guide), name

"""The `lstm` command. Heavy imports wait until a command needs them."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows.cli import operations
from flows.cli.operations import Json
from flows.errors import told
from lstm.errors import InputError

if TYPE_CHECKING:
    from flows.partitions import Segments

app = typer.Typer(
    help="Time-series forecasting with LSTMs: train, compare, deploy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; exit 2 on bad input, 1 on failure, each with one line on stderr, and 130 when interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except Exception as error:
        if (known := told(error)) is None:
            raise
        _fail(str(known), 2 if isinstance(known, InputError) else 1)


@app.command()
def init(
    data: Annotated[
        str, typer.Argument(help="A file, folder, glob, URL, catalogue name, or env:NAME.", metavar="DATA")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write. Default: NAME.yaml.")] = None,
    name: Annotated[str | None, typer.Option(help="The pipeline's name. Default: after DATA.")] = None,
    sql: Annotated[str | None, typer.Option(help="A query; DATA is then env:NAME of the database's URL.")] = None,
) -> None:
    """Look at a table and write a commented configuration that `lstm train` accepts as it stands."""
    from lstm.config.source import SqlSource
    from lstm.starter.config import first_look, starter_config
    from tasks.settings import folder

    source = SqlSource.parse({"sql": sql, "uri": data}, where="lstm init") if sql else data
    found = first_look(source, folder("downloads"))
    text = starter_config(found, name)
    target = out or Path(f"{name or found.name.value}.yaml")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{target}: is there already. Name another file with --out, or remove it.") from None
    except OSError as error:
        raise InputError(f"--out {target}: can't be written ({error.strerror}).") from None
    print(f"{target}: read it, then run: lstm train {target}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set search.trials=50", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    strict: Annotated[bool, typer.Option("--strict", help="Make advisories errors.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what the same search of the same data has found before.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record: the tag `reason` of the run.")] = "",
    as_json: Json = False,
) -> None:
    """Ingest, search, evaluate and register; print the leaderboard and the champion."""
    from flows.services.prefect_server import prefect_server, wait_until_ready
    from lstm.config.source import SqlSource
    from lstm.load_config import load_config
    from tasks.partitions import read_ahead

    started = time.perf_counter()
    settings = load_config(config, tuple(set_))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # a failure is told once, by main()
    with prefect_server():
        if not isinstance(settings.data.source, SqlSource):  # a query would be run twice
            # While the server comes up: most mistakes are in the data, and need no heavy import to be seen.
            read_ahead(settings)
        from flows.partitions import SegmentsFailedError
        from flows.train import train

        wait_until_ready()
        try:
            outcome = train(str(config), tuple(set_), strict, fresh, reason)
        except SegmentsFailedError as error:
            _told_segments(error.segments, time.perf_counter() - started, as_json)
            for row in error.segments.failed:
                print(f"lstm: {row.name}: {row.error}", file=sys.stderr)
            raise typer.Exit(2 if error.bad_input else 1) from None
        except KeyboardInterrupt:
            print("lstm: interrupted. What the search has found is kept: the same command goes on.", file=sys.stderr)
            raise
        from flows.cli import output
        from flows.pipeline import Outcome

        seconds = time.perf_counter() - started
        if not isinstance(outcome, Outcome):
            _told_segments(outcome, seconds, as_json)
        elif as_json:
            print(output.as_json(output.outcome_json(outcome, seconds)))
        else:
            output.show_outcome(outcome, seconds)


def _told_segments(outcome: "Segments", seconds: float, as_json: bool) -> None:
    from flows.cli import output

    if as_json:
        print(output.as_json({**outcome.to_dict(), "seconds": seconds}))
    else:
        output.show_segments(outcome, seconds)


@app.command()
def forecast(
    model: Annotated[str, typer.Argument(help="NAME, NAME@alias, NAME/3, or a folder.", metavar="MODEL")],
    data: Annotated[
        str | None, typer.Option(help="History: a file or a catalogue name. Default: what it was trained from.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, .parquet or .csv. Default: print.")] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Steps ahead. Default: what it was trained for; beyond that it rolls forward.")
    ] = None,
    levels: Annotated[str, typer.Option(help="Nominal coverage of the intervals in percent, by comma.")] = "80,95",
    as_json: Json = False,
) -> None:
    """Forecast every series of a file from its end on, with intervals."""
    from flows.cli import output
    from tasks.forecast import forecast

    with output.notes():
        made = forecast.fn(model, data, out, horizon, _levels(levels))
    if as_json:
        print(made.to_json(orient="records", date_format="iso"))
    elif out is not None:
        print(f"{len(made)} rows for {made['series'].nunique()} series from {made['model_version'].iloc[0]}: {out}")
    else:
        print(made.to_csv(index=False), end="")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="NAME, NAME@alias, NAME/3, or a folder.", metavar="MODEL")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
) -> None:
    """Write a model's networks as ONNX files, each checked against torch, and what their user needs beside."""
    from tasks.registry.export import export

    version, files = export(model, out)
    furthest = max(one.difference for one in files)
    print(f"networks of {version}: {len(files)}, at most {furthest:.1g} from torch: {out}")


@app.command()
def compare(
    name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")],
    as_json: Json = False,
    html: Annotated[Path | None, typer.Option(help="File to write: the same as a page of its own.")] = None,
) -> None:
    """The registered versions of a model, best validation RMSE first, with their aliases and what the gate said."""
    from flows.cli import output
    from tasks.registry.models import versions

    rows = versions(name)
    if html is not None:
        try:
            html.write_text(output.versions_page(name, rows), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--html {html}: can't be written ({error.strerror}).") from None
    if as_json:
        print(output.as_json(rows))
    elif html is None:
        output.show_versions(name, rows)
    else:
        print(f"{html}: {len(rows)} versions of {name}")


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")],
    version: Annotated[str, typer.Argument(help="Its number, as lstm compare shows it.", metavar="VERSION")],
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate has said. It is recorded.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is forced, for the record.")] = "",
) -> None:
    """Make a version champion, if the gate found it better than the present one."""
    from flows.cli import output
    from tasks.registry.promotion import promote

    output.show_move(promote(name, version, force, reason))


@app.command()
def rollback(name: Annotated[str, typer.Argument(help="The pipeline's name.", metavar="NAME")]) -> None:
    """Make the previous champion champion again. Asked twice, the second time is refused."""
    from flows.cli import output
    from tasks.registry.promotion import rollback

    output.show_move(rollback(name))


@app.command()
def backtest(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set evaluate.backtest.folds=6", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Fit everything anew before each fold, or once before the first.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Walk the origin forward over the test span: what the networks would have been worth, fold by fold."""
    from dataclasses import asdict

    from lstm.load_config import load_config

    settings = load_config(config, tuple(set_))
    from flows.cli import output, output_runs
    from tasks.backtest import backtest

    found = backtest.fn(settings, refit)
    print(output.as_json(asdict(found))) if as_json else output_runs.show_backtest(found)


@app.command()
def reproduce(
    model: Annotated[
        str, typer.Argument(help="NAME, NAME@alias, NAME/3, or the id of an MLflow run.", metavar="RUN_OR_VERSION")
    ],
    as_json: Json = False,
) -> None:
    """Train a registered version again and compare: exit 0 where it is the same, 1 where it is not."""
    from dataclasses import asdict

    from flows.cli import output, output_runs
    from tasks.reproduce import reproduce

    found = reproduce.fn(model)
    print(output.as_json(asdict(found))) if as_json else output_runs.show_reproduction(found)
    if not found.reproduced:
        raise typer.Exit(1)


for command in (operations.serve, operations.up, operations.monitor, operations.doctor):
    app.command()(command)


def _levels(text: str) -> tuple[int, ...]:
    try:
        levels = tuple(int(level) for level in text.split(","))
    except ValueError:
        levels = ()
    if not levels or len(set(levels)) < len(levels):
        raise InputError(f"--levels {text!r}: must be whole percents by comma, each once, such as 80,95.")
    return levels


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    print(f"lstm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

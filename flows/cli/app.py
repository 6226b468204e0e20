"""The `lstm` command. Each command imports what it needs: heavy imports are slow."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from flows.cli import operations, registry
from flows.cli.operations import Json
from flows.errors import as_user_error
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
        if (user_error := as_user_error(error)) is None:
            raise
        _fail(str(user_error), 2 if isinstance(user_error, InputError) else 1)


@app.command()
def init(
    data: Annotated[
        str, typer.Argument(help="A file, folder, glob, URL, catalogue name, or env:NAME.", metavar="DATA")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write. Default: NAME.yaml.")] = None,
    name: Annotated[str | None, typer.Option(help="The pipeline's name. Default: derived from DATA.")] = None,
    sql: Annotated[str | None, typer.Option(help="A query; DATA is then env:NAME of the database's URL.")] = None,
) -> None:
    """Inspect a table and write a commented configuration for `lstm train`."""
    from lstm.config.source import SqlSource
    from lstm.starter.config import format_config, guess_from_source
    from tasks.settings import store_folder

    source = SqlSource.parse({"sql": sql, "uri": data}, where="lstm init") if sql else data
    look = guess_from_source(source, store_folder("downloads"))
    text = format_config(look, name)
    target = out or Path(f"{name or look.name.value}.yaml")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{target}: already exists. Name another file with --out, or remove it.") from None
    except OSError as error:
        raise InputError(f"--out {target}: can't be written ({error.strerror}).") from None
    print(f"{target} is written. Read it, then run: lstm train {target}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set search.trials=50", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    strict: Annotated[bool, typer.Option("--strict", help="Treat advice against an LSTM as an error.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard the trials of earlier searches of the same data.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Reason, recorded as the run's tag `reason`.")] = "",
    as_json: Json = False,
) -> None:
    """Ingest, search, evaluate and register; print the leaderboard and the champion."""
    from flows.services.prefect_server import prefect_server, wait_until_ready
    from lstm.load_config import load_config

    started = time.perf_counter()
    settings = load_config(config, tuple(set_))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # main() reports a failure once
    from flows.preflight import check_input

    check_input(settings)
    with prefect_server():
        from flows.partitions import SegmentsFailedError
        from flows.train import train

        wait_until_ready()
        try:
            outcome = train(str(config), tuple(set_), strict, fresh, reason)
        except SegmentsFailedError as error:
            _print_segments(error.segments, time.perf_counter() - started, as_json)
            for row in error.segments.failed:
                print(f"lstm: {row.name}: {row.error}", file=sys.stderr)
            raise typer.Exit(2 if error.bad_input else 1) from None
        except KeyboardInterrupt:
            print("lstm: interrupted. Finished trials are kept: the same command continues.", file=sys.stderr)
            raise
        from flows.cli import output
        from flows.pipeline import Outcome

        seconds = time.perf_counter() - started
        if not isinstance(outcome, Outcome):
            _print_segments(outcome, seconds, as_json)
        elif as_json:
            print(output.as_json(output.outcome_json(outcome, seconds)))
        else:
            output.show_outcome(outcome, seconds)


def _print_segments(outcome: "Segments", seconds: float, as_json: bool) -> None:
    from flows.cli import output

    if as_json:
        print(output.as_json({**outcome.to_dict(), "seconds": seconds}))
    else:
        output.show_segments(outcome, seconds)


@app.command()
def forecast(
    model: Annotated[str, typer.Argument(help="NAME, NAME@alias, NAME/3, or a folder.", metavar="MODEL")],
    data: Annotated[
        str | None, typer.Option(help="History: a file or a catalogue name. Default: the data of its training.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, .parquet or .csv. Default: print.")] = None,
    horizon: Annotated[
        int | None,
        typer.Option(help="Steps ahead. Default: the trained horizon; beyond it, forecasts are fed back as input."),
    ] = None,
    levels: Annotated[str, typer.Option(help="Levels of the intervals in percent, separated by commas.")] = "80,95",
    as_json: Json = False,
) -> None:
    """Forecast every series of a file beyond its last row, with intervals."""
    from flows.cli import output
    from tasks.forecast import forecast

    with output.print_forecast_notes():
        table = forecast(model, data, out, horizon, _levels(levels))
    if as_json:
        print(table.to_json(orient="records", date_format="iso"))
    elif out is not None:
        print(f"{len(table)} rows for {table['series'].nunique()} series from {table['model_version'].iloc[0]}: {out}")
    else:
        print(table.to_csv(index=False), end="")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="NAME, NAME@alias, NAME/3, or a folder.", metavar="MODEL")],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
) -> None:
    """Write a model's networks as ONNX files, each checked against torch, with the data needed to use them."""
    from tasks.registry.export import export

    version, files = export(model, out)
    largest = max(file.difference for file in files)
    print(f"networks of {version}: {len(files)}, at most {largest:.1g} from torch: {out}")


for command in (registry.compare, registry.promote, registry.rollback):
    app.command()(command)


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
    """Walk the origin forward over the test span and score networks and baselines in each fold."""
    from dataclasses import asdict

    from lstm.load_config import load_config

    settings = load_config(config, tuple(set_))
    from flows.cli import output, output_runs
    from tasks.backtest import backtest

    result = backtest.fn(settings, refit)
    print(output.as_json(asdict(result))) if as_json else output_runs.show_backtest(result)


@app.command()
def reproduce(
    model: Annotated[
        str, typer.Argument(help="NAME, NAME@alias, NAME/3, or the id of an MLflow run.", metavar="RUN_OR_VERSION")
    ],
    as_json: Json = False,
) -> None:
    """Train a registered version again and compare: exit code 0 if it is the same, 1 if not."""
    from dataclasses import asdict

    from flows.cli import output, output_runs
    from tasks.reproduce import reproduce

    result = reproduce.fn(model)
    print(output.as_json(asdict(result))) if as_json else output_runs.show_reproduction(result)
    if not result.reproduced:
        raise typer.Exit(1)


for operation in (operations.serve, operations.up, operations.monitor, operations.doctor):
    app.command()(operation)


def _levels(text: str) -> tuple[int, ...]:
    try:
        levels = tuple(int(level) for level in text.split(","))
    except ValueError:
        levels = ()
    if not levels or len(set(levels)) < len(levels):
        raise InputError(f"--levels {text!r}: must be different whole percents separated by commas, such as 80,95.")
    return levels


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    print(f"lstm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

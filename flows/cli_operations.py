"""The commands of the `lstm` command that run what others use: serve, up, monitor, doctor. Heavy imports wait."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def serve(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@alias, or NAME/3.", metavar="MODEL")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.")] = 5001,
    workers: Annotated[int, typer.Option(help="Processes that answer.")] = 1,
) -> None:
    """Answer forecasts over HTTP by MLflow's scoring server, until Ctrl-C."""
    from tasks.serve import serve

    serve(model, host, port, workers, lambda line: print(line, flush=True))


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server.")] = 5000,
) -> None:
    """Prefect server, worker, MLflow and the deployments of prefect.yaml; one Ctrl-C ends all of it."""
    from flows.up import up

    up(host, prefect_port, mlflow_port, lambda line: print(line, flush=True))


def monitor(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set monitor.window=14d", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Hold the scheduled forecasts against what came: live errors, drift, and whether to train again."""
    from lstm.config_file import load_config

    settings = load_config(config, tuple(set_))
    from flows import show, show_runs
    from tasks.monitor import monitor

    found = monitor.fn(settings)
    print(show.as_json(found.to_dict())) if as_json else show_runs.show_monitoring(found)


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="End what dead processes left RUNNING, and remove what they left behind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Versions, devices and stores: what this machine has, and what is wrong with it."""
    from flows import show
    from tasks.doctor import report

    found = report()
    print(show.as_json(found)) if as_json else show.show_report(found)

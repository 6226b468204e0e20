"""The commands of the `lstm` command that run what others use: serve, up, monitor, doctor. Heavy imports wait."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.operations.reconcile import Repairs

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def serve(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@alias, or NAME/3.", metavar="MODEL")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.")] = 5001,
    workers: Annotated[int, typer.Option(help="Processes that answer.")] = 1,
) -> None:
    """Answer forecasts over HTTP by MLflow's scoring server, until Ctrl-C."""
    from tasks.serving.server import serve

    serve(model, host, port, workers, lambda line: print(line, flush=True))


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server.")] = 5000,
) -> None:
    """Prefect server, worker, MLflow and the deployments of prefect.yaml; one Ctrl-C ends all of it."""
    from flows.local_stack.up import up

    raise typer.Exit(up(host, prefect_port, mlflow_port, lambda line: print(line, flush=True)))


def monitor(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set monitor.window=14d", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Hold the scheduled forecasts against what came: live errors, drift, and whether to train again."""
    from lstm.load_config import load_config

    load_config(config, tuple(set_))  # a mistake in it needs no heavy import to be seen
    from flows.cli import output, output_runs
    from flows.monitor import monitor

    found = monitor.fn(str(config), tuple(set_))
    print(output.as_json([one.to_dict() for one in found])) if as_json else output_runs.show_monitoring(found)


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="End what dead processes left RUNNING, and remove what they left behind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Versions, devices and stores: what this machine has, and what is wrong with it. Exit code 1: something is."""
    from flows.cli import output
    from lstm.errors import LstmError

    repairs = _repairs() if repair else None
    from tasks.operations.doctor import report

    found = {**report(), **({} if repairs is None else {"repairs": repairs.to_dict()})}
    print(output.as_json(found)) if as_json else output.show_report(found)
    if found["unreachable"]:
        raise LstmError(found["unreachable"])
    if repairs is not None and repairs.left:
        raise LstmError(f"{len(repairs.left)} problems could not be repaired: {'; '.join(repairs.left)}")
    if found["problems"]:
        raise typer.Exit(1)


def _repairs() -> "Repairs | None":
    """What was repaired; None: a store does not answer, which the report tells. A Prefect server is started if one is
    needed and none is configured."""
    from flows.services.prefect_server import prefect_server, wait_until_ready
    from lstm.errors import InputError
    from tasks.operations.reconcile import problems, reconcile
    from tasks.settings import prefect_api_url

    try:
        flow_runs = any(problem.kind == "flow_runs" for problem in problems())
        if not flow_runs or prefect_api_url():
            return reconcile()
        with prefect_server():
            wait_until_ready()
            return reconcile()
    except InputError:
        return None

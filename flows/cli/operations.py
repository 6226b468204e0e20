"""The commands serve, up, monitor and doctor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.operations.reconcile import Repairs

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def serve(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@alias, or NAME/3.", metavar="MODEL")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free port.")] = 5001,
    workers: Annotated[int, typer.Option(help="Number of worker processes.")] = 1,
) -> None:
    """Serve forecasts over HTTP with MLflow's scoring server, until Ctrl-C."""
    from tasks.serving.server import serve

    serve(model, host, port, workers, lambda line: print(line, flush=True))


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server.")] = 5000,
) -> None:
    """Run Prefect server, worker, MLflow and the deployments of prefect.yaml, until Ctrl-C."""
    from flows.local_stack.up import up

    raise typer.Exit(up(host, prefect_port, mlflow_port, lambda line: print(line, flush=True)))


def monitor(
    config: Annotated[Path, typer.Argument(help="The pipeline's YAML file.", metavar="CONFIG")],
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key: --set monitor.window=14d", metavar="KEY=VALUE")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Score scheduled forecasts against true values: live errors, drift, and whether to train again."""
    from lstm.load_config import load_config

    load_config(config, tuple(set_))  # reports its errors before the heavy imports
    from flows.cli import output, output_runs
    from flows.monitor import monitor

    results = monitor.fn(str(config), tuple(set_))
    if as_json:
        print(output.as_json([result.to_dict() for result in results]))
    else:
        output_runs.show_monitoring(results)


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="End runs of dead processes, and remove the files that they left.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show versions, devices, stores and problems of this machine. Exit code 1: there are problems."""
    from flows.cli import output
    from lstm.errors import LstmError

    repairs = _repairs() if repair else None
    from tasks.operations.doctor import report

    status = {**report(), **({} if repairs is None else {"repairs": repairs.to_dict()})}
    print(output.as_json(status)) if as_json else output.show_doctor_report(status)
    if status["unreachable"]:
        raise LstmError(status["unreachable"])
    if repairs is not None and repairs.left:
        raise LstmError(f"{len(repairs.left)} problems could not be repaired: {'; '.join(repairs.left)}")
    if status["problems"]:
        raise typer.Exit(1)


def _repairs() -> "Repairs | None":
    """Repair; return None if a store does not answer, which the report shows.

    A Prefect server is started if one is needed and none is configured.
    """
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

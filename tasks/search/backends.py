"""Runs a function on the nodes of a cluster: the workers of Dask or the nodes of Ray.

Dask and Ray are called directly. With Prefect's task runners each node would be a task run, for which every machine
needs the address and the password of the Prefect server. This way a machine needs access to the stores only.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from lstm.config.operations import ExecutionSpec
from lstm.errors import ConfigError, LstmError

NodeTask = Callable[[int], Any]  # the argument: the number of cores that it may use
_CONNECT_TIMEOUT_S = 60.0  # for the workers of the cluster
_POLL_S = 1.0  # between two calls of `on_poll`


def run_on_cluster(execution: ExecutionSpec, node_task: NodeTask, on_poll: Callable[[], None]) -> Iterator[Any]:
    """Call `node_task` once on each node; yield what it returns, or the error if the node was lost.

    Args:
        execution: the runner, the address of the cluster, and the number of nodes (by default all).
        node_task: the function; this package must be installed on the nodes.
        on_poll: called about once a second meanwhile.

    Raises:
        ConfigError: the cluster can't be used.
        LstmError: raised by `node_task`.
    """
    run = _on_ray if execution.runner == "ray" else _on_dask
    for outcome in run(execution, node_task, on_poll):
        if isinstance(outcome, LstmError):
            raise outcome
        if isinstance(outcome, ModuleNotFoundError):
            raise ConfigError(
                f"execution.runner: a worker of the cluster lacks the module {outcome.name!r}. Install the same "
                "packages on all machines."
            )
        yield outcome


def _on_dask(execution: ExecutionSpec, node_task: NodeTask, on_poll: Callable[[], None]) -> Iterator[Any]:
    distributed, count = import_backend("distributed", execution), execution.workers
    with ExitStack() as stack:
        try:
            cluster = execution.address or stack.enter_context(
                distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
            )
            client = stack.enter_context(distributed.Client(cluster, timeout=_CONNECT_TIMEOUT_S, set_as_default=False))
        except (OSError, ValueError) as error:
            raise _unreachable(execution, error) from None
        try:
            client.wait_for_workers(count or 1, timeout=_CONNECT_TIMEOUT_S)
        except TimeoutError:
            n_workers = len(client.scheduler_info(n_workers=-1)["workers"])
            raise _too_few_workers(execution, n_workers, "dask worker ADDRESS") from None
        workers = client.scheduler_info(n_workers=-1)["workers"]
        waiting = {  # allow_other_workers: if the worker dies, Dask calls the function on another one
            client.submit(node_task, workers[name]["nthreads"], workers=[name], allow_other_workers=True, pure=False)
            for name in sorted(workers)[:count]
        }
        while waiting:
            done = {future for future in waiting if future.done()}
            if not done:
                time.sleep(_POLL_S)
            on_poll()
            for future in done:
                waiting.discard(future)
                lost = ConnectionError("the scheduler has lost it") if future.cancelled() else None
                yield lost or future.exception() or future.result()


def _on_ray(execution: ExecutionSpec, node_task: NodeTask, on_poll: Callable[[], None]) -> Iterator[Any]:
    ray = import_backend("ray", execution)
    try:
        ray.init(address=execution.address or "local", log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(execution, error) from None
    try:
        cores = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}
        usable = sorted(node_id for node_id, count in cores.items() if count)
        if not usable:
            raise _too_few_workers(execution, 0, "ray start --address=ADDRESS")
        node_ids = [usable[number % len(usable)] for number in range(execution.workers or len(usable))]
        waiting = []
        for node_id in node_ids:
            affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node_id, soft=True)
            function = ray.remote(num_cpus=1, max_retries=1)(_call).options(scheduling_strategy=affinity)
            waiting.append(function.remote(node_task, max(cores[node_id] // node_ids.count(node_id), 1)))
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=_POLL_S)
            on_poll()
            for reference in done:
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield getattr(error, "cause", None) or error
    finally:
        ray.shutdown()


def _call(node_task: NodeTask, cores: int) -> Any:
    return node_task(cores)


def import_backend(module: str, execution: ExecutionSpec) -> Any:
    """Import a module of the runner.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        imported = import_module(module)
    except ImportError:
        runner = execution.runner
        raise ConfigError(
            f"execution.runner: {runner} needs a package that is not installed: pip install 'lstm[{runner}]'"
        ) from None
    logging.getLogger("distributed").setLevel(logging.WARNING)  # it would log every connection
    return imported


def _unreachable(execution: ExecutionSpec, error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [""])[0]
    return ConfigError(
        f"execution.address: {execution.address!r}: no {execution.runner} cluster answers there ({reason})."
    )


def _too_few_workers(execution: ExecutionSpec, n_workers: int, command: str) -> ConfigError:
    return ConfigError(
        f"execution: the cluster at {execution.address} has {n_workers} workers, but needs {execution.workers or 1} "
        f"(execution.workers). Start more: {command}"
    )

"""Where a search's shares run: the workers of a Dask cluster, or the nodes of a Ray cluster.

Dask and Ray are asked directly, not through Prefect's task runners: those would make each share a task run, for which
every machine needs the address and the password of the Prefect server. Here a machine needs the stores alone, and the
flow sees one task, `train`, whatever it runs on.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from lstm.config.operations import ExecutionSpec
from lstm.errors import ConfigError, LstmError

NodeTask = Callable[[int], Any]  # with so many cores
_CONNECT_TIMEOUT_S = 60.0  # seconds that workers are waited for
_POLL_S = 1.0  # seconds between two calls of `look`


def run_on_cluster(execution: ExecutionSpec, work: NodeTask, look: Callable[[], None]) -> Iterator[Any]:
    """Call `work` once on each worker; give what it returns as it ends, or the error by which its process was lost.

    Args:
        execution: the runner, the cluster's address, and how many shares there are to be (default: one a worker).
        work: what is called there; the package must be installed there.
        look: called now and then meanwhile.

    Raises:
        ConfigError: the cluster can't be used.
        LstmError: what `work` has raised.
    """
    run = _on_ray if execution.runner == "ray" else _on_dask
    for outcome in run(execution, work, look):
        if isinstance(outcome, LstmError):
            raise outcome
        if isinstance(outcome, ModuleNotFoundError):
            told = f"a worker of the cluster has no module {outcome.name!r}. Install there what is installed here."
            raise ConfigError(f"execution.runner: {told}")
        yield outcome


def _on_dask(execution: ExecutionSpec, work: NodeTask, look: Callable[[], None]) -> Iterator[Any]:
    distributed, count = import_backend("distributed", execution), execution.workers
    with ExitStack() as open_:
        try:
            cluster = execution.address or open_.enter_context(
                distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
            )
            client = open_.enter_context(distributed.Client(cluster, timeout=_CONNECT_TIMEOUT_S, set_as_default=False))
        except (OSError, ValueError) as error:
            raise _unreachable(execution, error) from None
        try:
            client.wait_for_workers(count or 1, timeout=_CONNECT_TIMEOUT_S)
        except TimeoutError:
            found = len(client.scheduler_info(n_workers=-1)["workers"])
            raise _too_few_workers(execution, found, "dask worker ADDRESS") from None
        cores = {place: one["nthreads"] for place, one in client.scheduler_info(n_workers=-1)["workers"].items()}
        # Not bound to its worker: where that dies, Dask calls it elsewhere, or in the process that takes its place.
        waiting = {
            client.submit(work, cores[place], workers=[place], allow_other_workers=True, pure=False)
            for place in sorted(cores)[:count]
        }
        while waiting:
            done = {future for future in waiting if future.done()}
            if not done:
                time.sleep(_POLL_S)
            look()
            for future in done:
                waiting.discard(future)
                gone = ConnectionError("the scheduler has lost it") if future.cancelled() else None
                yield gone or future.exception() or future.result()


def _on_ray(execution: ExecutionSpec, work: NodeTask, look: Callable[[], None]) -> Iterator[Any]:
    ray = import_backend("ray", execution)
    try:
        ray.init(address=execution.address or "local", log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(execution, error) from None
    try:
        nodes = {one["NodeID"]: int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]}
        places = sorted(node for node, cores in nodes.items() if cores)
        count = execution.workers or len(places)
        if not places:
            raise _too_few_workers(execution, 0, "ray start --address=ADDRESS")
        shares = [places[number % len(places)] for number in range(count)]
        waiting = []
        for place in shares:
            near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=place, soft=True)
            called = ray.remote(num_cpus=1, max_retries=1)(_call).options(scheduling_strategy=near)
            waiting.append(called.remote(work, max(nodes[place] // shares.count(place), 1)))
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=_POLL_S)
            look()
            for one in done:
                try:
                    yield ray.get(one)
                except ray.exceptions.RayError as error:
                    yield getattr(error, "cause", None) or error
    finally:
        ray.shutdown()


def _call(work: NodeTask, cores: int) -> Any:
    return work(cores)


def import_backend(module: str, execution: ExecutionSpec) -> Any:
    """The module that the runner is.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        found = import_module(module)
    except ImportError:
        told = f"{execution.runner} needs a package that is not installed: pip install 'lstm[{execution.runner}]'"
        raise ConfigError(f"execution.runner: {told}") from None
    logging.getLogger("distributed").setLevel(logging.WARNING)  # at its import it sets out to tell of every connection
    return found


def _unreachable(execution: ExecutionSpec, error: Exception) -> ConfigError:
    first = (str(error).splitlines() or [""])[0]
    return ConfigError(
        f"execution.address: {execution.address!r}: no {execution.runner} cluster answers there ({first})."
    )


def _too_few_workers(execution: ExecutionSpec, found: int, command: str) -> ConfigError:
    return ConfigError(
        f"execution: the cluster at {execution.address} has {found} workers, {execution.workers or 1} are asked for "
        f"(execution.workers). Start them there: {command}"
    )

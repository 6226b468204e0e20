"""The backtesting flow: forecast from each origin of the test span and score it."""

from prefect import flow
from prefect.runtime import flow_run

from lstm.load_config import load_config
from tasks.backtest import Backtest
from tasks.backtest import backtest as backtest_task
from tasks.runtime.flow_run_owner import owned_flow_run


@flow(name="backtest", persist_result=False)
def backtest(
    config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), refit: bool = True
) -> Backtest:
    """Walk the origin forward over the test span; score networks and baselines in each fold.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        refit: fit everything anew before each fold; False: once, before the first one.
    """
    with owned_flow_run(flow_run.id):
        return backtest_task(load_config(config, tuple(overrides)), refit, str(flow_run.id or ""))

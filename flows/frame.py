"""Train on a pandas DataFrame, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flows.preflight import check_input
from flows.services.prefect_server import prefect_server, wait_until_ready
from lstm.data.frames import store_frame
from lstm.load_config import load_config
from tasks.settings import store_folder

if TYPE_CHECKING:
    from flows.partitions import Segments
    from flows.pipeline import Outcome


def train_frame(
    frame: pd.DataFrame, config: str | Path, overrides: Sequence[str] = (), strict: bool = False
) -> "Outcome | Segments":
    """Train as `lstm train` does, with a frame in place of `data.source`.

    Args:
        frame: long or wide, as the configuration's `data` section describes it; a named index counts as columns.
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        strict: raise an error if there is advice against an LSTM.

    Raises:
        InputError: the configuration or the frame breaks a rule.
        TrainingError: no trial could be finished.
    """
    source = (*overrides, f"data.source={store_frame(frame, store_folder('work'))}", "data.sha256=null")
    check_input(load_config(config, source))
    with prefect_server():
        from flows.train import train  # Prefect reads the server's address when it is imported

        wait_until_ready()
        return train(str(config), source, strict)

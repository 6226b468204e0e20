"""Panels on disk."""

import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec, SplitSpec
from lstm.data.ingest import ingest_table
from lstm.data.panel_store import PanelStore, write_panel
from lstm.data.splits import compute_cuts
from tests.support.tables import DATA

SPLIT = SplitSpec(validation="5d", test="5d")


def store_panel(frame, folder, spec=None, normalize=None, split=SPLIT):
    """Ingest a frame and write its panel below `folder`; return the table and the panel."""
    spec = spec or DataSpec.parse({**DATA, "source": str(folder / "shops.parquet")})
    folder.mkdir(exist_ok=True)
    frame.to_parquet(spec.source)
    table = ingest_table(spec, folder, folder)
    cuts = compute_cuts(pd.Timestamp(table.first), pd.Timestamp(table.last), Frequency.parse(spec.frequency), split)
    (folder / "panel").mkdir(exist_ok=True)
    write_panel(table, spec, normalize or NormalizeSpec(), cuts, folder / "panel")
    return table, PanelStore.load(folder / "panel")

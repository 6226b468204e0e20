"""Small tables with a known structure."""

import numpy as np
import pandas as pd

DATA = {"source": "-", "time": "time", "series": "shop", "target": "sales", "observed": ["visitors"], "frequency": "1h"}


def make_hourly(days: int = 40, shops: tuple[str, ...] = ("north", "south"), seed: int = 0) -> pd.DataFrame:
    """Return a long table with columns time (ISO, UTC), shop, sales and visitors; sales are twice the visitors."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    time = pd.date_range("2024-03-01", periods=len(hours), freq="h", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = []
    for level, shop in enumerate(shops, start=1):
        wave = 10 * level + 3 * np.sin(2 * np.pi * hours / 24)
        visitors = wave + random.normal(0, 0.5, len(hours))
        parts.append(pd.DataFrame({"time": time, "shop": shop, "sales": visitors * 2, "visitors": visitors}))
    return pd.concat(parts, ignore_index=True)

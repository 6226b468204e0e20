"""The configurations of partitioned data: one model for each segment (`data.partition_by`)."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

from lstm.config.pipeline import PipelineConfig
from lstm.data.segments import Segment, find_segments
from lstm.errors import ConfigError
from tasks.settings import store_folder

_MAX_NAME_LENGTH = 100  # as in PipelineConfig


def partition_configs(config: PipelineConfig) -> tuple[PipelineConfig, ...]:
    """Return the configuration of each segment's model; `config` itself if the data are not partitioned.

    A segment's configuration is named `NAME.SEGMENT`, selects the segment's rows by `data.where`, and has no
    `partition_by`.

    Raises:
        DataError: the source can't be read, a column is missing, or a row belongs to no segment.
        ConfigError: the names of two segments differ in capitals only, or one is too long.
    """
    columns = config.data.partition_by
    if not columns:
        return (config,)
    keys = find_segments(config.data, store_folder("work"), store_folder("downloads"))
    return tuple(_partition_config(config, segment, name) for segment, name in _partition_names(config.name, keys))


def segment_label(config: PipelineConfig, part: PipelineConfig) -> str:
    """Return the values of the partition columns in a segment: "JFK, 2013".

    Args:
        config: of the partitioned data.
        part: one of its `partition_configs`.
    """
    return ", ".join(str(part.data.where[column][0]) for column in config.data.partition_by)


def _partition_config(config: PipelineConfig, segment: Segment, name: str) -> PipelineConfig:
    values = {column: (value,) for column, value in zip(config.data.partition_by, segment, strict=True)}
    data = config.data.model_copy(update={"where": {**config.data.where, **values}, "partition_by": ()})
    return config.model_copy(update={"name": name, "data": data})


def _partition_names(name: str, keys: tuple[Segment, ...]) -> Iterator[tuple[Segment, str]]:
    seen: dict[str, Segment] = {}
    for segment in keys:
        partition = f"{name}.{'-'.join(map(_safe_name, segment))}"
        if len(partition) > _MAX_NAME_LENGTH:
            raise ConfigError(
                f"data.partition_by: the model of segment {_format_segment(segment)} would be called {partition!r}, "
                f"and a name has at most {_MAX_NAME_LENGTH} characters. Shorten `name`, or the column's values."
            )
        other = seen.setdefault(partition.casefold(), segment)
        if other != segment:
            raise ConfigError(
                f"data.partition_by: the models of segments {_format_segment(other)} and {_format_segment(segment)} "
                f"would both be called {partition!r}. Give them names that differ in letters or digits."
            )
        yield segment, partition


def _safe_name(text: str) -> str:
    """Return the text in the characters of a model name (letters, digits, `_`, `.`, `-`): São Paulo is Sao_Paulo.

    If a letter has no ASCII form, the start of the text's sha256 is appended.
    """
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    is_lossy = any(char.isalnum() and not char.isascii() for char in plain)
    suffix = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}" if is_lossy else ""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", plain) + suffix


def _format_segment(segment: Segment) -> str:
    return repr(", ".join(segment))

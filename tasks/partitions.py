"""One model for each segment of the data (`data.partition_by`)."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

from lstm.config.pipeline import PipelineConfig
from lstm.data.segments import Segment, segments
from lstm.errors import ConfigError
from tasks.settings import folder

_LONGEST = 100  # characters of a name, as of every pipeline's


def partitions(config: PipelineConfig) -> tuple[PipelineConfig, ...]:
    """The configuration of each segment's model; of data that are not partitioned, the configuration itself.

    A segment's is called `NAME.SEGMENT`, keeps the segment's rows by `data.where`, and is not partitioned itself.

    Raises:
        DataError: the source can't be read, a column is missing, or a row is of no segment.
        ConfigError: the names of two segments would be the same but for capitals, or one is too long.
    """
    columns = config.data.partition_by
    if not columns:
        return (config,)
    found = segments(config.data, folder("work"), folder("downloads"))
    names = dict(_names(config.name, found))
    return tuple(_of_segment(config, segment, names[segment]) for segment in found)


def segment_of(config: PipelineConfig, part: PipelineConfig) -> str:
    """What the columns of `config.data.partition_by` hold in the segment of one of its `partitions`: "JFK, 2013"."""
    return ", ".join(str(part.data.where[column][0]) for column in config.data.partition_by)


def _of_segment(config: PipelineConfig, segment: Segment, name: str) -> PipelineConfig:
    values = {column: (value,) for column, value in zip(config.data.partition_by, segment, strict=True)}
    data = config.data.model_copy(update={"where": {**config.data.where, **values}, "partition_by": ()})
    return config.model_copy(update={"name": name, "data": data})


def _names(name: str, found: tuple[Segment, ...]) -> Iterator[tuple[Segment, str]]:
    seen: dict[str, Segment] = {}
    for segment in found:
        made = f"{name}.{'-'.join(map(_safe, segment))}"
        if len(made) > _LONGEST:
            raise ConfigError(
                f"data.partition_by: the model of segment {_told(segment)} would be called {made!r}, and a name has "
                f"at most {_LONGEST} characters. Shorten `name`, or what the column holds."
            )
        other = seen.setdefault(made.casefold(), segment)
        if other != segment:
            raise ConfigError(
                f"data.partition_by: the models of segments {_told(other)} and {_told(segment)} would both be called "
                f"{made!r}. Write them in one way, or apart in more than capitals and signs."
            )
        yield segment, made


def _safe(text: str) -> str:
    """The text in letters, digits, `_`, `.` and `-`, as a registered model is called; São Paulo is Sao_Paulo.

    Letters that have no such form are told apart by a piece of the text's sha256.
    """
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    lost = any(one.isalnum() and not one.isascii() for one in plain)
    tail = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}" if lost else ""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", plain) + tail


def _told(segment: Segment) -> str:
    return repr(", ".join(segment))

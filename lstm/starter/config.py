"""A guess as a configuration that people read: every key with the reason for its value beside it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from lstm.config.data import DataSpec
from lstm.config.pipeline import PipelineConfig
from lstm.config.source import SqlSource
from lstm.sources.source import open_source
from lstm.starter.guess import HEAD_ROWS, Guess, guess
from lstm.starter.names import Choice

_WIDTH = 120
_COMMENTS = 34  # where comments begin, if the line leaves room for that
_PRESETS = "two models or so, a minute; accurate: a diverse mean and a search, up to 15 minutes"
_MOST_WIDE = 60  # wide columns that are listed one by one, where `all` says the same


def first_look(source: str | SqlSource, downloads: Path) -> Guess:
    """Read the first rows of a source and guess what they are.

    Args:
        source: what `data.source` is to say.
        downloads: folder for what comes over the network.

    Raises:
        ConfigError: the source is none that a configuration may hold, such as a URL with a password.
        DataError: it can't be read, or a configuration can't be guessed from it.
    """
    given = source.model_dump() if isinstance(source, SqlSource) else source
    spec = DataSpec.parse({"source": given, "time": "?", "target": "??"})  # any names: all columns are read
    head = next(open_source(spec, downloads).chunks(None, rows=HEAD_ROWS))
    return guess(head, source)


def starter_config(found: Guess, name: str | None = None) -> str:
    """The text of a YAML file for `lstm train`, of the pipeline `name` where one is given.

    Raises:
        ConfigError: a value breaks a rule of the configuration, such as the given name.
    """
    if name is not None:
        found = replace(found, name=Choice(name, found.name.reason))
    text = "\n".join((*_header(found), *_sections(found))) + "\n"
    PipelineConfig.parse(yaml.safe_load(text), where="lstm init")
    return text


def _header(found: Guess) -> Iterator[str]:
    yield from _wrapped(
        f"Guessed by `lstm init` from the first {found.rows:,} rows of the data; the reason for each value stands "
        "beside it. It trains as it stands: the preset chooses every key of the model that is not here, by the data.",
        "",
    )
    yield "# Check first:"
    for number, check in enumerate(_checks(found), start=1):
        yield from _wrapped(f"  {number}. {check}", "")


def _checks(found: Guess) -> Iterator[str]:
    """What a wrong guess of would cost most, dearest first."""
    if found.wide.value:
        yield f"data.wide: are these {len(found.wide.value)} columns the same quantity, each a series to forecast?"
    else:
        yield f"data.target: is {found.target.value!r} what you want to forecast?"
    if found.observed.value:
        yield "data.observed: does each column come in as early as the target, and not later?"
    if found.known.value:
        yield f"data.known: will you have {', '.join(map(repr, found.known.value))} for the steps ahead, too?"
    if found.duplicates.value or found.resample.value:
        yield "data: is the mean what the rows of one step make together? (a `resample: sum` adds them up)"
    yield f"data.frequency, data.timezone: is a step {found.frequency.value}, by the clocks of {found.timezone.value}?"
    yield f"window.horizon: do you need {found.horizon.value} steps ahead?"


def _sections(found: Guess) -> Iterator[str]:
    yield from _line("name", found.name)
    yield from _line("preset", Choice("fast", _PRESETS))
    yield "data:"
    yield from _data(found)
    split = _scalar(found.split.value)
    yield from _commented(f"split: {{validation: {split}, test: {split}}}", found.split.reason)
    yield from _commented(f"window: {{horizon: {found.horizon.value}}}", found.horizon.reason)
    yield from _commented(f"evaluate: {{season: {found.season.value}}}", found.season.reason)


def _data(found: Guess) -> Iterator[str]:
    yield from _source(found)
    yield from _line("time", found.time, "  ")
    if found.time_format.value:
        yield from _line("time_format", found.time_format, "  ")
    if found.series.value:
        yield from _line("series", found.series, "  ")
    if found.wide.value:
        yield from _line("wide", _shortened(found), "  ")
    yield from _line("target", found.target, "  ")
    for role in ("observed", "known", "static", "categorical"):
        if getattr(found, role).value:
            yield from _line(role, getattr(found, role), "  ")
    yield from _left_out(found)
    yield from _line("frequency", found.frequency, "  ")
    if found.resample.value:
        yield from _line("resample", found.resample, "  ")
    if found.duplicates.value:
        yield from _line("duplicates", Choice("mean", f"{found.duplicates.reason}; averaged"), "  ")
    yield from _line("timezone", found.timezone, "  ")
    if found.calendar.value:
        features = ", ".join(found.calendar.value)
        yield from _commented(f"  calendar: {{features: [{features}]}}", found.calendar.reason)
    yield from _commented(f"  missing: {{max_gap: {found.max_gap.value}}}", found.max_gap.reason)


def _source(found: Guess) -> Iterator[str]:
    source = found.source.value
    if isinstance(source, SqlSource):
        yield "  source:"
        yield from _line("sql", Choice(source.sql, "the query that was looked at"), "    ")
        yield from _line("uri", Choice(source.uri, "the environment variable that holds the database's URL"), "    ")
    else:
        yield from _line("source", Choice(source, found.source.reason), "  ")
    csv = [f"separator: {_scalar(found.separator.value)}"] if found.separator.value else []
    csv += [f"decimal: {_scalar(found.decimal.value)}"] if found.decimal.value != "." else []
    if csv:
        yield from _commented(f"  csv: {{{', '.join(csv)}}}", "how the file is written")


def _shortened(found: Guess) -> Choice[tuple[str, ...]] | Choice[str]:
    if len(found.wide.value) > _MOST_WIDE and not found.left_out:
        return Choice("all", found.wide.reason)
    return found.wide


def _left_out(found: Guess) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for column, reason in found.left_out.items():
        reasons.setdefault(reason, []).append(_scalar(column))
    if reasons:
        told = "; ".join(f"{', '.join(columns)} ({reason})" for reason, columns in reasons.items())
        yield from _wrapped(f"Left out: {told}", "  ")


def _line(
    key: str, choice: Choice[str] | Choice[str | None] | Choice[int] | Choice[tuple[str, ...]], indent: str = ""
) -> Iterator[str]:
    value = choice.value
    if isinstance(value, tuple) and len(value) > 1:
        yield from _listed(f"{indent}{key}: ", value, choice.reason, indent)
    else:
        text = _scalar(value[0] if isinstance(value, tuple) else value)
        shown = f"[{text}]" if isinstance(value, tuple) and key == "wide" else text
        yield from _commented(f"{indent}{key}: {shown}", choice.reason)


def _commented(line: str, reason: str) -> Iterator[str]:
    """The line with its reason at the end, or above it where there is no room."""
    reason = " ".join(reason.split())
    if max(len(line) + 2, _COMMENTS) + 2 + len(reason) <= _WIDTH:
        yield f"{line:<{_COMMENTS - 2}}  # {reason}"
    else:
        yield from _wrapped(reason, line[: len(line) - len(line.lstrip())])
        yield line


def _listed(start: str, names: tuple[str, ...], reason: str, indent: str) -> Iterator[str]:
    """A list in flow style, over as many lines as it takes, under its reason."""
    whole = f"{start}[{', '.join(map(_scalar, names))}]"
    if len(whole) <= _WIDTH:
        yield from _commented(whole, reason)
        return
    yield from _wrapped(reason, indent)
    line = f"{start}["
    for number, name in enumerate(names):
        part = _scalar(name) + ("]" if number == len(names) - 1 else ",")
        if len(line) + 1 + len(part) > _WIDTH and number:
            yield line
            line = f"{indent}    {part}"
        else:
            line += part if line.endswith("[") else f" {part}"
    yield line


def _wrapped(text: str, indent: str) -> Iterator[str]:
    """A comment, over as many lines as it takes."""
    line = f"{indent}#"
    for word in text.split(" "):
        if len(line) + 1 + len(word) > _WIDTH and line.strip() != "#":
            yield line
            line = f"{indent}#  "
        line += f" {word}"
    yield line


def _scalar(value: object) -> str:
    """A value as YAML, quoted where it has to be, on one line."""
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)
    dumped = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return dumped.strip()[1:-1]

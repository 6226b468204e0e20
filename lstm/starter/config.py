"""Write a guess as a YAML configuration, with the reason for each value as a comment."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from lstm.config.data import DataSpec
from lstm.config.pipeline import PipelineConfig
from lstm.config.source import SqlSource
from lstm.sources.source import open_source
from lstm.starter.guess import HEAD_ROWS, Guess, guess_config
from lstm.starter.names import Choice

_WIDTH = 120
_COMMENT_COLUMN = 34  # where comments begin, if the line is short enough
_PRESETS = "two networks, a minute; accurate: an ensemble and a search, minutes"
_MAX_LISTED = 60  # wide columns; more become `all` if no column is left out


def guess_from_source(source: str | SqlSource, downloads: Path) -> Guess:
    """Read the first rows of a source and guess a configuration.

    Args:
        source: value of `data.source`.
        downloads: folder for files from the network.

    Raises:
        ConfigError: a configuration may not hold the source, such as a URL with a password.
        DataError: it can't be read, or a configuration can't be guessed from it.
    """
    value = source.model_dump() if isinstance(source, SqlSource) else source
    spec = DataSpec.parse({"source": value, "time": "?", "target": "??"})  # any names, since all columns are read
    head = next(open_source(spec, downloads).chunks(None, rows=HEAD_ROWS))
    return guess_config(head, source)


def format_config(guess: Guess, name: str | None = None) -> str:
    """Return the YAML text of a configuration for `lstm train`.

    Args:
        guess: of the table.
        name: of the pipeline; default: the guessed one.

    Raises:
        ConfigError: a value breaks a rule of the configuration, such as the given name.
    """
    if name is not None:
        guess = replace(guess, name=Choice(name, guess.name.reason))
    text = "\n".join((*_header(guess), *_sections(guess))) + "\n"
    PipelineConfig.parse(yaml.safe_load(text), where="lstm init")
    return text


def _header(guess: Guess) -> Iterator[str]:
    yield from _comment_lines(
        f"Guessed by `lstm init` from the first {guess.rows:,} rows of the data, with the reason for each "
        "value. It trains as it is: the preset chooses the keys of the model that are not listed, based on the data.",
        "",
    )
    yield "# Check first:"
    for number, check in enumerate(_questions(guess), start=1):
        yield from _comment_lines(f"  {number}. {check}", "")


def _questions(guess: Guess) -> Iterator[str]:
    """Yield the questions to check, the most costly wrong guess first."""
    if guess.wide.value:
        yield f"data.wide: are these {len(guess.wide.value)} columns the same quantity, each a series to forecast?"
    else:
        yield f"data.target: is {guess.target.value!r} what you want to forecast?"
    if guess.observed.value:
        yield "data.observed: does each column come in as early as the target, and not later?"
    if guess.known.value:
        yield f"data.known: will you have {', '.join(map(repr, guess.known.value))} for the steps ahead, too?"
    if guess.duplicates.value or guess.resample.value:
        yield "data: should the rows of one step be averaged? (`resample: sum` adds them up)"
    yield f"data.frequency, data.timezone: is a step {guess.frequency.value}, by the clocks of {guess.timezone.value}?"
    yield f"window.horizon: do you need {guess.horizon.value} steps ahead?"


def _sections(guess: Guess) -> Iterator[str]:
    yield from _key_line("name", guess.name)
    yield from _key_line("preset", Choice("fast", _PRESETS))
    yield "data:"
    yield from _data(guess)
    split = _scalar(guess.split.value)
    yield from _commented(f"split: {{validation: {split}, test: {split}}}", guess.split.reason)
    yield from _commented(f"window: {{horizon: {guess.horizon.value}}}", guess.horizon.reason)
    yield from _commented(f"evaluate: {{season: {guess.season.value}}}", guess.season.reason)


def _data(guess: Guess) -> Iterator[str]:
    yield from _source(guess)
    yield from _key_line("time", guess.time, "  ")
    if guess.time_format.value:
        yield from _key_line("time_format", guess.time_format, "  ")
    if guess.series.value:
        yield from _key_line("series", guess.series, "  ")
    if guess.wide.value:
        yield from _key_line("wide", _wide_choice(guess), "  ")
    yield from _key_line("target", guess.target, "  ")
    for role in ("observed", "known", "static", "categorical"):
        if getattr(guess, role).value:
            yield from _key_line(role, getattr(guess, role), "  ")
    yield from _left_out(guess)
    yield from _key_line("frequency", guess.frequency, "  ")
    if guess.resample.value:
        yield from _key_line("resample", guess.resample, "  ")
    if guess.duplicates.value:
        yield from _key_line("duplicates", Choice("mean", f"{guess.duplicates.reason}; averaged"), "  ")
    yield from _key_line("timezone", guess.timezone, "  ")
    if guess.calendar.value:
        features = ", ".join(guess.calendar.value)
        yield from _commented(f"  calendar: {{features: [{features}]}}", guess.calendar.reason)
    yield from _commented(f"  missing: {{max_gap: {guess.max_gap.value}}}", guess.max_gap.reason)


def _source(guess: Guess) -> Iterator[str]:
    source = guess.source.value
    if isinstance(source, SqlSource):
        yield "  source:"
        yield from _key_line("sql", Choice(source.sql, "the query whose rows were read"), "    ")
        variable = Choice(source.uri, "the environment variable that holds the database's URL")
        yield from _key_line("uri", variable, "    ")
    else:
        yield from _key_line("source", Choice(source, guess.source.reason), "  ")
    csv = [f"separator: {_scalar(guess.separator.value)}"] if guess.separator.value else []
    csv += [f"decimal: {_scalar(guess.decimal.value)}"] if guess.decimal.value != "." else []
    if csv:
        yield from _commented(f"  csv: {{{', '.join(csv)}}}", "how the file is written")


def _wide_choice(guess: Guess) -> Choice[tuple[str, ...]] | Choice[str]:
    if len(guess.wide.value) > _MAX_LISTED and not guess.left_out:
        return Choice("all", guess.wide.reason)
    return guess.wide


def _left_out(guess: Guess) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for column, reason in guess.left_out.items():
        reasons.setdefault(reason, []).append(_scalar(column))
    if reasons:
        reasons_text = "; ".join(f"{', '.join(columns)} ({reason})" for reason, columns in reasons.items())
        yield from _comment_lines(f"Left out: {reasons_text}", "  ")


def _key_line(
    key: str, choice: Choice[str] | Choice[str | None] | Choice[int] | Choice[tuple[str, ...]], indent: str = ""
) -> Iterator[str]:
    value = choice.value
    if isinstance(value, tuple) and len(value) > 1:
        yield from _list_lines(f"{indent}{key}: ", value, choice.reason, indent)
    else:
        text = _scalar(value[0] if isinstance(value, tuple) else value)
        shown = f"[{text}]" if isinstance(value, tuple) and key == "wide" else text
        yield from _commented(f"{indent}{key}: {shown}", choice.reason)


def _commented(line: str, reason: str) -> Iterator[str]:
    """Yield the line with its reason at the end, or above it if there is no room."""
    reason = " ".join(reason.split())
    if max(len(line) + 2, _COMMENT_COLUMN) + 2 + len(reason) <= _WIDTH:
        yield f"{line:<{_COMMENT_COLUMN - 2}}  # {reason}"
    else:
        yield from _comment_lines(reason, line[: len(line) - len(line.lstrip())])
        yield line


def _list_lines(start: str, names: tuple[str, ...], reason: str, indent: str) -> Iterator[str]:
    """Yield a list in flow style, wrapped, below its reason."""
    whole = f"{start}[{', '.join(map(_scalar, names))}]"
    if len(whole) <= _WIDTH:
        yield from _commented(whole, reason)
        return
    yield from _comment_lines(reason, indent)
    line = f"{start}["
    for number, name in enumerate(names):
        part = _scalar(name) + ("]" if number == len(names) - 1 else ",")
        if len(line) + 1 + len(part) > _WIDTH and number:
            yield line
            line = f"{indent}    {part}"
        else:
            line += part if line.endswith("[") else f" {part}"
    yield line


def _comment_lines(text: str, indent: str) -> Iterator[str]:
    """Yield a comment, wrapped."""
    line = f"{indent}#"
    for word in text.split(" "):
        if len(line) + 1 + len(word) > _WIDTH and line.strip() != "#":
            yield line
            line = f"{indent}#  "
        line += f" {word}"
    yield line


def _scalar(value: object) -> str:
    """Return a value as YAML on one line, quoted if necessary."""
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)
    dumped = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return dumped.strip()[1:-1]

"""A guess as a configuration that people read: every key with the reason for its value beside it."""

import json
from collections.abc import Iterator

import yaml

from lstm.data.guess import HEAD_ROWS, Guess
from lstm.data.guess_names import Choice
from lstm.data.spec import SqlSource
from lstm.pipeline_config import PipelineConfig

_WIDTH = 120
_COMMENTS = 34  # where comments begin, if the line leaves room for that
_MOST_WIDE = 60  # wide columns that are listed one by one, where `all` says the same


def starter_config(guess: Guess) -> str:
    """The text of a YAML file for `lstm train`.

    Raises:
        ConfigError: a value breaks a rule of the configuration, such as a name of one's own.
    """
    text = "\n".join((*_header(guess), *_sections(guess))) + "\n"
    PipelineConfig.parse(yaml.safe_load(text), where="the guessed configuration")
    return text


def _header(guess: Guess) -> Iterator[str]:
    first = "the first " if guess.rows == HEAD_ROWS else ""
    yield from _wrapped(
        f"Guessed by `lstm init` from {first}{guess.rows:,} rows of the data: the reason of each value follows it. "
        "It trains as it stands; `lstm train` takes every other key's default.",
        "",
    )
    yield "# Check first:"
    for number, check in enumerate(_checks(guess), start=1):
        yield from _wrapped(f"  {number}. {check}", "")


def _checks(guess: Guess) -> Iterator[str]:
    """What a wrong guess of would cost most, dearest first."""
    if guess.wide.value:
        yield f"data.wide: are these {len(guess.wide.value)} columns the same quantity, each a series to forecast?"
    else:
        yield f"data.target: is {guess.target.value!r} what you want to forecast?"
    if guess.observed.value:
        yield "data.observed: does each column come in as early as the target, and not later?"
    if guess.known.value:
        yield f"data.known: will you have {', '.join(map(repr, guess.known.value))} for the steps ahead, too?"
    if guess.duplicates.value or guess.resample.value:
        yield "data: is the mean what the rows of one step make together? (a `resample: sum` adds them up)"
    yield f"data.frequency, data.timezone: is a step {guess.frequency.value}, by the clocks of {guess.timezone.value}?"
    yield f"window.horizon: do you need {guess.horizon.value} steps ahead?"


def _sections(guess: Guess) -> Iterator[str]:
    yield from _line("name", guess.name)
    yield from _line("preset", Choice("fast", "a search of some minutes; accurate: of an hour"))
    yield "data:"
    yield from _data(guess)
    split = _scalar(guess.split.value)
    yield from _commented(f"split: {{validation: {split}, test: {split}}}", guess.split.reason)
    yield from _commented(f"window: {{horizon: {guess.horizon.value}}}", guess.horizon.reason)
    yield "model:"
    yield from _line("sequence_length", guess.lookback, "  ")
    if guess.patch.value > 1:
        yield from _line("patch_length", guess.patch, "  ")
    yield from _commented(f"evaluate: {{season: {guess.season.value}}}", guess.season.reason)


def _data(guess: Guess) -> Iterator[str]:
    yield from _source(guess)
    yield from _line("time", guess.time, "  ")
    if guess.time_format.value:
        yield from _line("time_format", guess.time_format, "  ")
    if guess.series.value:
        yield from _line("series", guess.series, "  ")
    if guess.wide.value:
        yield from _line("wide", _shortened(guess), "  ")
    yield from _line("target", guess.target, "  ")
    for role in ("observed", "known", "static", "categorical"):
        if getattr(guess, role).value:
            yield from _line(role, getattr(guess, role), "  ")
    yield from _left_out(guess)
    yield from _line("frequency", guess.frequency, "  ")
    if guess.resample.value:
        yield from _line("resample", guess.resample, "  ")
    if guess.duplicates.value:
        yield from _line("duplicates", Choice("mean", f"{guess.duplicates.reason}; averaged"), "  ")
    yield from _line("timezone", guess.timezone, "  ")
    if guess.calendar.value:
        features = ", ".join(guess.calendar.value)
        yield from _commented(f"  calendar: {{features: [{features}]}}", guess.calendar.reason)
    yield from _commented(f"  missing: {{max_gap: {guess.max_gap.value}}}", guess.max_gap.reason)


def _source(guess: Guess) -> Iterator[str]:
    source = guess.source.value
    if isinstance(source, SqlSource):
        yield "  source:"
        yield from _line("sql", Choice(source.sql, "the query that was looked at"), "    ")
        yield from _line("uri", Choice(source.uri, "the environment variable that holds the database's URL"), "    ")
    else:
        yield from _line("source", Choice(source, guess.source.reason), "  ")
    csv = [f"separator: {_scalar(guess.separator.value)}"] if guess.separator.value else []
    csv += [f"decimal: {_scalar(guess.decimal.value)}"] if guess.decimal.value != "." else []
    if csv:
        yield from _commented(f"  csv: {{{', '.join(csv)}}}", "how the file is written")


def _shortened(guess: Guess) -> Choice[tuple[str, ...]] | Choice[str]:
    if len(guess.wide.value) > _MOST_WIDE and not guess.left_out:
        return Choice("all", guess.wide.reason)
    return guess.wide


def _left_out(guess: Guess) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for column, reason in guess.left_out.items():
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

"""Exceptions of this project, by who can fix the problem.

    LstmError
    ├── InputError             the user can fix it: the command ends with exit code 2
    │   ├── ConfigError        a key or a value of the configuration
    │   ├── DataError          a file, column, row or series
    │   ├── CheckpointError    a saved model that can't be loaded
    │   └── StoreError         a database or tracking store that can't be read or written
    └── TrainingError          the run itself failed: exit code 1

Every message is one line: where, the rule, the value, the fix.
"""

import difflib
import re
from collections.abc import Iterable


class LstmError(Exception):
    """Base of all exceptions of this project."""


class InputError(LstmError):
    """Bad input, which the user can fix."""


class ConfigError(InputError):
    """A configuration key or value breaks a rule."""


class DataError(InputError):
    """A table or array breaks a rule."""


class CheckpointError(InputError):
    """A saved model is missing, damaged, or of another format."""


class StoreError(InputError):
    """A store can't be read or written, so that its content is unknown."""


class TrainingError(LstmError):
    """Training could not produce a usable model."""


def did_you_mean(name: str, known: Iterable[str], max_length: int | None = None) -> str:
    """Return `" Did you mean 'x'?"` for the known name closest to `name`, or else the list of known names.

    The list is cut to `max_length` characters.
    """
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names)}."
    return hint if max_length is None or len(hint) <= max_length else f"{hint[:max_length].rpartition(', ')[0]}, …"


def redact_credentials(text: str) -> str:
    """Return the text with user and password removed from each URL."""
    return re.sub(r"://[^\s'\"]*@", "://(not shown)@", text)

"""What can go wrong, by who can mend it.

    LstmError
    ├── InputError             the user can mend it: the command ends with exit code 2
    │   ├── ConfigError        a key or a value of the configuration
    │   ├── DataError          a file, column, row or series
    │   ├── CheckpointError    a saved model that can't be loaded
    │   └── StoreError         a store that does not hand out what it keeps
    └── TrainingError          the run itself failed: exit code 1

Every message is one line: where, the rule, what was found, the fix.
"""

import difflib
import re
from collections.abc import Iterable


class LstmError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(LstmError):
    """Bad input: the message says how to mend it."""


class ConfigError(InputError):
    """A configuration key or value breaks a rule."""


class DataError(InputError):
    """A table breaks a rule."""


class CheckpointError(InputError):
    """A saved model is missing, damaged, or of a refused format."""


class StoreError(InputError):
    """A store did not hand out what it keeps: nothing is known of its content."""


class TrainingError(LstmError):
    """Training could not produce a usable model."""


def did_you_mean(name: str, known: Iterable[str], longest: int | None = None) -> str:
    """`" Did you mean 'x'?"` for the known name closest to `name`, or the list of known names.

    Where there may be thousands of names, `longest` characters of the list are enough.
    """
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names)}."
    return hint if longest is None or len(hint) <= longest else f"{hint[:longest].rpartition(', ')[0]}, …"


def redact_credentials(text: str) -> str:
    """A message in which no address shows a user or password."""
    return re.sub(r"://[^\s'\"]*@", "://(not shown)@", text)

"""The keys of `data.source` and `data.csv`. Credentials come from the environment alone."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lstm.config.model import StrictModel

VARIABLE = r"env:[A-Za-z_][A-Za-z0-9_]*"


class CsvSpec(StrictModel):
    """The format of a CSV file."""

    separator: Literal["auto", ",", ";", "\t", "|"] = Field("auto", description="auto: read from the header")
    decimal: Literal[".", ","] = "."


class SqlSource(StrictModel):
    """A query, and the environment variable with the database's URL."""

    sql: str = Field(min_length=1)
    uri: str = Field(description="env:NAME of the variable that holds the SQLAlchemy URL")

    @field_validator("uri")
    @classmethod
    def _from_the_environment(cls, value: str) -> str:
        if not re.fullmatch(VARIABLE, value):
            raise ValueError(
                "must name an environment variable such as env:DB_URI, since a database URL holds a password, but got "
                "another text (not shown)"
            )
        return value


def holds_credentials(source: str) -> bool:
    """Whether a URL contains a password or a signature."""
    parts = urlsplit(source)
    secret = re.search(r"(?i)(?:^|&)[^=&]*(?:signature|token|sig|secret|password|key)[^=&]*=", parts.query)
    return bool(parts.scheme and parts.netloc and ("@" in parts.netloc or secret))

"""The sections `split` and `normalize`: spans of training, validation and test, and scales."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lstm.config.fields import Span
from lstm.config.model import StrictModel


class SplitSpec(StrictModel):
    """Lengths of the splits: the last `test` of the span is scored once, the `validation` before it selects.

    Three row counts are counted from the start of the data, `train` first, as papers state their splits; rows after the
    test split are not used.
    """

    validation: Span = 0.1
    test: Span = 0.1
    train: Span | None = Field(
        None,
        description="what is used before validation, all of it by default; three row counts are counted from the "
        "start, and rows after the test are not used",
    )

    @model_validator(mode="after")
    def _training_rows_left(self) -> Self:
        if isinstance(self.validation, float) and isinstance(self.test, float) and self.validation + self.test >= 1:
            raise ValueError(
                f"`validation + test < 1` must hold, but got validation={self.validation}, test={self.test}: nothing "
                "is left to train on"
            )
        return self


class NormalizeSpec(StrictModel):
    """How inputs and targets are scaled, by statistics of the training span alone."""

    strategy: Literal["zscore", "minmax", "robust", "none"] = "zscore"
    per: Literal["series", "all"] = "series"
    log: bool = Field(False, description="model the logarithm of the targets, which must be above 0")

"""The section `search`: budget, sampler, pruner and search space (docs/search.md)."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lstm.config.fields import Duration
from lstm.config.model import ModelConfig, StrictModel, is_partial
from lstm.config.search_space import Options, Range, bounds, check_conditions, check_grid, check_options
from lstm.errors import did_you_mean

# Keys of `model` that follow from another section.
DERIVED_KEYS = {
    "horizon": "window.horizon",
    "season": "evaluate.season",
    "input_size": "the columns of data",
    "output_size": "data.target",
}

# From the project's tuning guide; docs/models.md has the measurements.
DEFAULT_SPACE: dict[str, Options] = {
    "hidden_size": (32, 64, 128),
    "num_layers": Range(low=1, high=3),
    "dropout": Range(low=0.0, high=0.5),
    "learning_rate": Range(low=1e-4, high=1e-2, log=True),
}


class SearchSpec(StrictModel):
    """The Optuna search over training and validation windows; it never sees the test span."""

    trials: int = Field(20, ge=1, description="networks to train, the members of the ensemble first")
    timeout: Duration | None = None
    workers: int | Literal["auto"] = Field("auto", description="auto: one per GPU, or per core with one thread each")
    seed: int = Field(0, ge=0, lt=2**32)
    sampler: Literal["tpe", "random", "gp", "grid"] = "tpe"
    pruner: Literal["median", "hyperband", "successive_halving", "patient", "none"] = Field(
        "median", description="none with several objectives, which can't be pruned"
    )
    plateau: int | None = Field(None, ge=1, description="stop after this many trials in a row without a better one")
    objectives: tuple[Literal["error", "latency"], ...] = ("error",)
    warm_start: bool = Field(True, description="start with the best trial of the last search of the same name")
    space: dict[str, Options] = DEFAULT_SPACE

    @model_validator(mode="before")
    @classmethod
    def _no_pruner_with_several_objectives(cls, values: Any) -> Any:
        objectives = values.get("objectives") if isinstance(values, dict) else None
        with_latency = isinstance(objectives, list | tuple) and "latency" in objectives
        return {"pruner": "none", **values} if with_latency else values

    @field_validator("workers")
    @classmethod
    def _at_least_one_worker(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value

    @field_validator("objectives")
    @classmethod
    def _error_first(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value[:1] != ("error",) or len(set(value)) < len(value):
            raise ValueError(f"must hold error first, and each once, but got {list(value)}. Write [error, latency]")
        return value

    @field_validator("space")
    @classmethod
    def _valid_space(cls, value: dict[str, Options]) -> dict[str, Options]:
        before: dict[str, Options] = {}
        for key, options in value.items():
            if key not in ModelConfig.model_fields:
                raise ValueError(f"{key!r} is no key of the model.{did_you_mean(key, ModelConfig.model_fields)}")
            if key in (*DERIVED_KEYS, "device", "quantiles", "lags", "augment"):
                raise ValueError(f"{key!r} can't be searched: set it in `model`")
            check_options(key, options)
            check_conditions(key, options, before, value)
            before[key] = options
        return value

    @model_validator(mode="after")
    def _pruner_and_sampler_fit(self, info: ValidationInfo) -> Self:
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                f"`pruner` must be none with several objectives, which can't be pruned, but got {self.pruner}: "
                "leave search.pruner out"
            )
        space_follows = is_partial(info) and "space" not in self.model_fields_set
        for key, options in self.space.items() if self.sampler == "grid" and not space_follows else ():
            check_grid(key, options)
        return self

    def bounds(self, key: str) -> tuple[Any, ...]:
        """Return a key's choices, or the two ends of its range; () if it is not searched."""
        return bounds(key, self.space[key]) if key in self.space else ()

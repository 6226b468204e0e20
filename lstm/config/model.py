"""Configuration of a network: every key of `LSTMModel(config={...})`, typed, frozen, with its default."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from lstm.errors import ConfigError, did_you_mean, redact_credentials

Method = Literal["jitter", "scaling", "time_warp", "magnitude_warp", "slicing", "mixup", "bootstrap"]
Cell = Literal["lstm", "gru", "bilstm", "transformer"]
Anchor = Literal["none", "last", "seasonal", "gate", "mean", "standard"]
Head = Literal["direct", "parallel", "bidirectional", "recursive"]
Loss = Literal["mse", "mae", "huber", "mase", "pinball", "gaussian", "student_t"]
EnsembleMethod = Literal["mean", "median", "inverse_error", "greedy"]
_PARTIAL = "partial"  # key of the validation context
LIKELIHOODS = ("gaussian", "student_t")  # losses whose network puts out a distribution


class StrictModel(BaseModel):
    """Base of all configuration models: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_stray_booleans(cls, values: Any) -> Any:
        """Refuse `true` where a number is expected, which pydantic would take for 1."""
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise ValueError(f"{key!r} must not be true or false, but got {value}")
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "", partial: bool = False) -> Self:
        """Validate `values`. `partial`: skip rules between keys whose defaults a preset fills in later.

        Raises:
            ConfigError: one line with `where` (a file name), the first offending key, the rule, the value and, for an
                unknown key, the closest known one.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(redact_credentials(f"a configuration must map keys to values, but got {values!r}."))
        try:
            return cls.model_validate(dict(values), context={_PARTIAL: partial})
        except ValidationError as error:
            line = redact_credentials(_one_line(cls, error))
            raise ConfigError(f"{where}: {line}" if where else line) from None


def is_partial(info: ValidationInfo) -> bool:
    """Whether `parse` was called with `partial`."""
    return bool(info.context and info.context.get(_PARTIAL))


class ModelConfig(StrictModel):
    """One network and its training. Lengths are in steps of the series' frequency."""

    input_size: int | None = Field(None, ge=1, description="features a step; inferred from the data")
    hidden_size: int = Field(64, ge=1)
    num_layers: int = Field(2, ge=1)
    output_size: int | None = Field(None, ge=1, description="targets; inferred from the data")
    dropout: float = Field(0.2, ge=0, lt=1)
    learning_rate: float = Field(0.001, gt=0)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(32, ge=1, description="windows a step of the optimizer")
    sequence_length: int = Field(20, ge=1, le=1_000_000, description="lookback: steps of history in a window")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:1 | mps")

    horizon: int = Field(1, ge=1, le=1_000_000, description="steps ahead that one pass forecasts")
    cell: Cell = "lstm"
    patch_length: int = Field(1, ge=1, description="steps folded into one step of the cell")
    anchor: Anchor = Field("none", description="level that a window is centred on, added back to its forecast")
    season: int | None = Field(None, ge=2, le=1_000_000, description="steps of a season, for anchors seasonal and gate")
    head: Head = Field("direct", description="how the steps ahead are decoded")
    lags: tuple[int, ...] = Field((), description="the target so many steps before is an input of each step ahead")
    channel_independent: bool = Field(False, description="forecast each target by itself, all with the same weights")
    series_embedding: bool = Field(False, description="a learned vector for each series")
    scheduled_sampling: float = Field(
        0.5, ge=0, le=1, description="head recursive: share of steps fed with forecasts in the last epoch"
    )
    residual: bool = Field(False, description="add the input of each layer after the first to its output")
    variational_dropout: bool = Field(False, description="one dropout mask for all steps of a window")
    layer_norm: bool = False
    batch_norm: bool = False
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no clipping")
    patience: int | None = Field(10, ge=1, description="epochs without gain before the stop; null: never")
    scheduler: Literal["cosine", "onecycle", "plateau", "step", "none"] = "cosine"
    steps_per_epoch: int | None = Field(
        None, ge=1, description="steps of the optimizer until the next validation; null: a pass over all windows"
    )
    gradient_accumulation: int = Field(1, ge=1, description="batches a step of the optimizer")
    weight_averaging: bool = Field(False, description="stochastic weight averaging over the last quarter of the epochs")
    loss: Loss | None = Field(None, description="mse, or pinball where quantiles are set")
    quantiles: tuple[float, ...] | None = Field(None, description="levels in (0, 1), rising, with 0.5")
    augment: tuple[Method, ...] = ()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: fp32, bf16 on CUDA for large layers and batches"
    )
    deterministic: bool = Field(False, description="the same bits on each run, on a GPU too, where it is slower")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _lengths_agree(self, info: ValidationInfo) -> Self:
        if is_partial(info):
            return self
        if self.sequence_length % self.patch_length:
            raise ValueError(
                "`sequence_length` must be a multiple of `patch_length`, but got "
                f"sequence_length={self.sequence_length}, patch_length={self.patch_length}"
            )
        on_season = self.anchor == "seasonal" or (self.anchor == "gate" and not self.lags)
        if on_season and (self.season is None or self.season > self.sequence_length):
            raise ValueError(
                f"anchor={self.anchor!r} needs `2 <= season <= sequence_length`, but got "
                f"season={self.season}, sequence_length={self.sequence_length}"
            )
        if not all(1 <= lag <= self.sequence_length for lag in self.lags):
            raise ValueError(
                f"`1 <= lag <= sequence_length` must hold for all `lags`, but got lags={list(self.lags)}, "
                f"sequence_length={self.sequence_length}"
            )
        return self

    @model_validator(mode="after")
    def _losses_and_norms_agree(self) -> Self:
        if self.quantiles is not None and not _rising_with_median(self.quantiles):
            raise ValueError(f"`quantiles` must rise within (0, 1) and hold 0.5, but got {list(self.quantiles)}")
        if self.quantiles is not None and self.loss not in (None, "pinball", *LIKELIHOODS):
            raise ValueError(f"`quantiles` need loss pinball, gaussian or student_t, but got loss={self.loss!r}")
        if self.quantiles is None and self.loss == "pinball":
            raise ValueError("loss 'pinball' needs `quantiles`, such as [0.1, 0.5, 0.9]")
        if self.layer_norm and self.batch_norm:
            raise ValueError("`layer_norm` and `batch_norm` exclude each other: set one of them")
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("`batch_norm` needs `batch_size >= 2`: it compares the windows of a batch")
        return self

    @property
    def trained_loss(self) -> Loss:
        """The loss that training minimizes, after defaults."""
        return self.loss or ("pinball" if self.quantiles else "mse")

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantile levels of the forecast; 0.5 alone for a point forecast."""
        return self.quantiles or ((0.1, 0.5, 0.9) if self.trained_loss in LIKELIHOODS else (0.5,))

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a validated copy with `changes`, which a user or a search chose."""
        return ModelConfig.parse({**self.model_dump(), **changes})


def _rising_with_median(levels: tuple[float, ...]) -> bool:
    return all(0 < level < 1 for level in levels) and list(levels) == sorted(set(levels)) and 0.5 in levels


def _one_line(cls: type[BaseModel], error: ValidationError) -> str:
    problem = max(error.errors(), key=lambda entry: (entry["type"] == "value_error", len(entry["loc"])))
    path = [part for part in problem["loc"] if not _is_union_tag(part)] or list(problem["loc"])
    key = ".".join(str(part) for part in path)
    if problem["type"] == "extra_forbidden":
        owner = _model_at(cls, path[:-1])
        known = (field.alias or name for name, field in owner.model_fields.items())
        return f"unknown key {key!r}.{did_you_mean(str(path[-1]), known)}"
    if problem["type"] == "missing":
        return f"key {key!r} is required, but is not there. Add it."
    message = problem["msg"].removeprefix("Value error, ").rstrip(".").replace("tuple", "list")
    given = problem["input"]
    if isinstance(given, dict | list) or "but got" in message:
        end = "" if message.endswith("?") else "."
        return f"key {key!r}: {message}{end}" if key else f"{message}{end}"
    return f"key {key!r}: {message[0].lower()}{message[1:]}, but got {given!r}."


def _is_union_tag(part: int | str) -> bool:
    """Whether a part of an error's path is the branch of a union (`int`, `list[str]`, `Range`), not a user's key."""
    return isinstance(part, str) and (part in ("int", "float", "str", "bool") or "[" in part or part[:1].isupper())


def _model_at(cls: type[BaseModel], path: list[int | str]) -> type[BaseModel]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation if str(part) in cls.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            cls = annotation
    return cls

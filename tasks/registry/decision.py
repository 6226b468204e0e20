"""The gate's decision on a candidate, as it is logged and tagged."""

from dataclasses import asdict, dataclass
from typing import Any

_TAGGED_FIGURES = (
    *("test_rmse", "baseline_test_rmse", "folds_won", "folds", "incumbent_test_rmse", "effect", "statistic"),
    *("p_value", "origins", "freedom", "alpha", "min_effect"),
)


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str  # serves | baseline | champion
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """The gate's decision on a candidate: the content of `promotion.json`. RMSEs are in raw units."""

    version: int
    kind: str
    champion: bool
    reason: str
    val_rmse: float
    test_rmse: float
    incumbent_version: int | None = None  # champion when it was judged
    checks: tuple[Check, ...] = ()  # in order, up to the first that failed
    baseline: str = ""  # that the gate compares with
    baseline_test_rmse: float | None = None
    folds_won: int | None = None
    folds: int | None = None
    incumbent_test_rmse: float | None = None  # on the windows that both can forecast
    effect: float | None = None  # relative reduction of the scaled RMSE against the champion, on the same windows
    statistic: float | None = None  # Diebold–Mariano; positive if the candidate is better
    p_value: float | None = None
    origins: int | None = None  # number of origin times that both forecast from
    freedom: int | None = None  # degrees of freedom of the test
    alpha: float | None = None
    min_effect: float | None = None
    notice: str = ""  # for the user, such as that no new version was registered

    @property
    def tags(self) -> dict[str, str]:
        """The tags that record the decision on the version."""
        figures = {name: value for name in _TAGGED_FIGURES if (value := getattr(self, name)) is not None}
        return {
            "gate": "champion" if self.champion else "challenger",
            "gate_reason": self.reason,
            "gate_against": str(self.incumbent_version or "none"),
            "gate_passed": ",".join(check.name for check in self.checks if check.passed),
            **{f"gate_{name}": f"{value:.6g}" for name, value in figures.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

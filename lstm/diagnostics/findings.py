"""A trouble found by a check, with its evidence and remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One trouble of a run. JSON-ready with `dataclasses.asdict`."""

    trouble: str  # not_learning | overfitting | exploding_gradients | poor_test | shift | inconsistent_normalisation
    evidence: str  # figures and thresholds
    remedy: str  # which keys to change, with their present values
    where: str  # "trial-003", "test span", "column temp"

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.where}: {self.trouble}: {self.evidence}. {self.remedy}."

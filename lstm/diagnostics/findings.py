"""What a check found: a trouble, with the figures that show it and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One trouble of a run. JSON-ready with `dataclasses.asdict`."""

    trouble: str  # not_learning | overfitting | exploding_gradients | poor_test | shift | inconsistent_normalisation
    evidence: str  # figures and thresholds
    remedy: str  # what to change, with the keys' present values
    where: str  # "trial-003", "test span", "column temp"

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.trouble}: {self.evidence}. {self.remedy}."

"""Learning rates without training: from what the first step would change."""

from landscape.advisor.evidence import RateEvidence, measure_rates
from landscape.advisor.learning_rate import suggest_lr
from landscape.advisor.suggestion import CALIBRATION, RateSuggestion, matching_step, recommend

__all__ = [
    "CALIBRATION",
    "RateEvidence",
    "RateSuggestion",
    "matching_step",
    "measure_rates",
    "recommend",
    "suggest_lr",
]

"""What differences between arms over a few seeds say: intervals, tests, and what could be shown."""

from experiments.kit.statistics.arms import Arm, factors, over_cells, paired, unpaired
from experiments.kit.statistics.bootstrap import examples_deviation, two_level, two_level_over
from experiments.kit.statistics.decades import geometric_mean, slope
from experiments.kit.statistics.difference import Difference, family
from experiments.kit.statistics.interval import Interval, student, welch
from experiments.kit.statistics.p_values import SignFlips, holm, sign_flips
from experiments.kit.statistics.planning import detectable, power, seeds_needed

__all__ = [
    "Arm", "Difference", "Interval", "SignFlips", "detectable", "examples_deviation", "factors",
    "family", "geometric_mean", "holm", "over_cells", "paired", "power", "seeds_needed",
    "sign_flips", "slope", "student", "two_level", "two_level_over",
    "unpaired", "welch",
]  # fmt: skip

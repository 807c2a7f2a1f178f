"""Wrong formulas for eigenvalues on random masks, and for the step that they allow."""

from __future__ import annotations

from dataclasses import replace

from twins.twin import Twin

from theory import bounds, conditional, wishart
from theory.statements.heavy import conditional_bound
from theory.statements.spectral import chernoff_interval

TWINS = [
    Twin(
        "bernstein",
        "without the factor 2n",
        lambda m, p, delta: bounds.bernstein(m, p, 2 * len(m.gram) * delta),
    ),
    Twin(
        "bernstein",
        "without L",
        lambda m, p, delta: bounds.bernstein(replace(m, max_norm2=0.0), p, delta),
    ),
    Twin(
        "bernstein",
        "L/2",
        lambda m, p, delta: bounds.bernstein(replace(m, max_norm2=m.max_norm2 / 2), p, delta),
    ),
    Twin(
        "bernstein",
        "0.6 times the bound",
        lambda m, p, delta: 0.6 * bounds.bernstein(m, p, delta),
    ),
    Twin(
        "bernstein",
        "one standard deviation, no confidence term",
        lambda m, p, delta: (p * (1 - p) * bounds.weighted_norm(m)) ** 0.5,
    ),
    Twin(
        "bernstein",
        "units: the square root of the deviation",
        lambda m, p, delta: bounds.bernstein(m, p, delta) ** 0.5,
    ),
    Twin(
        "chernoff",
        "L/2",
        lambda m, p, delta: chernoff_interval(replace(m, max_norm2=m.max_norm2 / 2), p, delta),
    ),
    Twin(
        "chernoff",
        "upper end without the factor n",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta),
            top_high=p * m.top * bounds.chernoff_upper(p * m.top, m.max_norm2, delta / 2, 1),
        ),
    ),
    Twin(
        "chernoff",
        "lower end of lambda_n without the factor n",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta),
            bottom_low=max(0.0, p * float(m.eigenvalues[-1]))
            * bounds.chernoff_lower(p * float(m.eigenvalues[-1]), m.max_norm2, delta, 1),
        ),
    ),
    Twin(
        "chernoff",
        "upper end at the mean",
        lambda m, p, delta: replace(chernoff_interval(m, p, delta), top_high=p * m.top),
    ),
    Twin(
        "chernoff",
        "lower end of lambda_1 above its mean",
        lambda m, p, delta: replace(chernoff_interval(m, p, delta), top_low=1.3 * p * m.top),
    ),
    Twin(
        "chernoff",
        "lambda_n as large as its mean",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta), bottom_low=p * float(m.eigenvalues[-1])
        ),
    ),
    Twin(
        "heavy-light",
        "without the factor 2n",
        lambda kept, m, p, delta: (
            kept + p * m.gram,
            conditional.deviation(m, p, 2 * len(m.gram) * delta),
            conditional.top_surplus(m, p, delta / 2),
        ),
    ),
    Twin(
        "heavy-light",
        "without R",
        lambda kept, m, p, delta: conditional_bound(kept, replace(m, max_norm2=0.0), p, delta),
    ),
    Twin(
        "heavy-light",
        "lambda_1 without the factor n",
        lambda kept, m, p, delta: (
            kept + p * m.gram,
            conditional.deviation(m, p, delta),
            conditional.top_surplus(m, p, len(m.gram) * delta / 2),
        ),
    ),
    Twin(
        "heavy-light",
        "the mean of the light columns forgotten",
        lambda kept, m, p, delta: (kept, *conditional_bound(kept, m, p, delta)[1:]),
    ),
    Twin(
        "heavy-light",
        "kept heavy columns weighed by p once more",
        lambda kept, m, p, delta: (
            p * kept + p * m.gram,
            *conditional_bound(kept, m, p, delta)[1:],
        ),
    ),
    Twin(
        "heavy-light",
        "0.6 times the bound",
        lambda kept, m, p, delta: (
            kept + p * m.gram,
            0.6 * conditional.deviation(m, p, delta),
            conditional.top_surplus(m, p, delta / 2),
        ),
    ),
    Twin(
        "top-below",
        "without R",
        lambda a, p, delta: conditional.top_shortfall((a[0], 0.0), p, delta),
    ),
    Twin(
        "top-below",
        "0.7 times the bound",
        lambda a, p, delta: 0.7 * conditional.top_shortfall(a, p, delta),
    ),
    Twin(
        "top-below",
        "variance halved",
        lambda a, p, delta: conditional.top_shortfall((a[0] / 2, a[1]), p, delta),
    ),
    Twin(
        "top-below",
        "one standard deviation, no confidence term",
        lambda a, p, delta: (p * (1 - p) * a[0]) ** 0.5,
    ),
    Twin(
        "step-gaussian",
        "half the confidence term",
        lambda n, k, delta: wishart.gaussian_top(n, k, 2 * (delta / 2) ** 0.25),
    ),
    Twin(
        "step-gaussian",
        "without the samples' root",
        lambda n, k, delta: (
            wishart.gaussian_top(n, k, delta)[0],
            wishart.gaussian_top(n, k, delta)[1] - n - 2 * (n * k) ** 0.5,
        ),
    ),
    Twin(
        "step-gaussian",
        "lower end at the edge",
        lambda n, k, delta: (wishart.edge(n, k), wishart.gaussian_top(n, k, delta)[1]),
    ),
    Twin(
        "step-gaussian",
        "lower end without its confidence term",
        lambda n, k, delta: (
            wishart.gaussian_top(n, k, 2.0)[0],
            wishart.gaussian_top(n, k, delta)[1],
        ),
    ),
    Twin("step-isotropic", "the law in 1/p", lambda n, k: k),
    Twin("step-isotropic", "sum of the squares", lambda n, k: n + k),
    Twin("step-isotropic", "the edge, where it fluctuates", wishart.edge),
    Twin(
        "trace-identity",
        "p^2 in the trace",
        lambda p, s2, s4: (p * p * s2, p * (1 - p) * s4),
    ),
    Twin("trace-identity", "variance p^2", lambda p, s2, s4: (p * s2, p * p * s4)),
    Twin(
        "trace-identity",
        "trace off by 1e-9",
        lambda p, s2, s4: (p * s2 * (1 + 1e-9), p * (1 - p) * s4),
    ),
]

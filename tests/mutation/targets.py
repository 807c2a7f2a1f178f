"""Which modules are mutated, which tests guard them, and the mutants made by hand."""

from __future__ import annotations

from fnmatch import fnmatchcase

_EIGENVALUES = [f"curvature_{name}" for name in ("eigen", "krylov", "hidden", "mutations")]

#: module -> the test files that guard it; of each file, the tests that reach the changed line run.
#: Not all that could notice: files whose tests take long are left to those that are quick.
GUARDS: dict[str, list[str]] = {
    "landscape/train.py": ["train_reference", "train", "checkpoint", "schedule"],
    "landscape/kernels/choice.py": ["kernel_branches", "coverage_kernels"],
    "landscape/kernels/coordinates.py": ["kernel_branches", "coverage_kernels"],
    "landscape/kernels/native.py": ["native", "kernel_branches"],
    "landscape/kernels/products.py": ["kernel_branches", "coverage_kernels"],
    "landscape/kernels/spops.py": ["coverage_kernels"],
    "landscape/kernels/values.py": ["kernel_branches", "coverage_kernels"],
    "landscape/scoring.py": ["scoring"],
    "landscape/masks.py": ["masks", "models"],
    "landscape/deltas.py": ["deltas", "delta_files"],
    "landscape/adapters.py": ["adapters"],
    "landscape/distance.py": ["distance"],
    "landscape/curvature/eigen.py": _EIGENVALUES,
    "landscape/curvature/krylov.py": _EIGENVALUES,
    "landscape/curvature/lanczos.py": _EIGENVALUES,
    "landscape/curvature/operators.py": ["curvature_operators", "curvature_eigen"],
    "landscape/curvature/hessian.py": ["curvature_hessian", "curvature_batches"],
    "landscape/curvature/objective.py": ["curvature_hessian", "curvature_batches"],
    "landscape/curvature/density.py": ["curvature_density", "curvature_norm"],
    "landscape/curvature/norm.py": ["curvature_norm", "curvature_hidden"],
    "landscape/curvature/trace.py": ["curvature_density", "curvature_mutations"],
    "theory/bounds.py": ["theory_bounds"],
}

#: name -> (module, text, what stands there instead): mistakes that the suite once let through
BY_HAND: dict[str, tuple[str, str, str]] = {
    "weight decay ignored": (
        "landscape/train.py", "weight_decay=weight_decay)", "weight_decay=0.0)"
    ),
    "one dropout seed for all steps": (
        "landscape/train.py", '_seed(seed, "dropout", state.step)', '_seed(seed, "dropout", 0)'
    ),
    "the same order every epoch": (
        "landscape/train.py", '_generator(seed, "order", epoch)', '_generator(seed, "order", 0)'
    ),
    "the later of two equal checkpoints": (
        "landscape/train.py", "if not key > (best", "if not key >= (best"
    ),
    "gradients never clipped": (
        "landscape/train.py", "parameters.values(), max_norm)", "parameters.values(), math.inf)"
    ),
    "few columns multiplied the wrong way round": (
        "landscape/kernels/values.py", "(right.t() @ left).t().reshape(-1)",
        "(right.t() @ left).reshape(-1)",
    ),
    "Conv1D scattered by rows": (
        "landscape/kernels/values.py",
        "(at.cols, at.rows) if transpose else (at.rows, at.cols)", "(at.cols, at.rows)",
    ),
    "tangents without the bias": (
        "landscape/kernels/products.py", "return out if of_bias is None else out + of_bias",
        "return out",
    ),
    "absent candidates take part in the loss": (
        "landscape/scoring.py", "_cross_entropy(logits, ~batch[\"candidate_mask\"], labels)",
        "_cross_entropy(logits, batch[\"candidate_mask\"] & False, labels)",
    ),
    "the smallest remainder first": (
        "landscape/masks.py", "-(count * sizes[name] % total)", "(count * sizes[name] % total)"
    ),
    "one standard deviation for 95 percent": ("landscape/advisor.py", "(1.96 *", "(1.0 *"),
    "relative is absolute": (
        "landscape/distance.py", "l2 / origin**0.5 if origin", "l2 if origin"
    ),
    "deltas of different models add": (
        "landscape/deltas.py", "if a.mask.num_parameters != b.mask.num_parameters:", "if False:"
    ),
    "the upper bound of a norm is the lower": (
        "landscape/curvature/norm.py", "lower + beyond", "lower"
    ),
    "dev from the end of the permutation": (
        "landscape/tasks/glue.py", "order[num_train : num_train + num_dev]", "order[-num_dev:]"
    ),
}  # fmt: skip
for _module, _files in (("landscape/advisor.py", "advisor"), ("landscape/tasks/glue.py", "tasks")):
    GUARDS[_module] = [_files]
#: these have mutants made by hand only
HAND_ONLY = {"landscape/advisor.py", "landscape/tasks/glue.py"}

#: functions that run once in a process, whose tests start processes of their own
ELSEWHERE = {
    "landscape/kernels/native.py": {"_library", "_folder", "_digest", "_compile"},
}

#: key of a mutant, * for anything -> why no test can tell it from the code
EQUIVALENT: dict[str, str] = {
    "landscape/curvature/density.py spectral_density: * => order = nodes.argsort()": (
        "the last of two dimensions"
    ),
    "landscape/curvature/krylov.py Krylov.extend: * => *zip(rest, products.unbind(1)):": (
        "a product has as many columns as what it is of"
    ),
    "landscape/curvature/krylov.py Krylov.is_settled: * => *_allowed(self.values[:], tol)": (
        "the first alone is used"
    ),
    "landscape/curvature/krylov.py Krylov._orthonormal: self._place = self.count => pass": (
        "the rows are then copied to where they are"
    ),
    "landscape/curvature/lanczos.py _start: * => if start.ndim not in (2, 1) or *": (
        "the same two numbers"
    ),
    "landscape/kernels/coordinates.py Coordinates.csr: * => *, device=zeros.device)*": (
        "not to check is torch's default"
    ),
    "landscape/deltas.py _agreed: * => holders = [d for d in (b, a) if name in d.origins]": (
        "two holders in another order, which must agree"
    ),
    "landscape/kernels/native.py *threads=_threads((m + n + k) * tokens)*": (
        "how many threads share the work, not what it gives"
    ),
    "landscape/kernels/values.py _slices: if 8 * *": "the same product, turned or not",
    "landscape/kernels/values.py gather: * => *zip(a.split(tokens), b.split(tokens)):": (
        "both are split alike"
    ),
    "landscape/masks.py bernoulli: gaps = * => gaps = rng.geometric(probability, size=*": (
        "the same numbers are drawn, in pieces of another size"
    ),
    "landscape/masks.py bernoulli: * => *np.minimum(gaps, n + 2))": (
        "a gap of n + 1 ends the tensor wherever it begins, and so does a wider one"
    ),
    "landscape/masks.py bernoulli: * => if ((probability) > (1.0)):": "every gap is 1 then",
    "landscape/scoring.py _label_logits: * for name in ('attention_mask', 'input_ids')}": (
        "a dict in another order"
    ),
    "landscape/scoring.py _candidate_log_probs: * => *.log_softmax((1))": (
        "the last of two dimensions"
    ),
    "landscape/train.py _reload: (folder * => *.unlink(missing_ok=False)": (
        "a file that is missing is an OSError, which is let pass there"
    ),
    "theory/bounds.py _invert: * => while (middle := (low + high) / 2) not in (high, low):": (
        "the same two numbers"
    ),
    "theory/bounds.py chernoff_lower: * => return 1 - _invert(rate, level, *": (
        "a bracket that is a little wider or narrower, beyond where the root may lie"
    ),
    "theory/bounds.py chernoff_upper: high = 1.0 => high = 2.0": "a wider bracket of one root",
    "theory/bounds.py chernoff_upper: high *= 2 => high *= 3": "a wider bracket of one root",
    "theory/bounds.py chernoff_upper: * => while ((rate(high)) <= (level)):": (
        "a wider bracket where its end is the root"
    ),
}


def excuse(key: str) -> str | None:
    """Return why a mutant is the same program, or None."""
    for pattern, reason in EQUIVALENT.items():
        if fnmatchcase(key, pattern.replace("[", "[[]")):
            return reason
    return None

"""Which modules are mutated, which tests guard them, and the mutants made by hand."""

from __future__ import annotations

from fnmatch import fnmatchcase

_EIGENVALUES = [
    f"curvature/spectrum/{name}"
    for name in ("eigen", "results", "krylov", "recurrence", "hidden", "mutations")
]

_KEPT_RUNS = [
    f"training/{name}" for name in ("checkpoint", "run_identity", "damaged_runs", "finished_runs")
]

_PACKED = [f"training/packed/{name}" for name in ("packed", "settings", "forms")]

#: module -> the test files that guard it; of each file, the tests that reach the changed line run.
#: Not all that could notice: files whose tests take long are left to those that are quick.
GUARDS: dict[str, list[str]] = {
    "landscape/training/training.py": [
        "training/training",
        "training/finetune",
        "training/reference",
        "training/checkpoint",
    ],
    "landscape/training/loop.py": ["training/loop", "training/training", "training/reference"],
    "landscape/training/updates.py": ["training/loop", "training/training", "training/reference"],
    "landscape/training/best.py": ["training/training", "training/reference"],
    "landscape/training/epochs.py": ["training/reference", "training/training"],
    "landscape/training/folder.py": _KEPT_RUNS,
    "landscape/training/checkpoint.py": _KEPT_RUNS,
    "landscape/training/interruption.py": ["training/interruption"],
    "landscape/training/pace.py": ["training/pace"],
    "landscape/training/optimizer.py": ["training/optimizer", "training/reference"],
    "landscape/training/lr_schedule.py": ["training/lr_schedule"],
    "landscape/training/packed/chunks.py": _PACKED,
    "landscape/training/packed/course.py": _PACKED,
    "landscape/training/packed/dropout.py": _PACKED,
    "landscape/training/packed/layers.py": _PACKED,
    "landscape/training/packed/pack.py": _PACKED,
    "landscape/training/packed/products.py": _PACKED,
    "landscape/training/packed/stacked.py": ["training/packed/stacked", "training/packed/settings"],
    "landscape/training/packed/together.py": ["training/packed/stacked"],
    "landscape/kernels/choice.py": ["kernels/branches", "kernels/kernels", "kernels/records"],
    "landscape/kernels/kernel.py": ["kernels/branches", "kernels/records"],
    "landscape/kernels/gather.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/sampled.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/dense.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/submatrix.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/coordinates.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/native.py": ["kernels/native", "kernels/branches"],
    "landscape/kernels/products.py": ["kernels/branches", "kernels/kernels"],
    "landscape/kernels/spops.py": ["kernels/kernels"],
    "landscape/kernels/values.py": ["kernels/branches", "kernels/kernels"],
    "landscape/tasks/outputs/encoder_decoder.py": ["tasks/outputs/encoder_decoder"],
    "landscape/tasks/outputs/decoding.py": [
        "tasks/outputs/generation",
        "tasks/outputs/shared_prompt",
    ],
    "landscape/tasks/final_answers.py": ["tasks/metrics"],
    "landscape/tasks/outputs/forward.py": [
        "tasks/outputs/scoring",
        "tasks/outputs/unusual_models",
        "tasks/outputs/shared_prompt",
    ],
    "landscape/tasks/outputs/generating.py": ["tasks/outputs/generation"],
    "landscape/tasks/metrics.py": ["tasks/metrics"],
    "landscape/tasks/own/dealing.py": ["tasks/own/rows", "tasks/own/task"],
    "landscape/tasks/own/recipe.py": ["tasks/own/task", "tasks/own/mistakes"],
    "landscape/tasks/own/values.py": ["tasks/own/task", "tasks/own/mistakes"],
    "landscape/tasks/own/verbaliser.py": ["tasks/own/task", "tasks/own/mistakes"],
    "landscape/tasks/outputs/scoring.py": [
        "tasks/outputs/scoring",
        "tasks/outputs/unusual_models",
    ],
    "landscape/tasks/outputs/shared_prompt.py": ["tasks/outputs/shared_prompt"],
    "landscape/masks.py": ["masks", "models/models"],
    "landscape/deltas/algebra.py": ["deltas/algebra", "deltas/formats", "deltas/dense"],
    "landscape/deltas/files.py": ["deltas/files", "deltas/dense"],
    "landscape/distances.py": ["distance"],
    "landscape/shown.py": ["shown"],
    "landscape/cli/telling.py": ["cli/telling"],
    "landscape/figures/losses.py": ["figures/losses"],
    "experiments/kit/cases.py": ["experiments/kit/cases"],
    "landscape/training/budget.py": ["training/schedule"],
    "landscape/training/schedule.py": ["training/moving_tensors", "training/schedule"],
    "landscape/training/ranking.py": ["training/moving", "training/schedule"],
    "landscape/curvature/spectrum/result.py": _EIGENVALUES,
    "landscape/curvature/spectrum/krylov.py": _EIGENVALUES,
    "landscape/curvature/spectrum/recurrence.py": _EIGENVALUES,
    "landscape/curvature/spectrum/lanczos.py": _EIGENVALUES,
    "landscape/curvature/operators/linear.py": [
        "curvature/operators/operators",
        "curvature/spectrum/eigen",
    ],
    "landscape/curvature/operators/hessian.py": [
        "curvature/operators/hessian",
        "curvature/operators/batches",
    ],
    "landscape/curvature/derivatives/objective.py": [
        "curvature/operators/hessian",
        "curvature/operators/refusals",
        "curvature/operators/batches",
    ],
    "landscape/curvature/spectrum/density.py": [
        "curvature/spectrum/density",
        "curvature/spectrum/ceiling",
    ],
    "landscape/curvature/spectrum/ceiling.py": [
        "curvature/spectrum/ceiling",
        "curvature/spectrum/hidden",
    ],
    "landscape/curvature/spectrum/trace.py": [
        "curvature/spectrum/density",
        "curvature/spectrum/mutations",
    ],
    "landscape/sweep/sealed.py": ["sweep/store", "sweep/published"],
    "landscape/sweep/rows.py": ["sweep/store", "sweep/published"],
    "landscape/sweep/comparison.py": ["sweep/comparison"],
    "landscape/sweep/plan.py": ["sweep/plan", "sweep/worth", "sweep/driver"],
    "landscape/sweep/rates.py": ["sweep/grid", "sweep/plan"],
    "landscape/sweep/driver.py": ["sweep/driver"],
    "landscape/sweep/changed.py": ["sweep/changed"],
    "theory/bounds.py": ["theory/bounds"],
    "theory/binomial.py": ["theory/binomial"],
    "theory/conditional.py": ["theory/conditional"],
    "theory/explain.py": ["theory/cli"],
    "theory/given.py": ["theory/given"],
    "theory/growing.py": ["theory/nested"],
    "theory/heavy_light.py": ["theory/conditional"],
    "theory/information.py": ["theory/printed"],
    "theory/jacobian.py": ["theory/jacobian"],
    "theory/leverages.py": ["theory/laws"],
    "theory/signs.py": ["theory/signs"],
    "theory/wishart.py": ["theory/laws"],
    "theory/statements/adam.py": ["theory/signs", "theory/statements"],
    "theory/statements/contraction.py": ["theory/printed", "theory/statements"],
    "theory/statements/corrected.py": ["theory/laws", "theory/statements"],
    "theory/statements/distance.py": ["theory/conditioning", "theory/statements"],
    "theory/statements/dynamics.py": ["theory/statements"],
    "theory/statements/every_n.py": ["theory/printed", "theory/statements"],
    "theory/statements/floor.py": ["theory/tiled", "theory/verdicts", "theory/statements"],
    "theory/statements/heavy.py": ["theory/statements"],
    "theory/statements/nested.py": ["theory/nested", "theory/statements"],
    "theory/statements/prose.py": ["theory/printed", "theory/statements"],
    "theory/statements/sgd.py": ["theory/sgd", "theory/statements"],
    "theory/statements/sgd_rate.py": ["theory/sgd", "theory/statements"],
    "theory/statements/sharp.py": ["theory/sharp", "theory/statements"],
    "theory/statements/sign.py": ["theory/signs", "theory/statements"],
    "theory/statements/sparser.py": ["theory/printed", "theory/statements"],
    "theory/statements/steps.py": ["theory/laws", "theory/statements"],
    "theory/statements/updates.py": ["theory/printed", "theory/problems", "theory/statements"],
    "theory/statements/work.py": ["theory/printed", "theory/statements"],
}


def test_file(guard: str) -> str:
    """Return the path of a guard's test file.

    >>> test_file("kernels/native")
    'tests/kernels/test_native.py'
    """
    folder, _, name = guard.rpartition("/")
    return f"tests/{folder}/test_{name}.py" if folder else f"tests/test_{name}.py"


test_file.__test__ = False  # type: ignore[attr-defined]  # it is none

#: name -> (module, text, what stands there instead): mistakes that the suite once let through
BY_HAND: dict[str, tuple[str, str, str]] = {
    "weight decay ignored": (
        "landscape/training/optimizer.py", '"weight_decay": weight_decay,', '"weight_decay": 0.0,'
    ),
    "one dropout seed for all steps": (
        "landscape/training/training.py", 'else ("dropout", step)', 'else ("dropout", 0)'
    ),
    "the same order every epoch": (
        "landscape/training/epochs.py", 'seed, "order", epoch)', 'seed, "order", 0)'
    ),
    "the later of two equal checkpoints": (
        "landscape/training/best.py", "if key > self._key", "if key >= self._key"
    ),
    "gradients never clipped": (
        "landscape/training/updates.py", "self._parameters, self._max_norm)",
        "self._parameters, math.inf)"
    ),
    "a mean of means over the batches of a step": (
        "landscape/training/loop.py", "terms + float(count) * weight", "terms + weight"
    ),
    "few columns multiplied the wrong way round": (
        "landscape/kernels/submatrix.py", "(right.t() @ left).t().reshape(-1)",
        "(right.t() @ left).reshape(-1)",
    ),
    "Conv1D scattered by rows": (
        "landscape/kernels/gather.py",
        "(at.cols, at.rows) if transpose else (at.rows, at.cols)", "(at.cols, at.rows)",
    ),
    "tangents without the bias": (
        "landscape/kernels/products.py", "return out if of_bias is None else out + of_bias",
        "return out",
    ),
    "absent candidates take part in the loss": (
        "landscape/tasks/outputs/scoring.py",
        "_cross_entropy(logits, ~batch[\"candidate_mask\"], labels)",
        "_cross_entropy(logits, batch[\"candidate_mask\"] & False, labels)",
    ),
    "the smallest remainder first": (
        "landscape/masks.py", "-(count * sizes[name] % total)", "(count * sizes[name] % total)"
    ),
    "one standard deviation for 95 percent": (
        "landscape/advisor/suggestion.py", "(1.96 *", "(1.0 *"
    ),
    "relative is absolute": (
        "landscape/distances.py", "l2 / origin**0.5 if origin", "l2 if origin"
    ),
    "deltas of different models add": (
        "landscape/deltas/algebra.py",
        "if a.mask.num_parameters != b.mask.num_parameters:", "if False:"
    ),
    "the upper bound of a norm is the lower": (
        "landscape/curvature/spectrum/ceiling.py", "lower + beyond", "lower"
    ),
    "dev from the end of the permutation": (
        "landscape/tasks/splits.py", "order[sizes.train : sizes.train + sizes.dev]",
        "order[-sizes.dev:]",
    ),
    "branches look at the trunk of another example": (
        "landscape/tasks/outputs/shared_prompt.py", "torch.cat([held[owners], new], -2)",
        "torch.cat([held[owners.sort().values], new], -2)",
    ),
    "a prompt loses the newline that ends it": (
        "landscape/tasks/sets/superglue.py", 'prompt.strip(" ")', "prompt.strip()"
    ),
    "of several right answers one counts": (
        "landscape/tasks/sets/superglue.py", "tuple(right[1:])", "()"
    ),
    "what a diverged model does not predict is its first candidate": (
        "landscape/tasks/forms/candidates.py", "None if best is None else", "0 if best is None else"
    ),
    "files of another hash are read": (
        "landscape/sources/pinned.py", "(digest := sha256(path)) != wanted",
        "(digest := sha256(path)) != wanted and False",
    ),
    "half of a pair is an attention": (
        "landscape/models/targets.py", "names.keys() >= set(together)",
        "names.keys() & set(together)",
    ),
    "batch norms learn what they see": (
        "landscape/training/mode.py", "module.track_running_stats:", "False:"
    ),
    "a body without its weights is a classifier": (
        "landscape/models/wanted.py", 'if not n.startswith(heads) and "pooler" not in n', "if False"
    ),
    "a head is kept that should be new": (
        "landscape/models/wanted.py", "parameter._is_hf_initialized = False", "pass"
    ),
    "weights are read from outside of their folder": (
        "landscape/models/files.py", "or Path(part).name != part", ""
    ),
    "a mean of class embeddings that is no unit vector": (
        "landscape/models/zero_shot.py", "(_unit(each.mean(1)) if", "(each.mean(1) if"
    ),
    "a dev loss of 0 is the worst": (
        "landscape/sweep/plan.py", "_or_worst(loss and -loss)",
        "_or_worst(-loss if loss else None)",
    ),
    "a row is read whatever its hash": (
        "landscape/sweep/sealed.py", ".hexdigest() != found[2]", ".hexdigest() == 0"
    ),
    "runs are paired over examples that may differ": (
        "landscape/sweep/comparison.py", "rows[0] is None or rows[0] != rows[1] or", ""
    ),
    "any model may be judged on any examples": (
        "landscape/tasks/fitting.py", "found not in answers", "False"
    ),
    "a pack's checkpoint is chosen by the metric alone": (
        "landscape/training/packed/course.py", "settings.select_by, dict", '"metric", dict'
    ),
    "a pack that goes on forgets its seconds": (
        "landscape/training/packed/course.py", 'self.seconds = state["seconds"]', "pass"
    ),
    "each lane has the seconds of all": (
        "landscape/training/packed/pack.py", "(time.perf_counter() - began) / len(alive)",
        "time.perf_counter() - began",
    ),
    "a lane's values change with those it was given": (
        "landscape/training/packed/lane.py",
        "value.detach().clone() for name, value in (values or {})",
        "value.detach() for name, value in (values or {})",
    ),
    "a lane's values keep their type": (
        "landscape/training/packed/course.py", "lane.values[n].to(p.device, p.dtype)",
        "lane.values[n]",
    ),
    "lanes are judged on what they do not read": (
        "landscape/training/packed/pack.py",
        "max_length=course.limit, bos=course.lane.settings.bos", "max_length=course.limit",
    ),
    "one infinite weight is judged": (
        "landscape/training/packed/course.py", "return all(bool(torch.isfinite(p)",
        "return any(bool(torch.isfinite(p)",
    ),
    "schedule-free lanes are judged where they take gradients": (
        "landscape/training/packed/pack.py", "inside.enter_context(course.updates.judged())", "pass"
    ),
    "attention that drops all is divided by zero": (
        "landscape/training/packed/dropout.py", "if p == 1:", "if False:"
    ),
    "a lane of a bfloat16 model trains in bfloat16": (
        "landscape/training/packed/products.py",
        "torch.promote_types(origin.dtype, torch.float32)", "origin.dtype",
    ),
    "a stack of a bfloat16 model trains in bfloat16": (
        "landscape/training/packed/stacked.py",
        "kind = torch.promote_types(self.dtype, torch.float32)", "kind = self.dtype",
    ),
    "a stack adds up gradients in bfloat16": (
        "landscape/training/packed/stacked.py",
        "wide = torch.promote_types(a.dtype, torch.float32)", "wide = a.dtype",
    ),
    "labels that are ignored count": (
        "landscape/training/packed/chunks.py", "(labels != IGNORED).sum(1).tolist()",
        "[labels.shape[1]] * count",
    ),
    "the padding of targets counts": (
        "landscape/training/packed/chunks.py", 'found: list[int] = batch["target_mask"].sum(1)',
        'found: list[int] = (batch["target_mask"] | True).sum(1)',
    ),
    "a loss without terms is 0": (
        "landscape/training/packed/chunks.py", 'if terms else float("nan")', "if terms else 0.0"
    ),
    "stacked lanes are judged with dropout": (
        "landscape/training/packed/judging.py", "with eval_mode(self._model), layers",
        "with layers",
    ),
    "a judge leaves the model in another mode": (
        "landscape/training/packed/judging.py", "with eval_mode(self._model), layers",
        "self._model.eval()\n        with layers",
    ),
    "stacked lanes decay without their rate": (
        "landscape/training/packed/updating.py", '1 - lr * group["weight_decay"]',
        '1 - group["weight_decay"]',
    ),
    "stacked lanes have the usual epsilon": (
        "landscape/training/packed/updating.py", 'math.sqrt(second), group["eps"]',
        "math.sqrt(second), 1e-8",
    ),
    "stacked lanes have the usual betas": (
        "landscape/training/packed/updating.py", '(beta1, beta2), lr = group["betas"], ',
        "(beta1, beta2), lr = (0.9, 0.999), ",
    ),
    "an overwritten pack goes on from its checkpoint": (
        "landscape/training/packed/folder.py", "if overwrite:", "if False:"
    ),
    "two lanes write into one folder": (
        "landscape/training/packed/folder.py",
        " or len({Path(p).expanduser() for p in places}) != count", "",
    ),
    "every lane's folder says that it was tested": (
        "landscape/training/packed/folder.py", "test=lane.settings.test", "test=True"
    ),
    "a lane that is finished is written again": (
        "landscape/training/packed/folder.py", "if not folder.finished:", "if True:"
    ),
    "an evaluation is lost with the steps after it": (
        "landscape/training/pace.py", "return last or evaluated or ", "return last or "
    ),
    "a test is lost with what was trained since the last checkpoint": (
        "landscape/training/pace.py", "return last or self._clock()", "return self._clock()"
    ),
    "a finished pack trains again": (
        "landscape/training/packed/finetuning.py", "if kept.finished:", "if False:"
    ),
    "tied tensors are some lane's own": (
        "landscape/training/packed/refusals.py", "if sharing[tensor.identity] > 1:", "if False:"
    ),
    "hooks see other lanes": (
        "landscape/training/packed/refusals.py",
        "if module._forward_hooks or module._forward_pre_hooks:", "if False:",
    ),
    "an encoder-decoder drops out by rows of one length": (
        "landscape/training/packed/refusals.py",
        'if kind(model) == "encoder-decoder language model":', "if False:",
    ),
    "lanes of two losses are one batch": (
        "landscape/training/packed/refusals.py",
        "lane.task.kind, lane.task.loss, lane.settings.autocast",
        "lane.task.kind, lane.settings.autocast",
    ),
}  # fmt: skip
#: these have mutants made by hand only
HAND_ONLY = {
    "landscape/advisor/suggestion.py": "advisor",
    "landscape/models/files.py": "models/loading",
    "landscape/models/targets.py": "models/targets",
    "landscape/models/wanted.py": "models/loading",
    "landscape/models/zero_shot.py": "models/zero_shot",
    "landscape/sources/pinned.py": "sources",
    "landscape/tasks/fitting.py": "tasks/fitting",
    "landscape/tasks/forms/candidates.py": "tasks/metrics",
    "landscape/tasks/sets/superglue.py": "tasks/sets/superglue",
    "landscape/tasks/splits.py": "tasks/tasks",
    "landscape/training/mode.py": "models/convolutions",
    "landscape/training/packed/finetuning.py": "training/packed/folders",
    "landscape/training/packed/folder.py": "training/packed/folders",
    "landscape/training/packed/judging.py": "training/packed/settings",
    "landscape/training/packed/lane.py": "training/packed/settings",
    "landscape/training/packed/refusals.py": "training/packed/refusals",
    "landscape/training/packed/updating.py": "training/packed/settings",
}
GUARDS |= {module: [files] for module, files in HAND_ONLY.items()}

#: functions that run once in a process, whose tests start processes of their own
ELSEWHERE = {
    "landscape/kernels/native.py": {"_library", "_folder", "_digest", "_compile"},
}

#: key of a mutant, * for anything -> why no test can tell it from the code
EQUIVALENT: dict[str, str] = {
    "landscape/curvature/spectrum/density.py spectral_density: * => order = nodes.argsort()": (
        "the last of two dimensions"
    ),
    "landscape/curvature/spectrum/recurrence.py "
    "Recurrence.extend: * => *zip(rest, products.unbind(1)):": (
        "a product has as many columns as what it is of"
    ),
    "landscape/curvature/spectrum/krylov.py "
    "Krylov.is_settled: * => *allowed(self.values[:], tol)": ("the first alone is used"),
    "landscape/curvature/spectrum/recurrence.py "
    "Recurrence._orthonormal: self._place = self.count => pass": (
        "the rows are then copied to where they are"
    ),
    "landscape/curvature/spectrum/lanczos.py _start: * => if start.ndim not in (2, 1) or *": (
        "the same two numbers"
    ),
    "landscape/kernels/coordinates.py Coordinates.csr: * => *, device=zeros.device)*": (
        "not to check is torch's default"
    ),
    "landscape/deltas/algebra.py _agreed: * => holders = [d for d in (b, a) if *": (
        "two holders in another order, which must agree"
    ),
    "landscape/kernels/native.py *threads=_threads((m + n + k) * tokens)*": (
        "how many threads share the work, not what it gives"
    ),
    "landscape/kernels/submatrix.py _values: if 8 * *": "the same product, transposed or not",
    "landscape/kernels/gather.py gather: * => *zip(a.split(tokens), b.split(tokens)):": (
        "both are split alike"
    ),
    "landscape/masks.py bernoulli: gaps = * => gaps = rng.geometric(probability, size=*": (
        "the same numbers are drawn, in pieces of another size"
    ),
    "landscape/masks.py bernoulli: * => *np.minimum(gaps, n + 2))": (
        "a gap of n + 1 ends the tensor wherever it begins, and so does a wider one"
    ),
    "landscape/masks.py bernoulli: * => if ((probability) > (1.0)):": "every gap is 1 then",
    "landscape/tasks/outputs/forward.py label_logits: * in ('attention_mask', 'input_ids')}": (
        "a dict in another order"
    ),
    "landscape/tasks/outputs/scoring.py _candidate_log_probs: * => *.log_softmax((1))": (
        "the last of two dimensions"
    ),
    "landscape/training/folder.py RunFolder.result: * => *.unlink(missing_ok=False)": (
        "a file that is missing is an OSError, which is let pass there"
    ),
    "experiments/kit/cases.py apart: * => where={**p.where, **dict(zip(by, at*": (
        "a case has as many values as there are coordinates"
    ),
    "experiments/kit/cases.py _name: * => written(value) for value, values in zip(at, zip(*": (
        "all cases have as many values"
    ),
    "experiments/kit/cases.py _within: * => return at != other and all(a in (None, b) for *": (
        "both places have as many values"
    ),
    "experiments/kit/cases.py _within: * => *all(a in (b, None) for *": "the same two values",
    "landscape/sweep/comparison.py over_examples: rows = * => * for one in (b, a)]": (
        "the two are asked whether they are equal"
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

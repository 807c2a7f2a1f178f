"""What artefacts are made of. An artefact is a view of runs: which, how it looks, what it states.

Runs are computed once, by `landscape.sweep`, into a store; two artefacts that name the same run
share it. A new artefact is one file in its source's folder (random_masking/, id3/, ours/) that ends
in ``ARTEFACT``, and is found there; `experiments/random_masking/figure5.py` is the one to imitate.

    from experiments.kit.columns import Table, mean_std
    from experiments.kit.panels import curve
    from experiments.kit.statements import better
    from experiments.kit.view import Artefact
    from landscape.sweep.grid import Grid

    def grids(preset): ...             data: a list of `Grid`s for "smoke", "local", "paper"
    ARTEFACT = Artefact(
        name=, title=, source=, grids=, lead=, caption=, differences=, derive=, needs=, presets=,
        tables={"Results": Table(by=("ratio", "arm"), columns={"accuracy": mean_std("test")})},
        statements={"order": better("random masks are ...", "test", "random", "structured")},
        panels=(curve("test", "Accuracy", "test accuracy"),),
    )

*Grids.* Values that several artefacts share are in the `grids` of their source, so that they share
runs. Axes that move together are joined: ``"method+options": [("random", {"sampling": "exact"}),
...]``; a mask seed of its own for every seed: ``"seed+mask_seed": [(0, 100), (1, 101), ...]``.
`Rates` chooses the rate on dev with the first seed; ``measure={"sharpness": {...}}`` measures the
runs at the chosen rate. LoRA, full fine-tuning and BitFit are further grids, whose records have no
ratio; ``method="none"`` is the pretrained model. A record without a coordinate takes part wherever
it is asked for: a baseline is a level line in `curve`, and `better` compares it at every ratio.

*Records* (`records.Record`) are what everything else sees: one flat dict a run, at the rate chosen.
``arm`` is the method and schedule; ``derive=lambda r: {"arm": "LoRA"}`` renames it, or adds values
(a gain, a group of ratios). Names: model, task, method, ratio, lr, seed, dev, test, test_loss,
count, distance, diverged, correct, train_loss, sharpness_before, sharpness_converged_after, edge.

*Tables* (`columns`): mean_std, geometric (for what scatters over decades), first, count, rate,
seeds, share, paper (a number that `experiments.paper.tables.beside` looks up); ``across="task"``
puts tasks side by side. A column is a function from a line's records to text; write your own where
none fits; `Lines(function)` is a table of your own.

*Statements* (`statements`): better (``by=-0.01``: loses less than a point), larger (by a factor),
alike, widens, scales (exponent, with ``law=`` and ``paper=``), exceeds, below, monotone, each,
at_each, true_everywhere. Seeds are what is repeated; cells (model, task, ratio) are averaged within
a seed; those of differences are one family (Holm). Their short names are what claims refer to
(`experiments.claims`); `Statement(text, judge)` is one of your own, from records to a `Finding`.
``further=`` gives findings whose number depends on the records.

*Evidence* (`statistics`) of a difference says in turn: its mean over seeds and Student's 95 %
interval, which alone decides; g, Hedges' effect: the mean over the standard deviation of the paired
differences, corrected for few seeds (from three on; of magnitudes, on logarithms), which scatters
much where seeds are few; the exact sign-flip test; the smallest difference that these seeds could
have shown; Holm's p among the differences that are read together; the two-level bootstrap, where
the runs of every cell keep which test examples they had right: seeds are drawn once for all cells,
then examples, once for all cells that show the same (not where a set is tested on whole, as SST-2's
872: all seeds have the same examples then, and an interval speaks of these); of an interval that
holds zero, how many seeds would tell it from zero and how much of the variance is the test
examples'. Under the statements of a view stands which of them are adjusted for being several, and
which are not (`correction`).

*Panels* (`panels`): curve (over ratio or ``x=``), dots (one line an arm), course (over steps),
against, heat (over a plane); ``where={"task": "sst2"}`` for one task a panel. `Panel(title, draw)`
is one of your own; ``panels`` may be a function of the records that makes them.

*Cases* (`cases`): a mean over models and tasks hides in which it is true. ``apart(curve(...))``
draws the panels of every model and task apart; ``further=case_by_case(...)`` judges statements in
each, beside the one over all.

*Measurements* of ours are in `experiments.measurements`, named ``module:ATTRIBUTE``. One made
before a run of the method "none" looks at the pretrained model, inside masks that it attaches.

    python -m experiments run NAME                       the smoke preset first: minutes at most
    python -m experiments run NAME --preset local        into experiments/store/local (ignored)
    python -m experiments render NAME --preset local --store experiments/store/local   while it runs
    python -m experiments publish NAME --preset local    rows used and view into experiments/results
    python -m experiments check NAME --preset local      statements; hashes; is the view current
    python -m experiments ledger                         experiments/LEDGER.md from all statements
    python -m experiments verify CLAIM... --fresh-seeds 3   again with seeds nobody has used

Rendering is pure: the same rows give the same bytes. Look at the picture before you commit it.
"""

"""The claims of Agarwal et al. 2024 (ID3) on masks that move: schedules, places, cost."""

from __future__ import annotations

from experiments.claims.claim import Claim

SCHEDULES = (
    Claim(
        id="id3-half-enough",
        says="With half the updates a growing mask is no worse than one that stays.",
        place="section 1, section 7",
        printed="no comparison at one score is printed",
        artefact="id3-figure6", statements=("increment_no_worse_than_static",),
    ),
    Claim(
        id="id3-increment-high",
        says="At high budgets growing masks are better than masks chosen anew at every step.",
        place="section 6, figure 6",
        printed="drawn only, 320K and 640K",
        artefact="id3-figure6", statements=("increment_beats_repeat_high",),
    ),
    Claim(
        id="id3-repeat-low",
        says="At the lowest budget masks chosen anew may be better.",
        place="section 6, figure 6",
        printed="drawn only, 80K",
        artefact="id3-figure6", statements=("repeat_beats_increment_low",),
    ),
    Claim(
        id="id3-repeat-falls",
        says="With masks chosen anew the score falls as the budget grows.",
        place="section 6, figure 6",
        printed="drawn only; from 0.18 % on",
        artefact="id3-figure6", statements=("repeat_falls",),
    ),
    Claim(
        id="id3-on-the-way",
        says=(
            "On its way, with fewer weights than the budget, a growing mask beats one chosen "
            "anew."
        ),
        place="section 6, figure 5",
        printed="drawn only",
        artefact="id3-figure5", statements=("increment_on_the_way_beats_repeat",),
    ),
    Claim(
        id="id3-series",
        says="The checkpoints on the way are useful models of growing budgets.",
        place="section 1, section 6, figure 5",
        printed="drawn only; the curve rises",
        artefact="id3-figure5", statements=("scores_rise_on_the_way",),
    ),
    Claim(
        id="id3-faster",
        says="Without needless updates ID3 converges faster and generalises better.",
        place="section 6",
        printed="no number",
        untestable=(
            "no measure of speed is named; the updates are counted in figure 6, test scores "
            "beside them"
        ),
    ),
)  # fmt: skip

PLACES = (
    Claim(
        id="id3-tensor-sparsity",
        says="Nearly all tensors are untouched at first, and fewer and fewer as training goes on.",
        place="section 6, figure 8",
        printed="drawn only; from nearly 1 down, as it must of a mask that grows",
        artefact="id3-figure8", statements=("untouched_at_first",),
    ),
    Claim(
        id="id3-tensor-repeat",
        says="Masks chosen anew leave fewer tensors untouched than growing ones.",
        place="section 6, figures 7 and 8",
        printed="drawn only",
        artefact="id3-figure8", statements=("repeat_touches_more_tensors",),
    ),
    Claim(
        id="id3-entropy",
        says="The entropy of the allocation over tensors grows at first and settles then.",
        place="section 6, figure 9",
        printed="drawn only",
        artefact="id3-figure8", statements=("entropy_grows_early", "entropy_settles"),
    ),
    Claim(
        id="id3-entropy-repeat",
        says="Masks chosen anew spread over tensors from the beginning.",
        place="section 6, figure 9",
        printed="drawn only",
        artefact="id3-figure8", statements=("repeat_spreads_from_the_start",),
    ),
    Claim(
        id="id3-allocation",
        says=(
            "The budget goes to few kinds of weights: feed-forward, value and output layers, not "
            "query and key."
        ),
        place="figure 7",
        printed="end of training: query and key below 1 % everywhere, feed-forward up to 5 %",
        artefact="id3-figure8", statements=("query_and_key_get_less",),
    ),
)  # fmt: skip

COST = (
    Claim(
        id="id3-biases",
        says="DeBERTa-v3-base has 103 thousand biases, so that BitFit has one budget only.",
        place="caption of table 1",
        printed="103K",
        untestable=(
            "nothing to judge: 12 x 8,448 in its layers and 1,536 beside them are 102,912, as "
            "printed"
        ),
    ),
    Claim(
        id="id3-storage",
        says="A sparse change takes 128 bits a weight: two 32-bit indices and a 64-bit value.",
        place="section 3.3",
        printed="2 x 32 + 64 bits",
        untestable=(
            "nothing to judge: it is a choice; a delta here takes 32 bits a weight and 64 with "
            "its place"
        ),
    ),
    Claim(
        id="id3-dense-updates",
        says="Selective training saves no time in practice, since libraries update densely.",
        place="section 7",
        printed="no number",
        untestable=(
            "of their toolkit; here the gradients are sparse, and `landscape bench step` has the "
            "ratios"
        ),
    ),
)  # fmt: skip

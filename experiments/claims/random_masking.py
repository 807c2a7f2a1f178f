"""The main claims of Xu & Zhang 2024 (Random Masking): accuracy, rates, mechanism.

Intervals of the paper's own numbers are 95 %, paired over tasks where two methods are compared.
"""

from __future__ import annotations

from experiments.claims.claim import Claim

HUGE = "the weights are not here, and training them takes a GPU of 40 GB; preset paper has the runs"

ACCURACY = (
    Claim(
        id="rm-matches-lora",
        says=(
            "Random masks with fewer weights than LoRA (ratio 1e-3, a tuned rate) lose nothing "
            "to LoRA."
        ),
        place="abstract, section 4.2, table 1",
        printed=(
            "average 62.06 / 70.88 / 75.83 against 62.04 / 70.81 / 75.86; over 33 cells +0.01 "
            "[-0.96, +0.99] points"
        ),
        artefact="table1", statements=("lora",),
    ),
    Claim(
        id="rm-matches-full",
        says="Random masks at ratio 1e-3 lose nothing to full fine-tuning.",
        place="section 4.2, table 1",
        printed=(
            "average 62.06 / 70.88 / 75.83 against 62.36 / 70.16 / 75.82; over 33 cells +0.14 "
            "[-0.39, +0.66] points"
        ),
        artefact="table1", statements=("full",),
    ),
    Claim(
        id="rm-tenth",
        says="A tenth of that, ratio 1e-4, still loses nothing to LoRA.",
        place="section 4.2, table 1",
        printed=(
            "average 60.59 / 70.34 / 76.06; over 33 cells -0.58 [-1.58, +0.43] points against "
            "LoRA"
        ),
        artefact="table1", statements=("tenth",),
    ),
    Claim(
        id="rm-non-trivial",
        says=(
            "With 0.001 % of the weights a model still learns: accuracy is above the pretrained "
            "model's."
        ),
        place="introduction, table 1",
        printed="OPT-125m on SST-2 84.7; average 57.03 / 66.68 / 75.15",
        artefact="table1", statements=("learns",),
    ),
    Claim(
        id="rm-hundredfold",
        says="0.001 % is about a hundredth of what LoRA of rank 8 trains.",
        place="introduction",
        printed="LoRA trains 0.235 / 0.120 / 0.051 %: 235, 120 and 51 times as many",
        artefact="table1", statements=("hundredth",),
    ),
    Claim(
        id="rm-among-baselines",
        says=(
            "Masks are competitive with adapters, AdaLoRA, prefixes and BitFit, with fewer "
            "weights."
        ),
        place="figure 1, table 5",
        printed=(
            "OPT-1.3b: masks of 1e-3 and 1e-4 70.88 and 70.34; adapters 70.79, AdaLoRA 69.91, "
            "prefixes 70.06, BitFit 70.69"
        ),
        artefact="figure1", statements=("among", "fewer"),
    ),
    Claim(
        id="rm-larger-models",
        says="Larger models tolerate sparser masks: from 1e-3 to 1e-5 they lose less.",
        place="section 4.2, table 1",
        printed=(
            "loss 5.04 [+0.97, +9.10], 4.19 [+0.96, +7.42] and 0.67 [-0.16, +1.51] points for "
            "125m, 1.3b, 13b"
        ),
        artefact="sizes", statements=("larger",),
    ),
    Claim(
        id="rm-two-per-cent",
        says="OPT-13b with 0.001 % stays within two points of itself with 0.1 %.",
        place="section 4.2",
        printed="75.15 against 75.83 in the average; MultiRC loses 2.6, SQuAD 2.1",
        untestable=HUGE,
    ),
)  # fmt: skip

RATES = (
    Claim(
        id="rm-rate-grows",
        says="Sparser masks need larger learning rates: the best one grows as the ratio falls.",
        place="abstract, section 4.2, figures 3 and 6 to 8, table 6",
        printed=(
            "exponent of the best rate in the ratio -0.85 [-0.94, -0.75] over 33 cells; without "
            "WSC, on which nothing is learned, -0.91 [-0.98, -0.85]"
        ),
        artefact="table6", statements=("grows", "grows_by_seed"),
    ),
    Claim(
        id="rm-aggressive",
        says="The best rate of the sparsest masks is as high as 0.1 for most models and tasks.",
        place="abstract, section 4.2, table 6",
        printed="1e-1 in 20 of 33 cells at 0.001 %; it is also the largest rate tried",
        artefact="table6", statements=("aggressive",),
    ),
    Claim(
        id="rm-baselines-diverge",
        says="Such rates make full fine-tuning and LoRA diverge or lose accuracy.",
        place="section 4.2, table 7",
        printed="no number; table 7's best rates of FT are at most 1e-5 but for WSC",
        artefact="table6", statements=("baselines",),
    ),
    Claim(
        id="rm-steady",
        says="With its own best rate every ratio keeps its accuracy on SST-2.",
        place="figure 3, table 5",
        printed="OPT-125m: 87.3 at 10 % to 84.7 at 0.001 %",
        artefact="table1", statements=("steady",),
    ),
    Claim(
        id="rm-small-rates-fail",
        says="The rates of full fine-tuning and LoRA do not work for sparse masks.",
        place="section 4.3, figure 3",
        printed="drawn only",
        artefact="figure3", statements=("small_rates",),
    ),
)  # fmt: skip

MECHANISM = (
    Claim(
        id="rm-flat-before",
        says="The Hessian's norm falls with the ratio before training.",
        place="section 4.3, figures 4a and 9",
        printed="drawn only; the linear theory has exponent 1",
        artefact="figure4a", statements=("before",),
    ),
    Claim(
        id="rm-flat-after",
        says="The Hessian's norm falls with the ratio after training.",
        place="section 4.3, figures 4a and 9",
        printed="drawn only",
        artefact="figure4a", statements=("after",),
    ),
    Claim(
        id="rm-nearly-linear",
        says="A small Hessian norm makes the loss inside a mask almost linear.",
        place="section 4.3",
        printed="no number",
        untestable=(
            "said in passing, without a number or a measure; the artefact linear compares the "
            "Hessian with the linear model's"
        ),
    ),
    Claim(
        id="rm-longer",
        says="At rates too small for a mask, accuracy grows with every longer training.",
        place="section 4.3, figures 4b and 10",
        printed="drawn only; monotone",
        artefact="figure4b", statements=("longer",),
    ),
    Claim(
        id="rm-catches-up",
        says="Trained for longer, rates that are too small for a mask catch up.",
        place="section 4.3, figures 4b and 10",
        printed="drawn only",
        artefact="figure4b", statements=("catches_up",),
    ),
    Claim(
        id="rm-optimisation",
        says=(
            "Small rates fail by optimisation: the training loss is still high, and falls with "
            "longer training."
        ),
        place="section 4.3",
        printed="no number",
        artefact="figure4b", statements=("optimisation",),
    ),
    Claim(
        id="rm-distance",
        says="Sparser masks end further from the pretrained weights.",
        place="section 4.3, figures 4c and 11",
        printed="drawn only; the linear theory has exponent -1/2",
        artefact="figure4c", statements=("distance",),
    ),
    Claim(
        id="rm-distance-landscape",
        says=(
            "That distance tells of the landscape: it is more than rate times steps times the root "
            "of the weights' number."
        ),
        place="section 4.3",
        printed="not considered",
        artefact="figure4c", statements=("arithmetic",),
    ),
)  # fmt: skip

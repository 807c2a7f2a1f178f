"""The claims of Xu & Zhang 2024's ablations: images, data sizes, other models, structure.

Intervals of the paper's own numbers are 95 %, paired over tasks where two methods are compared.
"""

from __future__ import annotations

from experiments.claims.claim import Claim
from experiments.claims.random_masking import HUGE

ABLATIONS = (
    Claim(
        id="rm-vision",
        says="Masks on the MLP layers of an image encoder come close to full fine-tuning.",
        place="section 4.4, table 2",
        printed=(
            "CLIP ViT-B/16: MNIST 99.7 / 99.6 / 99.3 at 1e-2, 1e-3, 1e-4 against 99.8; RESISC45 "
            "96.5 / 95.8 / 93.3 against 96.7"
        ),
        artefact="table2", statements=("full",),
    ),
    Claim(
        id="rm-vision-rates",
        says="Sparser masks need larger rates on images too.",
        place="section 4.4, table 2",
        printed="1e-3, 1e-2, 1e-1 at 1e-2, 1e-3, 1e-4 on four of five sets: exponent -1",
        artefact="table2", statements=("rates",),
    ),
    Claim(
        id="rm-data-size",
        says="Masks of 0.1 % lose nothing to LoRA where there are more training examples.",
        place="section 4.4, table 3",
        printed=(
            "full split, OPT-125m on SST-2: FT 91.7, LoRA 91.3, masks 91.6 / 90.4 / 87.8 at "
            "1e-3, 1e-4, 1e-5"
        ),
        artefact="table3", statements=("lora",),
    ),
    Claim(
        id="rm-full-gains",
        says="Full fine-tuning gains more than masks from a larger training set.",
        place="section 4.4, table 3",
        printed="OPT-1.3b on MultiRC: FT 81.2 (67.6 with 1000 examples), masks of 1e-3 80.1 (68.3)",
        artefact="table3", statements=("full_gains",),
    ),
    Claim(
        id="rm-count-matters",
        says="How many weights are trained matters more with the full training set.",
        place="section 4.4, table 3",
        printed="OPT-1.3b on MultiRC: 80.1, 74.5, 72.2 at 1e-3, 1e-4, 1e-5",
        artefact="table3", statements=("count",),
    ),
    Claim(
        id="rm-llama",
        says="Masks, of 0.1 % and of 0.001 %, work as well on Llama-2-7b.",
        place="section 4.4, table 4",
        printed="SST-2 95.5 at 0.001 % against FT 94.7; RTE 83.0 against 85.9",
        artefact="table4", statements=("lora", "sparsest"),
    ),
    Claim(
        id="rm-llama-finer",
        says="Llama-2 needs a finer search for the rate than OPT.",
        place="section 4.4",
        printed="no comparison of finer and coarser grids is printed",
        untestable=HUGE,
    ),
    Claim(
        id="rm-structured-worse",
        says="Whole columns are worse than random weights of the same number.",
        place="section 4.4, figure 5, tables 5 and 8",
        printed=(
            "random minus structured, mean of nine ratios: +1.32 [+0.44, +2.20] points over 33 "
            "cells; structured is better at 5 % in all three models"
        ),
        artefact="figure5", statements=("order",),
    ),
    Claim(
        id="rm-structured-decays",
        says="Structured masks lose accuracy faster as the ratio falls.",
        place="section 4.4, figure 5",
        printed=(
            "the margin grows from 10 % to 0.001 % by +0.99 [-0.12, +2.10] points over 33 cells: "
            "undecided by the paper's own numbers"
        ),
        artefact="figure5", statements=("decay",),
    ),
    Claim(
        id="rm-structured-rates",
        says="Structured masks, too, need larger rates where they are sparser.",
        place="appendix B.3, table 9",
        printed="exponent -0.76 [-0.83, -0.69] over 33 cells; without WSC -0.80 [-0.84, -0.76]",
        artefact="figure5", statements=("rates",),
    ),
    Claim(
        id="rm-low-data",
        says="With few examples, training fewer weights beats full fine-tuning.",
        place="introduction, table 1",
        printed=(
            "masks of 1e-3 minus FT: -0.30, +0.71, +0.01 in the average; no interval excludes 0"
        ),
        artefact="table1", statements=("low_data",),
    ),
)  # fmt: skip

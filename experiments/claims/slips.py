"""Slips of both papers, where what is printed contradicts the paper itself or arithmetic.

They are listed for readers who compute from the printed text; no result rests on most of them.
"""

from __future__ import annotations

from experiments.claims.claim import Claim

SLIPS = (
    Claim(
        id="rm-slip-theorem",
        says="The second term of theorem 5.1 shrinks as d, n and r grow.",
        place="theorem 5.1 and its proof",
        printed="sqrt(2 log(1/delta) / (d n^2 r^4)), in both",
        misprint=(
            "it is upside down: the tail exp(-t^2 / (2 d n^2 r^4)) of the same proof gives "
            "sqrt(2 d n^2 r^4 log(1/delta))"
        ),
    ),
    Claim(
        id="rm-slip-exponent",
        says="The diverging iterate of proposition 5.2's proof has the power t + 1.",
        place="appendix A.1",
        printed="t + 1",
        misprint="t, by the closed form above it; nothing follows from it",
    ),
    Claim(
        id="rm-slip-figure",
        says="Figure 4b shows the distances.",
        place="section 4.3",
        printed="figure 4(b)",
        misprint="figure 4c; 4b shows longer training",
    ),
    Claim(
        id="rm-slip-bernoulli",
        says="The mask's entries are drawn from Binom(p).",
        place="section 5.1",
        printed="Binom(p)",
        misprint="Bernoulli(p), as section 3 says",
    ),
    Claim(
        id="rm-slip-bitfit",
        says="BitFit trains 0.066 % of OPT-125m, all its biases.",
        place="table 5, appendix B.1",
        printed="0.066 / 0.034 / 0.014 %",
        misprint=(
            "the number counts the biases of linear layers alone, 82,944; with those of the "
            "layer norms, which are vectors of biases too, it is 0.082 %"
        ),
    ),
    Claim(
        id="rm-slip-vision-lora",
        says="LoRA of rank 8 on the MLP layers of CLIP ViT-B/16 is 0.3 %.",
        place="table 2",
        printed="0.3 %",
        misprint=(
            "both matrices of twelve layers are 737,280 numbers: 0.49 % of CLIP, 0.86 % of its "
            "image encoder"
        ),
    ),
    Claim(
        id="rm-slip-wsc",
        says="WSC's scores tell the methods apart.",
        place="tables 5 and 8, WSC",
        printed="63.5 in 40 of 72 cells",
        misprint=(
            "63.5 is the share of the larger class: nothing was learned, and table 6's rates for "
            "it mean nothing"
        ),
    ),
    Claim(
        id="id3-over-one-per-cent",
        says="At 320K ID3 is more than one point better than the best baseline.",
        place="section 5.1",
        printed=(
            "89.15 against 88.07 as printed; the rows' own means are 89.24 and 88.62, +0.62 "
            "[+0.01, +1.23]"
        ),
        misprint=(
            "the printed averages of seven rows are below the means of their rows; the margin of "
            "the means is 0.62"
        ),
    ),
    Claim(
        id="id3-math-lora",
        says="With 94 % sparsity ID3 is half a point better than LoRA on arithmetic.",
        place="section 1",
        printed=(
            "58.6 against 58.1, which is LoRA of rank 2; the LoRA that is made sparse, of rank "
            "32, has 59.5"
        ),
        misprint=(
            "true of a LoRA of rank 2; the dense one of rank 32 is 0.9 and 0.4 points better "
            "than its two sparse ones"
        ),
    ),
    Claim(
        id="id3-exp-used",
        says="The runs use the exponent that the ablation recommends.",
        place="section 5.1 against table 7a",
        printed="-1 in the text, 2 and 0 in the table",
        misprint="text and table contradict each other; theorem 1 needs an exponent of at least 0",
    ),
    Claim(
        id="id3-201m",
        says=(
            "LoRA of rank 32 on Llama-7b has 201M weights, Pfeiffer's adapter on RoBERTa-base as "
            "well."
        ),
        place="tables 3 and 5",
        printed="201M both times",
        misprint=(
            "rank 32 on the five kinds of layers of table 7a is 56.1M, of which 3.5M are 6 %, "
            "the 94 % sparsity of the text; RoBERTa-base itself has 125M"
        ),
    ),
    Claim(
        id="id3-fish-deviation",
        says="Fisher masks at 320K scatter by 0.14 on named entities.",
        place="section 5.2 against table 4",
        printed="0.14 in the text, 0.12 in the table",
        misprint="one of the two",
    ),
)  # fmt: skip

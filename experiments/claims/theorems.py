"""The theorems of both papers, each judged by a claim of `theory`, and those that mend them."""

from __future__ import annotations

from experiments.claims.claim import Claim

THEOREMS = (
    Claim(
        id="rm-thm-5.1",
        says=(
            "Every eigenvalue of the masked Gram matrix is near p times the unmasked one, within "
            "the printed bound."
        ),
        place="theorem 5.1",
        printed="2 sqrt(2 d n^3 r^4) + sqrt(2 log(1/delta) / (d n^2 r^4))",
        theory="thm-5.1-printed",
    ),
    Claim(
        id="rm-thm-5.1-every-n",
        says="If not for one sample, theorem 5.1 is true as printed for some number of samples.",
        place="theorem 5.1",
        printed="the same bound, for every n",
        theory="thm-5.1-every-n",
    ),
    Claim(
        id="rm-thm-5.1-corrected",
        says="The same with the second term the right way up.",
        place="theorem 5.1, last line of its proof",
        printed="sqrt(2 d n^2 r^4 log(1/delta)) follows from the proof's tail bound",
        theory="thm-5.1-corrected",
    ),
    Claim(
        id="rm-sharp",
        says="The bound gives a sharp concentration where features are many more than examples.",
        place="section 5.2",
        printed="a sum of eigenvalues of order d against a deviation of order sqrt(d)",
        theory="thm-5.1-trace",
    ),
    Claim(
        id="rm-trace",
        says="The eigenvalues sum to p times the squared norm of the features, on average.",
        place="section 5.2",
        printed="an identity",
        theory="trace-identity",
    ),
    Claim(
        id="rm-lemma-a.1",
        says="The quadratic form of the deviation is sub-Gaussian with the printed constant.",
        place="lemma A.1",
        printed="exp(d n^2 r^4 |u|^4 t^2 / 8)",
        theory="lemma-a.1",
    ),
    Claim(
        id="rm-net",
        says="A net of 17^n directions gives a symmetric matrix's norm up to a factor of two.",
        place="appendix A.3",
        printed="17^n",
        theory="net-lemma",
    ),
    Claim(
        id="rm-eq-3",
        says="Gradient descent has the printed closed form.",
        place="appendix A.1, equation 3",
        printed="a closed form",
        theory="eq-3",
    ),
    Claim(
        id="rm-prop-5.2",
        says="Gradient descent converges from everywhere exactly below 2n / lambda_1.",
        place="proposition 5.2",
        printed="2n / lambda_1",
        theory="prop-5.2",
    ),
    Claim(
        id="rm-prop-5.2-norm",
        says="Below that rate the powers of the iteration's matrix have a norm below 1.",
        place="appendix A.1",
        printed="norm((I - eta/n M X'X M)^(t+1)) < 1",
        theory="prop-5.2-norm",
    ),
    Claim(
        id="rm-prop-5.2-limit",
        says="Below that rate gradient descent ends at (XM)^+ y wherever it starts.",
        place="appendix A.1",
        printed="(XM)^+ y; right from w_0 = 0, where the paper starts",
        theory="prop-5.2-limit",
    ),
    Claim(
        id="rm-prop-5.3",
        says=(
            "The solution's squared distance is at least the noise's share, the sum of sigma^2 / "
            "lambda_i."
        ),
        place="proposition 5.3",
        printed="a lower bound",
        theory="prop-5.3",
    ),
    Claim(
        id="rm-distance-grows",
        says="So the distance grows as the ratio falls.",
        place="section 5.3",
        printed="no rate, and no condition on p d against n",
        theory="sparser-is-farther",
    ),
    Claim(
        id="id3-half",
        says="Growing a mask step by step takes half the updates of a mask that stays.",
        place="section 3.2",
        printed="B (T + 1) / 2 against T B",
        theory="id3-updates",
    ),
    Claim(
        id="id3-half-literal",
        says="So it does by algorithm 1 and equation 3, index by index.",
        place="algorithm 1 and equation 3",
        printed="Lambda_(t+1) in the one, Lambda_t in the other",
        theory="id3-literal",
    ),
    Claim(
        id="id3-half-sums",
        says="The two printed sums count the updates.",
        place="section 3.2",
        printed="sum of B over t = 0 .. T, and sum of u_t over i <= t",
        theory="id3-sums",
    ),
    Claim(
        id="id3-half-work",
        says="Half as many updates is less work.",
        place="abstract and section 3.2",
        printed="a factor of two, enhancing efficiency; not fully leveraged, under limitations",
        theory="id3-work",
    ),
    Claim(
        id="id3-sign",
        says="A step along the gradient lowers the loss.",
        place="algorithm 1",
        printed="theta + eta grad; a misprint, a descent subtracts",
        theory="id3-sign",
    ),
    Claim(
        id="id3-thm-1",
        says="The root of the Fisher information bounds the expected score.",
        place="theorem 1",
        printed="for eps of at least 1; no condition on the exponent, in [-inf, inf]",
        theory="id3-thm-1",
    ),
    Claim(
        id="id3-thm-1-corrected",
        says="The same for exponents of at least 0.",
        place="theorem 1",
        printed="its proof needs (|theta| + eps)^exp of at least 1",
        theory="id3-thm-1-corrected",
    ),
    Claim(
        id="id3-importance",
        says="So the parameters of the highest scores have the highest Fisher information.",
        place="section 3.1, after theorem 1",
        printed="no number",
        theory="id3-importance",
    ),
)  # fmt: skip

BEYOND = (
    Claim(
        id="th-useful",
        says="Theorem 5.1's bound exceeds p lambda_1 itself at every p below some 2 sqrt(2n / d).",
        place="ours, about theorem 5.1",
        printed="not in the paper",
        theory="thm-5.1-usefulness",
    ),
    Claim(
        id="th-needed-d",
        says=(
            "For uniform features it is below p lambda_1 only with more than about 128 n / p^2 "
            "features."
        ),
        place="ours, about section 5.2",
        printed="not in the paper",
        theory="thm-5.1-needed-d",
    ),
    Claim(
        id="th-distance-grows",
        says="The mean square distance is at least sigma^2 (E rank)^2 / (p norm(X)^2).",
        place="ours, beside proposition 5.3",
        printed="not in the paper; 1/sqrt(p) follows where masks keep the rank",
        theory="cor-distance",
    ),
    Claim(
        id="th-bernstein",
        says="Matrix Bernstein bounds the deviation of the masked Gram matrix, and shrinks with p.",
        place="ours, beside theorem 5.1",
        printed="Tropp 2015, theorem 6.1.1",
        theory="bernstein",
    ),
    Claim(
        id="th-chernoff",
        says="Matrix Chernoff puts the extreme eigenvalues within factors of p times the unmasked.",
        place="ours, beside theorem 5.1",
        printed="Tropp 2015, theorem 5.1.1",
        theory="chernoff",
    ),
    Claim(
        id="th-distance-law",
        says="The expected squared distance is within known factors of its value at p = 1, over p.",
        place="ours, beside proposition 5.3",
        printed="not in the paper",
        theory="distance-law",
    ),
    Claim(
        id="th-finite-time",
        says="Loss and distance after t steps are sums over (1 - eta lambda_i / n)^t.",
        place="ours, beside figure 4b",
        printed="not in the paper, which shows it on a network",
        theory="finite-time",
    ),
    Claim(
        id="th-momentum",
        says="Heavy ball is stable exactly below 2 (1 + beta) n / lambda_1.",
        place="ours, beside proposition 5.2",
        printed="not in the paper",
        theory="momentum",
    ),
    Claim(
        id="th-adam",
        says=(
            "Adam with a settled preconditioner P is stable exactly where the Hessian's sharpness "
            "in P's metric is below (2 + 2 beta1) / ((1 - beta1) eta)."
        ),
        place="ours, beside proposition 5.2",
        printed="Cohen et al. 2022; the papers explain AdamW's runs by gradient descent",
        theory="adam",
    ),
    Claim(
        id="th-sharp-constants",
        says="With a sharp net theorem 5.1 has a first term about 2.4 times smaller.",
        place="ours, beside theorem 5.1",
        printed="not in the paper",
        theory="thm-5.1-sharp",
    ),
    Claim(
        id="th-sub-gaussian",
        says="No sub-Gaussian proof of theorem 5.1 shrinks faster with p than 1 / sqrt(log(1/p)).",
        place="ours, beside lemma A.1",
        printed="Kearns and Saul 1998",
        theory="sub-gaussian",
    ),
    Claim(
        id="th-heavy-light",
        says="Given the mask on heavy features, the light ones stay within a Bernstein bound.",
        place="ours, beside theorem 5.1",
        printed="not in the paper",
        theory="heavy-light",
    ),
    Claim(
        id="th-top-below",
        says="The largest masked eigenvalue is bounded below along the top direction.",
        place="ours, beside theorem 5.1",
        printed="not in the paper",
        theory="top-below",
    ),
    Claim(
        id="th-step-gaussian",
        says="For Gaussian features the largest stable step lies between two known ends.",
        place="ours, beside proposition 5.2",
        printed="Davidson and Szarek 2001",
        theory="step-gaussian",
    ),
    Claim(
        id="th-step-isotropic",
        says="For isotropic features it is about 2n / (s^2 (sqrt(pd) + sqrt(n))^2).",
        place="ours, beside proposition 5.2",
        printed="Marchenko and Pastur 1967",
        theory="step-isotropic",
    ),
    Claim(
        id="th-sign-descent",
        says="The best rate of a masked sign step is like 1/p above a known p and flat below it.",
        place="ours, beside figure 3",
        printed="not in the paper, which tunes AdamW's rate",
        theory="sign-descent",
    ),
    Claim(
        id="th-sign-rate",
        says="The best sign step of a single mask is within a known interval of that rate.",
        place="ours, beside figure 3",
        printed="not in the paper",
        theory="sign-rate",
    ),
    Claim(
        id="th-adam-first-step",
        says="At its first preconditioner Adam is stable only below 38 best sign steps.",
        place="ours, beside proposition 5.2",
        printed="not in the paper",
        theory="adam-first-step",
    ),
    Claim(
        id="th-nested-masks",
        says="A mask that contains another is at least as sharp, and no farther where that fits.",
        place="ours, beside section 5 and paper 2",
        printed="not in the papers",
        theory="nested-masks",
    ),
    Claim(
        id="th-sgd",
        says="SGD is stable in mean square below a step between known ends.",
        place="ours, beside proposition 5.2",
        printed="Ma, Bassily and Belkin 2018",
        theory="sgd",
    ),
    Claim(
        id="th-sgd-rate",
        says="With single examples the lower end is within known factors of 2/(p max norm(x)^2).",
        place="ours, beside proposition 5.2",
        printed="not in the paper",
        theory="sgd-rate",
    ),
    Claim(
        id="th-distance-haar",
        says="With random singular vectors the squared distance has an exact mean.",
        place="ours, beside proposition 5.3",
        printed="not in the paper",
        theory="distance-haar",
    ),
    Claim(
        id="th-distance-leverage",
        says="The distance's 1/p becomes a weight for each column, from a fixed point.",
        place="ours, beside proposition 5.3",
        printed="not in the paper",
        theory="distance-leverage",
    ),
)  # fmt: skip

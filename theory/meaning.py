"""What each claim means to whoever trains with a sparse mask, in a sentence or two.

``python -m theory explain ID`` prints it. All of it is about masked linear regression; a network is
close to one near its start (NOTES.md, last section): there these are expectations, no guarantees.
"""

from __future__ import annotations

MEANING = {
    "thm-5.1-printed": "Do not compute with the printed formula. Its message, that a masked "
    "eigenvalue is near p times the full one, is carried by the corrected bound and by bernstein.",
    "thm-5.1-every-n": "More samples do not repair the printed formula.",
    "thm-5.1-corrected": "Safe, and too wide to choose a learning rate by: it does not shrink with "
    "p. Use bernstein, or heavy-light once the mask is known.",
    "thm-5.1-usefulness": "Below a ratio that falls with the number of weights (a few in a "
    "hundred at n = 32, d = 1e5) the bound says nothing, not even that a sparser mask is flatter. "
    "That it is comes from other claims.",
    "thm-5.1-sharp": "A sharper net makes it a few times tighter, and leaves it blind to p.",
    "thm-5.1-trace": "A known total sharpness does not make single directions known: the flat ones "
    "may be anything.",
    "thm-5.1-needed-d": "At ratios around one in a thousand the bound says something of the "
    "sharpest direction for models of some billion weights, and of any other for none.",
    "sub-gaussian": "Looking for sharper constants is in vain; a bound that is useful at small p "
    "must look at the variance, as Bernstein's does.",
    "bernstein": "How far the sharpness of nearly every mask is from p times the full one at most, "
    "known before a mask is drawn. With a few heavy features too wide: see heavy-light.",
    "chernoff": "Without heavy columns (squared norms far below p lambda_1) the largest stable "
    "step is known up to factors before a mask is drawn: about 1/p times the dense one where "
    "masks keep many more features than there are samples. Otherwise see heavy-light.",
    "heavy-light": "Where a few features carry most, look at what the drawn mask does to the few "
    "hundred heaviest: they certify the sharpness of all of it, and so the largest stable step.",
    "top-below": "Where many features carry the sharpest direction, hardly any mask is much "
    "flatter than expected: a rate far above the law in 1/p diverges.",
    "step-gaussian": "Without a dominating direction the stable step stops growing once masks keep "
    "fewer features than there are samples: expect 1/p above, a constant below.",
    "step-isotropic": "Without a dominating direction or heavy columns the law in 1/p promises too "
    "large a step by about (1 + sqrt(n/(p d)))^2: correct by that at a small ratio.",
    "lemma-a.1": "A brick of the proofs: how surely one direction's curvature is near p times the "
    "full one.",
    "net-lemma": "A brick of the proofs: finitely many directions tell all of the sharpness, and "
    "with a smaller loss than is printed.",
    "trace-identity": "On average over masks the total curvature is p times the full one, exactly, "
    "and how much it varies is known.",
    "eq-3": "All of a run is known from the mask's spectrum and the parts of the targets and the "
    "start along its eigenvectors: no rate need be tried.",
    "prop-5.2": "Measure the sharpness of the masked loss; 2 over it is the largest rate that "
    "gradient descent stands.",
    "prop-5.2-norm": "Weights that the data do not see never move. Convergence is not towards one "
    "point for all starts.",
    "prop-5.2-limit": "The solution that is found remembers its start; from zero change, where "
    "masked fine-tuning starts, it is the smallest one.",
    "finite-time": "At a fixed rate p is a clock: a mask that is twice as sparse needs twice the "
    "steps, or twice the rate.",
    "momentum": "Heavy ball at 0.9 stands nearly twice the rate of gradient descent, whatever p.",
    "adam": "A settled Adam is unstable above 38 over the preconditioned sharpness; measure that, "
    "not the plain sharpness.",
    "sign-descent": "Raise AdamW's rate like 1/p as the mask gets sparser, and stop at the "
    "crossover: below it no higher first rate helps. One product and one trace tell where.",
    "sign-rate": "The best first rate of one mask is known within an interval from sums over all "
    "weights, before the mask is drawn.",
    "adam-first-step": "At its first preconditioner Adam is never stable above 38 of the mask's "
    "best first steps. How far below that it is stable this does not say.",
    "nested-masks": "Adding weights never flattens, and brings the solution of what could be "
    "fitted nearer. Choose the rate of a growing mask for its end, not for its start.",
    "sgd": "At batch size one the longest example, not the sharpness, tells a safe rate; it may be "
    "half of the largest.",
    "sgd-rate": "At batch size one the safe rate follows 1/p further down than that of gradient "
    "descent, as every example's length averages over features; heavy tails end it.",
    "prop-5.3": "The distance has two causes: noise that is fitted, largest along flat directions, "
    "and the truth that kept weights must imitate. Only the first is bounded in print.",
    "cor-distance": "As long as masks can fit the data, a sparser one moves further, at least like "
    "1/sqrt(p).",
    "sparser-is-farther": "Below about as many kept weights as samples a sparser mask moves less, "
    "because it no longer fits: a small distance is no sign of a good mask.",
    "distance-law": "Expect 1/sqrt(p) in the distance while masks keep many more features than "
    "there are samples and none is irreplaceable.",
    "distance-haar": "Nearer to as many features as samples count spare ones: the distance grows "
    "like 1/sqrt(q), q the share of spare features that is kept, and diverges where none is.",
    "distance-leverage": "With heavy features the typical distance follows from a weight for each "
    "column; the law in 1/p may be off by several times.",
    "id3-thm-1": "The justification fails at exp = -1, the value that the paper finds best: there "
    "the score is a heuristic.",
    "id3-thm-1-corrected": "With exp at least 0 and eps at least 1 the mean score is at most the "
    "root of the information. Of the order of the weights that says nothing.",
    "id3-importance": "A large score does not promise a large information: compare selections by "
    "their accuracy, not by this argument.",
    "id3-updates": "A mask that grows evenly makes half the updates of one chosen at once.",
    "id3-literal": "In code, update with the selection that includes this step's new weights.",
    "id3-sums": "Count updates with the sums as they are meant; for an even schedule it makes no "
    "difference.",
    "id3-sign": "In code, subtract the gradient.",
    "id3-work": "Do not expect a shorter run from half the updates: the scores need the dense "
    "gradient in each step.",
}  # fmt: skip

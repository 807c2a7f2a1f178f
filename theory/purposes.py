"""What the random numbers of one seed are for: a stream of its own for each purpose.

``seeds.numbered(seed, purposes.NOISE)`` is numpy's default generator for the pair, so that drawing
more masks changes no target, and one claim's draws no other's. The features have a stream for each
block of columns instead, ``seeds.numbered(seed, first column, *name)``. A number is never given to
another purpose: results of earlier versions could not be made again.
"""

TRUTH = 1  # w*, entries N(0, 1/d), of the problem's own seed
NOISE = 2  # the noise in y, of the problem's own seed
MASKS = 3  # the masks of a Monte Carlo claim, in order: fewer are the first of more
MASK = 4  # the one mask of a claim about gradient descent or the distance
START = 5  # w_0 of the closed form (eq-3)
NOISE_DRAWS = 6  # draws of y given a mask (prop-5.3)
DIRECTIONS = 7  # random directions u (lemma-a.1)
MATRICES = 8  # random matrices Q, one stream a dimension (net-lemma)
FEATURES = 9  # the features that are trained (id3-updates)
FIGURE_MASKS = 10  # the masks of a figure, at each p
FIGURE_NOISE = 11  # the noise of a figure's measured solutions
CHAINS = 12  # which features stay in nested masks (finite-time)
FRAMES = 13  # random orthonormal frames and their Wishart matrices (distance-haar)
WISHART = 14  # Gaussian matrices drawn afresh (step-gaussian, step-isotropic)

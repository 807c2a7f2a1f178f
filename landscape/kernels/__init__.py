"""Products with a k-sparse matrix, and gradients of its k values, differentiable to any order.

A :class:`Coordinates` names the entries (r_j, c_j), j < k, of a sparse S with shape (rows, cols).
Three bilinear maps, each with the others as its derivatives, are all that masked layers need:

    masked_matmul   x, theta -> x @ (W + S(theta))^T          (or without the transpose)
    sampled_values  a, b     -> sum_t a[t, r_j] b[t, c_j]      shape (k,)
    spmm_values     v, x     -> x @ S(v)^T                     (or without the transpose)

The second has several kernels, a record each (`landscape.kernels.kernel`); cost models choose.
"""

from landscape.kernels.choice import choose_kernel
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel
from landscape.kernels.products import masked_matmul, sparse_product
from landscape.kernels.values import sampled_values, spmm_values

__all__ = [
    "Coordinates",
    "Kernel",
    "choose_kernel",
    "masked_matmul",
    "sampled_values",
    "sparse_product",
    "spmm_values",
]

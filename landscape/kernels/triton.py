"""The sampled product as a Triton kernel: one program a block of entries, no temporaries.

Triton is optional and imported with this module, which `landscape.kernels.gpu` does late. It
needs a GPU; with TRITON_INTERPRET=1 set before, its interpreter runs the kernel on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from landscape.kernels.coordinates import Coordinates

#: Entries and tokens of one block.
ENTRIES, TOKENS = 64, 32


def values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), in at least float32.

    Args:
        a, b: shapes (tokens, rows) and (tokens, cols), any strides, any floating type.
        at: the k positions.

    Cost: reads 2 k tokens numbers, writes k.
    """
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    out = torch.empty(at.count, dtype=wide, device=a.device)
    sizes = (at.count, a.shape[0], *a.stride(), *b.stride())
    _sum_products[(triton.cdiv(at.count, ENTRIES),)](
        a, b, at.rows, at.cols, out, *sizes, ENTRIES=ENTRIES, TOKENS=TOKENS
    )
    return out


# without annotations: Triton reads them as globals. Sizes and strides make no kernels of their own:
# the tokens of a batch change with every step, and each compilation takes half a second
@triton.jit(do_not_specialize=["k", "tokens", "a_token", "a_row", "b_token", "b_col"])  # type: ignore[untyped-decorator]
def _sum_products(  # type: ignore[no-untyped-def]
    a, b, rows, cols, out, k, tokens, a_token, a_row, b_token, b_col,
    ENTRIES: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    entry = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    inside = entry < k
    # offsets in int64: tokens * rows may exceed 2^31
    row = tl.load(rows + entry, mask=inside, other=0).to(tl.int64)[None, :]
    col = tl.load(cols + entry, mask=inside, other=0).to(tl.int64)[None, :]
    total = tl.zeros((ENTRIES,), dtype=out.dtype.element_ty)
    for start in range(0, tokens, TOKENS):
        token = (start + tl.arange(0, TOKENS)).to(tl.int64)[:, None]
        real = inside[None, :] & (token < tokens)
        left = tl.load(a + token * a_token + row * a_row, mask=real, other=0.0).to(total.dtype)
        right = tl.load(b + token * b_token + col * b_col, mask=real, other=0.0).to(total.dtype)
        total += tl.sum(left * right, axis=0)
    tl.store(out + entry, total, mask=inside)

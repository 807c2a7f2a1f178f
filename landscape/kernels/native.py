"""The sampled and the scattered product in C, where this machine has a C compiler.

``native.c`` is compiled for this machine's CPU when a mask first needs it, in about a second, once
for float and once for double, and kept in the user's cache folder. It runs on as many threads as
torch. Where there is no compiler, no cache folder that can be written, or no CPU (a GPU's tensors),
torch's own operations do the same, more slowly, and nothing is said.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.errors import UserError
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Scatter, Work
from landscape.sources.cache import cache_folder

SOURCE = Path(__file__).with_suffix(".c")
#: torch's dtypes that the kernels compute in, and C's name of them
DTYPES = {torch.float32: "float", torch.float64: "double"}
#: Rows and columns together, above which a thread's blocks would take more than 32 MiB.
LARGEST = 1 << 17
#: Below (rows + cols) / FEW entries, to transpose the operands costs more than it saves.
FEW = 12
#: Least work, in multiplications and transposed numbers, that is worth one more thread.
SMALLEST_SHARE = 1 << 17
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", f"-DFEW={FEW}")
_LOG = logging.getLogger(__name__)

# as operations of torch's own dispatcher they are looped over under vmap
_OPERATIONS = torch.library.Library("landscape", "FRAGMENT")
_OPERATIONS.define("sampled(Tensor a, Tensor b, Tensor flat, Tensor row_offsets) -> Tensor")
_OPERATIONS.define(
    "scattered(Tensor v, Tensor x, Tensor flat, Tensor row_offsets, int n, bool into_rows) "
    "-> Tensor"
)


def is_usable(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether such a matrix can be multiplied in C here; never raises.

    Cost: the first call for a dtype may compile, about a second.
    """
    scalar = DTYPES.get(dtype, "float")  # half types are widened before
    return device.type == "cpu" and sum(shape) <= LARGEST and _is_loaded(scalar)


def is_worth_transposing(k: int, rows: int, cols: int) -> bool:
    """Tell whether k entries are enough for the operands to be transposed first."""
    return k * FEW >= rows + cols


def sampled(
    a: Float[Tensor, "tokens rows"], b: Float[Tensor, "tokens cols"], at: Coordinates
) -> Float[Tensor, " k"]:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,).

    Args:
        a, b: shapes (tokens, rows) and (tokens, cols), both float32 or both float64.
        at: the k positions.

    Raises:
        UserError: nothing could be compiled here; `is_usable` tells.

    Cost: (rows + cols + k) tokens numbers read; 64 (rows + cols) and k numbers of memory a thread.
    """
    out: Tensor = torch.ops.landscape.sampled(a, b, at.flat, at.row_offsets)
    return out


def scattered(
    v: Float[Tensor, " k"], x: Float[Tensor, "tokens inner"], at: Coordinates, transpose: bool
) -> Float[Tensor, "tokens outer"]:
    """Return x @ S(v)^T (transpose) or x @ S(v).

    Args:
        v: values, shape (k,), in x's dtype.
        x: shape (tokens, cols) with transpose, (tokens, rows) without; float32 or float64.
        at: the k positions.

    Raises:
        UserError: nothing could be compiled here; `is_usable` tells.

    Cost: (rows + cols + k) tokens numbers read; 64 (rows + cols) numbers of memory a thread.
    """
    given = v, x, at.flat, at.row_offsets, at.shape[1], transpose
    out: Tensor = torch.ops.landscape.scattered(*given)
    return out


def _sampled(a: Tensor, b: Tensor, flat: Tensor, row_offsets: Tensor) -> Tensor:
    a, b = a.contiguous(), b.contiguous()
    (tokens, m), n, k = a.shape, b.shape[1], flat.numel()
    out = torch.empty(k, dtype=a.dtype)
    _call(
        "sampled", a.dtype, _at(a), _at(b), _at(flat), _at(row_offsets), m, n, k, tokens, _at(out),
        threads=_threads((m + n + k) * tokens),
    )  # fmt: skip
    return out


def _scattered(
    v: Tensor, x: Tensor, flat: Tensor, row_offsets: Tensor, n: int, into_rows: bool
) -> Tensor:
    v, x = v.contiguous(), x.contiguous()
    tokens, k, m = x.shape[0], v.numel(), row_offsets.numel() - 1
    out = torch.empty(tokens, m if into_rows else n, dtype=x.dtype)
    _call(
        "scattered", x.dtype, _at(v), _at(x), _at(flat), _at(row_offsets), m, n, k, tokens,
        _at(out), ctypes.c_int(into_rows), threads=_threads((m + n + k) * tokens),
    )  # fmt: skip
    return out


_OPERATIONS.impl("sampled", _sampled, "CPU")
_OPERATIONS.impl("scattered", _scattered, "CPU")


@torch.library.register_fake("landscape::sampled")  # type: ignore[untyped-decorator]
def _sampled_shape(a: Tensor, b: Tensor, flat: Tensor, row_offsets: Tensor) -> Tensor:
    return a.new_empty(flat.shape[0])


@torch.library.register_fake("landscape::scattered")  # type: ignore[untyped-decorator]
def _scattered_shape(
    v: Tensor, x: Tensor, flat: Tensor, row_offsets: Tensor, n: int, into_rows: bool
) -> Tensor:
    return x.new_empty(x.shape[0], row_offsets.shape[0] - 1 if into_rows else n)


def _call(name: str, dtype: torch.dtype, *arguments: object, threads: int) -> None:
    library = _library(DTYPES[dtype])
    if library is None:
        raise UserError("expected a C compiler for the kernels in C, got none; take another kernel")
    passed = [ctypes.c_int64(a) if isinstance(a, int) else a for a in arguments]
    if getattr(library, name)(*passed, ctypes.c_int(threads)):
        raise MemoryError(f"the kernel {name!r} found no memory for its blocks")


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _threads(work: int) -> int:
    return max(1, min(torch.get_num_threads(), work // SMALLEST_SHARE))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_loaded(scalar: str) -> bool:
    return _library(scalar) is not None


@cache
def _library(scalar: str) -> ctypes.CDLL | None:
    """Load the compiled file for a C type, compiling it if it is not there; None without one."""
    try:
        kept = _folder() / f"native-{_digest(scalar)}.so"
        if not kept.exists():
            _compile(scalar, kept)
        found = kept.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(f"{kept} may have been written by another user")
        return ctypes.CDLL(str(kept))
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        _LOG.info("the kernels in C are left out: %s", error)
        return None


def _folder() -> Path:
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _digest(scalar: str) -> str:
    """Name what is compiled for what: a home may be shared by machines of several kinds."""
    cpu = platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        lines = about.read_text().splitlines()
        cpu += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    told = (SOURCE.read_text(), *_FLAGS, scalar, cpu)
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:24]


def _compile(scalar: str, target: Path) -> None:
    """Compile with OpenMP, or with its vector directives alone, and move the result into place."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("this machine has no C compiler")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "made.so"
        for threads in ("-fopenmp", "-fopenmp-simd"):
            done = subprocess.run(
                [compiler, *_FLAGS, threads, f"-DSCALAR={scalar}", str(SOURCE), "-o", str(made)],
                capture_output=True, timeout=120, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                made.chmod(0o700)
                made.replace(target)
                return
        done.check_returncode()


def _values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)
    return sampled(a.to(wide), b.to(wide), at)


def _product(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return scattered(v.to(wide), x.to(wide), at, transpose).to(x.dtype)


def _units(work: Work) -> dict[str, float]:
    fast = is_worth_transposing(work.k, work.rows, work.cols)
    return {
        "native.call": 1,
        "native.index": work.k,
        "native.direct": (not fast) * work.k * work.tokens,
        "native.transpose": fast * work.operands,
        "native.entry": fast * work.k * work.tokens,
    }


KERNEL = Kernel(
    name="native",
    constants={
        "native.call": 4.1e-05,
        "native.index": 6.0e-09,
        "native.direct": 3.1e-09,
        "native.transpose": 3.3e-10,
        "native.entry": 5.3e-11,
    },
    units=_units,
    is_usable=lambda at, dtype, device: is_usable(at.shape, dtype, device),
    values=_values,
    scatter=Scatter(_product, cost=1.0),
    supersedes=("gather", "sampled"),
)

"""Training and evaluation beside the papers' protocol done literally: time, memory, agreement."""

from landscape.bench.protocol.cases import Case
from landscape.bench.protocol.comparison import bench_protocol

__all__ = ["Case", "bench_protocol"]

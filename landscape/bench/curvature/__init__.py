"""Curvature beside other libraries and beside training: time, matvecs and memory."""

from landscape.bench.curvature.comparison import bench_curvature
from landscape.bench.curvature.libraries import PEERS

__all__ = ["PEERS", "bench_curvature"]

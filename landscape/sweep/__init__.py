"""Sweeps: a grid becomes runs, each with an address; one store keeps them, each is done once."""

from landscape.sweep.config import RunConfig
from landscape.sweep.grid import Grid
from landscape.sweep.store import RunStore

__all__ = ["Grid", "RunConfig", "RunStore"]

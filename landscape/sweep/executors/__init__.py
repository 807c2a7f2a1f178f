"""Executors: who computes the runs of a sweep, and where; one a file."""

from landscape.sweep.executors.executor import Event, Executor, Job, Places

__all__ = ["Event", "Executor", "Job", "Places"]

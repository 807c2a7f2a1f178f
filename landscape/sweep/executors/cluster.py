"""Ray clusters: found, and known to have what a run needs, before anything is sent to them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from landscape.errors import UserError
from landscape.sources.carriers import optional

PATIENCE = 20.0
"""Seconds that a cluster has to answer."""


@contextmanager
def connected(address: str | None, needs: Mapping[str, float]) -> Iterator[None]:
    """Hold a connection to a cluster that has what a run needs; one that was there stays.

    Args:
        address: host:port, or ray://host:port from outside it; None is that of RAY_ADDRESS, or of
            `ray start` on this machine.
        needs: Ray's name of a kind, "CPU" or "GPU" -> how many.

    Raises:
        UserError: no cluster at the address, or one without CPUs or GPUs.
    """
    ray = optional("ray")
    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    elif address not in (None, "auto", ray.get_runtime_context().gcs_address):
        raise UserError(
            f"expected no connection to another Ray cluster than {address}, got one to "
            f"{ray.get_runtime_context().gcs_address}; call ray.shutdown() first"
        )
    try:
        there = ray.cluster_resources()
        for kind, count in needs.items():
            if there.get(kind, 0) < count:
                raise UserError(
                    f"expected a Ray cluster with {count:g} {kind} for a run, got one with "
                    f"{there.get(kind, 0):g} in all; add a machine that has it: `ray start "
                    "--address=HOST:PORT`"
                )
        yield
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    _reach(wanted)
    try:
        optional("ray").init(address=wanted, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _absent(wanted, str(error).split("\n")[0].rstrip(".")) from None


def _reach(wanted: str) -> None:
    """Refuse an address where no cluster is, which Ray would wait minutes for.

    Raises:
        UserError: nobody listens there, or somebody who is no Ray cluster.
    """
    host, _, port = wanted.removeprefix("ray://").rpartition(":")
    if wanted == "auto":
        return
    try:
        if host in ("localhost", "127.0.0.1"):  # Ray takes the machine's own address for these
            host = optional("ray").util.get_node_ip_address()
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            pass
        if not wanted.startswith("ray://"):
            asked = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address",
                     wanted, "--skip-version-check"]  # fmt: skip
            done = subprocess.run(asked, capture_output=True, timeout=PATIENCE)
            if done.returncode == 1:
                raise _absent(wanted, "somebody who listens there and is none")
    except subprocess.TimeoutExpired:
        raise _absent(wanted, "somebody who listens there and is none") from None
    except (OSError, ValueError, OverflowError) as error:
        raise _absent(wanted, f"{error} ({host}:{port})") from None


def _absent(wanted: str, got: str) -> UserError:
    return UserError(
        f"expected a Ray cluster at {wanted}, got: {got}; start one with `ray start --head`, or "
        "name its address as host:port"
    )

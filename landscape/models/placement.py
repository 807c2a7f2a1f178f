"""Where a model's weights go and in which type: the device, or a map of devices, and the dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from landscape import checks
from landscape.errors import UserError

DTYPES = {str(t).removeprefix("torch."): t
          for t in (torch.float32, torch.bfloat16, torch.float16, torch.float64)}  # fmt: skip
"""The floating types of weights, by their names."""

DeviceMap = str | Mapping[str, int | str | torch.device]
"""As accelerate takes it: a strategy, or the names of modules with their devices."""

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class Placement:
    """Say where weights go, and in which type. They are read into it: no other copy is made.

    Args:
        dtype: floating type of the weights.
        device: where all of them go; the CPU if absent.
        device_map: which module goes where, instead.
    """

    dtype: torch.dtype
    device: torch.device | None = None
    device_map: str | dict[str, Any] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return what ``from_pretrained`` is told."""
        place: Any = self.device_map
        if place is None and self.device is not None and self.device.type != "cpu":
            place = {"": str(self.device)}
        return {"dtype": self.dtype} | ({} if place is None else {"device_map": place})

    def refuse_a_map(self, what: str) -> None:
        """Refuse a device map where there is one.

        Raises:
            UserError: there is; `what` says of which model.
        """
        if self.device_map is not None:
            raise UserError(
                f"expected no device_map for {what}, got {checks.shown(self.device_map)}; "
                "give device= for all of it"
            )


def placement(
    dtype: object, device: object = None, device_map: DeviceMap | None = None
) -> Placement:
    """Return where a model's weights go, of what a user gave.

    Args:
        dtype: a floating type of torch, or its name: "float32", "bfloat16", "float16", "float64".
        device: a device of torch, or its name, such as "cuda" or "cuda:1"; None for the CPU.
        device_map: "auto" and others of accelerate's strategies, or module -> device, "" for all;
            None for one device.

    Raises:
        UserError: no such type, a device that is not here, or both device and device_map.

    >>> placement("bfloat16").options
    {'dtype': torch.bfloat16}
    >>> placement(torch.float32, device_map={"": "cpu"}).options["device_map"]
    {'': 'cpu'}
    """
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        got = str(dtype) if isinstance(dtype, torch.dtype) else dtype
        checks.refuse("dtype", f"a floating type ({', '.join(DTYPES)})", got, "give torch.float32")
    if device_map is None:
        return Placement(found, None if device is None else checked_device("device", device))
    if device is not None:
        raise UserError(
            f"expected device or device_map, got both, {device} and {checks.shown(device_map)}; "
            "a device_map says where everything goes"
        )
    if isinstance(device_map, str) and device_map not in _STRATEGIES:
        checks.choice("device_map", device_map, _STRATEGIES)
    if not isinstance(device_map, str):
        checks.instance("device_map", device_map, Mapping, "give 'auto', or module -> device")
        device_map = {
            checks.text("a module of device_map", module): place
            if place == "disk"
            else str(checked_device(f"device_map[{module!r}]", place))
            for module, place in device_map.items()
        }
    return Placement(found, device_map=device_map)


def checked_device(name: str, given: object) -> torch.device:
    """Return a device that this machine has.

    Raises:
        UserError: what was given is no device, or of one that torch does not find here.
    """
    known = isinstance(given, str | int | torch.device) and not isinstance(given, bool)
    try:
        device = torch.device(given if known else "")  # type: ignore[call-overload]
    except RuntimeError:
        checks.refuse(name, "a device of torch", given, 'give "cpu", "cuda" or "cuda:1"')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if "out of memory" in reason:
            raise UserError(
                f"expected {name} with room for a process, got {given!r}, whose memory is full; "
                "wait for those that use it, or give 'cpu'"
            ) from error
        raise UserError(
            f"expected {name} to be one that torch finds on this machine, got {given!r} "
            f"({reason[:120]}); give 'cpu', or install torch for that device"
        ) from error
    if device.type == "meta":
        checks.refuse(name, "a device that holds values", "meta", "give 'cpu' or 'cuda'")
    return device

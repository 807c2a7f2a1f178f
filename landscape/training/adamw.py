"""AdamW whose state follows a moving mask: every entry of a parameter has an age of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError

Ages: TypeAlias = Literal["own", "shared"]


class AdamW(torch.optim.Optimizer):
    """Update the active entries of each parameter by AdamW, counting every entry's own steps.

        m_j <- beta1 m_j + (1 - beta1) g_j,      v_j <- beta2 v_j + (1 - beta2) g_j^2
        theta_j <- (1 - lr decay) theta_j
                   - lr m_j / (1 - beta1^age_j) / (sqrt(v_j / (1 - beta2^age_j)) + eps)

    Where all entries have the same age this is ``torch.optim.AdamW``. With a mask attached theta
    is the change of the weights, so the decay is towards the pretrained values. Entries that are
    not active are frozen: no update, no decay, no state.

    With ``ages="shared"`` age_j is the number of all steps so far, as in the code of Agarwal et al.
    2024, where one counter serves a whole parameter: the first step of an entry selected at step t
    is sqrt(1 - beta2^t) / (1 - beta1^t) * (1 - beta1) / sqrt(1 - beta2) of the learning rate, with
    the usual betas between 0.51 (t = 21) and 3.16 (t large), where its own age makes it 1.

    The state of a parameter: ``exp_avg``, ``exp_avg_sq`` and ``step`` (the ages), one row for
    each active entry, and ``active``, their positions, where not all are.

    Args:
        parameters: as `trainable` gives them, or groups of them with settings of their own, as
            `parameter_groups` makes them.
        lr: the learning rate, above 0.
        betas: each from 0 to below 1.
        eps: at least 0.
        weight_decay: at least 0.
        ages: "own", every entry's, or "shared".

    Raises:
        UserError: an argument out of range.

    Cost: three values of state an active entry.
    Source: Loshchilov & Hutter 2019, algorithm 2; ages as in Ansell et al. 2024 (SpIEL).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        ages: Ages = "own",
    ) -> None:
        settings: dict[str, Any] = {
            "lr": checks.number("lr", lr, above=0),
            "betas": check_betas("betas", betas),
            "eps": checks.number("eps", eps, least=0),
            "weight_decay": checks.number("weight_decay", weight_decay, least=0),
        }
        if checks.choice("ages", ages, get_args(Ages)) == "shared":
            settings |= {"ages": "shared", "taken": 0}
        checks.several("parameters", parameters, "parameters")
        held: list[Any] = list(parameters)
        if not held or not all(isinstance(one, Tensor | dict) for one in held):
            checks.refuse("parameters", "tensors", held, "give trainable(model).values()")
        super().__init__(held, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every active entry that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "taken" in group:
                group["taken"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, self._rows(parameter), group)
        return loss

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` gave; positions and ages keep their type, which torch casts."""
        super().load_state_dict(state_dict)
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        mine = [p for group in self.param_groups for p in group["params"]]
        for i, parameter in zip(saved, mine, strict=True):
            for key in ("active", "step"):
                held = state_dict["state"].get(i, {}).get(key)
                if held is not None:
                    held = held if key == "active" else held.to(_age_type(parameter))
                    self.state[parameter][key] = held.to(parameter.device, copy=True)

    @property
    def count(self) -> int:
        """Return how many entries are active: what one step updates."""
        return sum(self._rows(p)["step"].numel() for g in self.param_groups for p in g["params"])

    @torch.no_grad()
    def follow(
        self,
        parameter: nn.Parameter,
        source: Int[Tensor, " k"],
        active: Int[Tensor, " k"] | None = None,
    ) -> None:
        """Rearrange the state of a parameter whose entries have moved.

        Args:
            parameter: the parameter, with its new values in it.
            source: for each active entry, shape (k,), its row in the state so far, or -1 for one
                that is newly selected and gets fresh moments and age 0.
            active: the positions of the active entries in the parameter, shape (k,), increasing;
                None when all are.

        Raises:
            UserError: the shapes do not fit.
        """
        wanted = parameter.numel() if active is None else active.numel()
        if source.shape != (wanted,):
            raise UserError(
                f"expected {wanted} sources, one an active entry, got shape {tuple(source.shape)}; "
                "give -1 for entries that are new"
            )
        old = self._rows(parameter) if self.state[parameter] else {}
        state: dict[str, Tensor] = {}
        known = source >= 0
        for key in ("exp_avg", "exp_avg_sq", "step"):
            state[key] = parameter.new_zeros(wanted, dtype=_type_of(key, parameter))
            if old and bool(known.any()):
                state[key][known] = old[key][source[known]]
        if active is not None:
            state["active"] = active
        self.state[parameter] = state

    def _rows(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            for key in ("exp_avg", "exp_avg_sq", "step"):
                state[key] = torch.zeros_like(parameter, dtype=_type_of(key, parameter))
        return state


def _type_of(key: str, parameter: Tensor) -> torch.dtype:
    """Return the type of a state: the parameter's, of ages one that counts further than 256."""
    return _age_type(parameter) if key == "step" else parameter.dtype


def _age_type(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)


def check_betas(name: str, value: object) -> tuple[float, float]:
    """Return AdamW's two decay rates as plain floats.

    Raises:
        UserError: not two numbers from 0 to below 1.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        checks.refuse(name, "two numbers", value, "give (0.9, 0.999)")
    first, second = (checks.number(f"each of {name}", v, least=0, below=1) for v in value)
    return first, second


def _update(parameter: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """Update the active entries of one parameter in place."""
    active = state.get("active")
    gradient, theta = parameter.grad, parameter.detach()
    assert gradient is not None
    if active is not None:
        gradient, theta = gradient[active], theta[active]
    lr, (beta1, beta2) = group["lr"], group["betas"]
    mean, square, age = state["exp_avg"], state["exp_avg_sq"], state["step"]
    age += 1
    if "taken" in group:
        age = torch.full_like(age, group["taken"])
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (square / _correction(beta2, age)).sqrt_().add_(group["eps"])
    theta.mul_(1 - lr * group["weight_decay"])
    theta.sub_(lr * (mean / _correction(beta1, age)) / scale)
    if active is not None:
        parameter[active] = theta


def _correction(beta: float, age: Tensor) -> Tensor:
    """Return 1 - beta^age without the cancellation of float32."""
    return -torch.expm1(age * (math.log(beta) if beta else -math.inf))

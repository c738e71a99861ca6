"""AdaLoRA's part of a training step (https://openreview.net/forum?id=lq62uWRJjiY).

PEFT's model drops the least important ranks when it is told so in every step, after the update and while the gradients
are there (`AdaLoraModel.update_and_allocate`). Its penalty on singular vectors that are not orthogonal is added to the
loss by PEFT's models for one kind of task only, and read from what they return; here it is added to every loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.adalora import AdaLoraModel
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.state import Adapted, base_model, layer_at, tuner_of
from surgery.planning import Plan

_METHOD = "adalora"
# What PEFT's allocator remembers of each parameter from step to step: importance now, smoothed, and its uncertainty.
_KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def check_steps(plan: Plan, steps: int) -> None:
    """Raises SurgeryError (E0515) where AdaLoRA's schedule of ranks is for a run of another length."""
    for site in plan.sites:
        if site.method == _METHOD and site.settings["total_step"] != steps:
            planned = site.settings["total_step"]
            raise SurgeryError(
                Diagnostic(
                    "E0515",
                    f"AdaLoRA's ranks are planned for {planned:,} steps, and the run has {steps:,}",
                    place=site.place,
                    helps=(f"give it `total_step = {steps}`, or train for {planned} steps",),
                )
            )


def rank_allocation(model: Adapted, plan: Plan) -> RankAllocation | None:
    """What a step has to do for AdaLoRA, or None for a plan without it."""
    sites = [site for site in plan.sites if site.method == _METHOD]
    if not sites:
        return None
    tuner = tuner_of(model)
    assert isinstance(tuner, AdaLoraModel)  # PEFT's mixed model does not drop ranks: refused while planning
    layers: list[Any] = [layer_at(base_model(model), site.path) for site in sites]
    name = sites[0].adapter
    return RankAllocation(
        tuner,
        [(layer.lora_A[name], layer.lora_B[name]) for layer in layers],
        float(sites[0].settings["orth_reg_weight"]),
    )


@dataclass(frozen=True)
class RankAllocation:
    """`vectors` are A (rank, inputs) and B (outputs, rank) of every site, `weight` the factor of the penalty."""

    tuner: AdaLoraModel
    vectors: list[tuple[nn.Parameter, nn.Parameter]]
    weight: float

    def penalty(self) -> torch.Tensor:
        """How far the vectors are from orthogonal: the mean Frobenius norm of A A' - 1 and B' B - 1, weighted."""
        products = [product for a, b in self.vectors for product in (a @ a.T, b.T @ b)]
        norms = [torch.linalg.matrix_norm(p - torch.eye(len(p), dtype=p.dtype, device=p.device)) for p in products]
        return self.weight * torch.stack([norm.to(norms[0].device) for norm in norms]).mean()

    def after(self, step: int) -> None:
        """To be called when `step` steps are done, before the gradients of the last are dropped."""
        for parameter in self.tuner.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # PEFT multiplies with it
        self.tuner.update_and_allocate(step)

    def state(self) -> dict[str, torch.Tensor]:
        """What the next steps depend on, besides the parameters; `KIND.PARAMETER` as in `load_state`."""
        kept = {
            f"{kind}.{name}": tensor
            for kind in _KEPT
            for name, tensor in getattr(self.tuner.rankallocator, kind).items()
        }
        pattern = self._config.rank_pattern or {}
        return kept | {f"pattern.{name}": torch.tensor(mask) for name, mask in pattern.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` gave. Raises KeyError for parameters that the model does not have."""
        parameters = dict(self.tuner.model.named_parameters())
        self.tuner.rankallocator.reset_ipt()
        pattern: dict[str, list[bool]] = {}
        for key, tensor in state.items():
            kind, _, name = key.partition(".")
            device = parameters[name].device
            if kind == "pattern":
                pattern[name] = tensor.tolist()
            else:
                getattr(self.tuner.rankallocator, kind)[name] = tensor.to(device)
        self._config.rank_pattern = pattern or None

    @property
    def _config(self) -> Any:
        return self.tuner.peft_config[self.tuner.trainable_adapter_name]

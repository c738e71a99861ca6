"""The state of a run as `state.safetensors` and `state.json`: exact to the bit, nothing pickled.

Tensors: `optimizer.<key>.<parameter>` (AdamW's `step`, `exp_avg`, `exp_avg_sq`, dtypes as they are),
`rng.<process>.<generator>` and, with AdaLoRA, `ranks.<key>.<parameter>`. JSON: everything else. Python writes floats so
that they read back the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.training.rng import RngState

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """What a state says of its run besides tensors.

    `step` steps are done, `samples_seen` samples read; the next step is in epoch `epoch`, whose order follows from
    `config["seed"]` and its number. `samples` is the size of the data, `processes` how many trained together.
    """

    step: int
    epoch: int
    samples_seen: int
    samples: int
    processes: int
    learning_rate: float
    config: dict[str, Any]
    spec: str
    graph: str
    versions: dict[str, str]
    scaler: dict[str, Any] = field(default_factory=dict)
    rng: list[dict[str, Any]] = field(default_factory=list)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class State:
    record: RunRecord
    tensors: dict[str, torch.Tensor]

    def rng(self, process: int) -> RngState:
        """The generators of one process."""
        return RngState(self.section(f"rng.{process}"), self.record.rng[process])

    def section(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with this one, under the rest of their names."""
        prefix = f"{name}."
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def write_state(
    folder: Path,
    record: RunRecord,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    rng: list[RngState],
    ranks: Mapping[str, torch.Tensor],
) -> None:
    """Write the two files. `parameters` are the optimiser's, by name; `rng` is of all processes, in order.

    `ranks` is `RankAllocation.state()`, or empty.
    """
    tensors = {
        f"optimizer.{key}.{name}": value.detach().cpu().contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }
    tensors |= {f"rng.{i}.{name}": tensor for i, state in enumerate(rng) for name, tensor in state.tensors.items()}
    tensors |= {f"ranks.{name}": tensor.detach().cpu().contiguous() for name, tensor in ranks.items()}
    save_file(tensors, folder / "state.safetensors")
    content = asdict(record) | {"rng": [state.numbers for state in rng]}
    (folder / "state.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_state(folder: Path) -> State:
    """The state in `folder`. Raises SurgeryError (E0515) when it is not there, or damaged."""
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {content['format_version']}, this version reads {FORMAT_VERSION}")
        for name, kind in get_type_hints(RunRecord).items():
            if not isinstance(content[name], get_origin(kind) or kind):
                raise ValueError(f"its `{name}` is {content[name]!r}")
        return State(RunRecord(**content), load_file(folder / "state.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise unreadable(folder, error) from None


def unreadable(folder: Path, error: Exception) -> SurgeryError:
    """E0515: a state that is not there, or not as it was written."""
    return SurgeryError(
        Diagnostic(
            "E0515",
            "cannot read the state to resume from",
            place=str(folder),
            notes=(f"{type(error).__name__}: {error}",),
            helps=("name a `state_<step>` folder that a run has written: `--resume OUT/state_500`",),
        )
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: State) -> None:
    """Put the optimiser's tensors back, each on the device where the optimiser keeps it.

    Its settings are not read: they follow from the configuration, which a resumed run has to share. Raises
    ValueError or KeyError for tensors that are not those of these parameters.
    """
    for full_name, tensor in state.tensors.items():
        section, _, rest = full_name.partition(".")
        if section != "optimizer":
            continue
        key, _, name = rest.partition(".")
        parameter = parameters[name]
        # AdamW counts steps on the CPU, unless it is fused or capturable.
        device = torch.device("cpu") if key == "step" else parameter.device
        optimizer.state[parameter][key] = tensor.to(device)
    for name, parameter in parameters.items():
        shapes = {key: value.shape for key, value in optimizer.state[parameter].items()}
        # A parameter that no gradient has reached yet has no state.
        if shapes and shapes != {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
            raise ValueError(f"the optimiser's tensors of `{name}` have the shapes {shapes}")

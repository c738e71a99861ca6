"""Plans for live models, made without a spec: the sizes come from the methods, as planning takes them."""

from collections.abc import Mapping

import pytest
from torch import nn

from surgery.graph import Init, Module, Parameter
from surgery.inject.fit import count_parameters
from surgery.methods import METHODS
from surgery.planning.plan import Adapter, Fingerprints, Plan, Site, Totals


def described(path: str, module: nn.Module) -> Module:
    bases = tuple(cls.__name__ for cls in type(module).__mro__ if issubclass(cls, nn.Module) and cls is not nn.Module)
    weight = Parameter("weight", tuple(module.weight.shape), "float32", Init("random"), 0)
    return Module(path, type(module).__name__, bases, (weight,), {"groups": getattr(module, "groups", 1)})


def plan_for(model: nn.Module, targets: Mapping, trained=(), **changes) -> Plan:
    """A plan of `targets`: name -> (method, settings, paths), an adapter per target."""
    sites = []
    for target, (name, given, paths) in targets.items():
        method = METHODS[name]
        settings = {setting.name: setting.default for setting in method.settings} | given
        for path in paths:
            module = described(path, model.get_submodule(path))
            assert method.refusal(module, settings) is None
            sites.append(
                Site(
                    path=path,
                    kind=module.kind,
                    shape=list(module.weight.shape),
                    target=target,
                    place="test.surg:1",
                    method=name,
                    settings=settings,
                    scale=method.scale(module, settings),
                    added=method.added(module, settings),
                    adapter=target,
                )
            )
    added = sum(site.added for site in sites)
    total = count_parameters(model)
    holders = [p for path in trained for p in model.get_submodule(path).parameters()]
    full = sum({id(p): p.numel() for p in holders}.values())
    adapters = [
        Adapter(name=target, method=method, settings=given, sites=len(paths), added=0)
        for target, (method, given, paths) in targets.items()
    ]
    plan = Plan(
        applyable=True,
        spec="test.surg",
        model="",
        sites=sites,
        adapters=adapters,
        never=[],
        excluded=[],
        assumed=[],
        switched_off=[],
        trained=list(trained),
        checkpointed=[],
        budget=[],
        totals=Totals(
            added=added,
            trained=full,
            trainable=added + full,
            total=total,
            share=(added + full) / total,
            adapter_bytes=4 * (added + full),
            optimizer_bytes=8 * (added + full),
        ),
        fingerprints=Fingerprints(spec="", graph=""),
        diagnostics=[],
    )
    return plan.model_copy(update=changes)


@pytest.fixture(name="plan_for")
def _plan_for():
    return plan_for

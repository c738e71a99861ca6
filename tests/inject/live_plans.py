"""Plans for live models, made without a spec: the sizes come from the methods, as planning takes them."""

from collections.abc import Mapping

from adaptable_layers import described
from torch import nn

from surgery.inject.fit import count_parameters
from surgery.methods import METHODS
from surgery.methods.geometry import weight_shape
from surgery.planning.plan import Adapter, Fingerprints, Plan, Site, Totals


def plan_for(model: nn.Module, targets: Mapping, trained=(), **changes) -> Plan:
    """A plan of `targets`: name -> (method, settings, paths), an adapter per target."""
    sites = []
    adapters = []
    for target, (name, given, paths) in targets.items():
        method = METHODS[name]
        settings = {setting.name: setting.default for setting in method.settings} | given
        modules = [described(model.get_submodule(path), path) for path in paths]
        for path, module in zip(paths, modules, strict=True):
            assert method.refusal(module, settings) is None
            sites.append(
                Site(
                    path=path,
                    kind=module.kind,
                    shape=list(weight_shape(module)),
                    target=target,
                    place="test.surg:1",
                    method=name,
                    settings=settings,
                    scale=method.scale(module, settings),
                    added=method.added(module, settings),
                    frozen=method.frozen(module, settings),
                    adapter=target,
                )
            )
        adapters.append(
            Adapter(
                name=target,
                method=name,
                settings=method.per_adapter(settings),
                sites=len(paths),
                added=sum(site.added for site in sites if site.adapter == target),
                shared=method.shared(modules, settings),
            )
        )
    added = sum(site.added for site in sites) + sum(adapter.shared for adapter in adapters)
    frozen = sum(site.frozen for site in sites)
    total = count_parameters(model)
    holders = [p for path in trained for p in model.get_submodule(path).parameters()]
    full = sum({id(p): p.numel() for p in holders}.values())
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
            frozen=frozen,
            trained=full,
            trainable=added - frozen + full,
            total=total,
            share=(added - frozen + full) / total,
            adapter_bytes=4 * (added + full),
            optimizer_bytes=8 * (added - frozen + full),
        ),
        fingerprints=Fingerprints(spec="", graph=""),
        diagnostics=[],
    )
    return plan.model_copy(update=changes)

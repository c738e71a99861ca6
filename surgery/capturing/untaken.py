"""Paths of a model's code that its run did not take, and what they would do with its modules.

A run shows one path. Another call, or training, may read a parameter directly where this run called its module (a
fused kernel), or call a module that this run left out. The source of each `forward` that ran says where, and which
test decides; a test that depends on nothing but the model itself is decided, and no other call changes it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from surgery.capturing.branches import EACH, Call, Chain, Condition, Summary, summary_of
from surgery.capturing.places import shown_line

_DEEPEST = 6  # calls followed from a forward
_SHOWN = 60  # characters of a test
# Tell about a tensor without its values.
_DESCRIBING = {"dtype", "device", "shape", "ndim", "dim", "size", "numel", "is_cuda", "is_meta", "requires_grad"}

Modules = Mapping[str, torch.nn.Module]  # by the name that a function has for them


@dataclass
class Untaken:
    """By module path: `reads`, where a parameter of it may be read directly; `switches`, what decides if it runs."""

    reads: dict[str, str] = field(default_factory=dict)
    switches: dict[str, str] = field(default_factory=dict)
    _ranks: dict[tuple[int, str], tuple[bool, int]] = field(default_factory=dict)

    def note(self, table: dict[str, str], path: str, why: str, rank: tuple[bool, int]) -> None:
        """Put `why` into one of the tables: a call says it better than a read, and near code than far."""
        if rank > self._ranks.get((id(table), path), (False, -1)):
            self._ranks[id(table), path] = rank
            table[path] = why


def untaken_paths(model: torch.nn.Module, calls: Mapping[str, int]) -> Untaken:
    """What the forwards that ran (`calls` above zero) would do on other paths."""
    found = Untaken()
    paths = {id(module): path for path, module in model.named_modules()}
    for path, module in model.named_modules():
        if calls.get(path) and module._modules:
            for use in _Function.forward_of(module).uses():
                use.note(found, paths)
    return found


@dataclass(frozen=True)
class _Use:
    """A chain that starts at a module, on a branch that `test` switches, in the line `place`."""

    module: torch.nn.Module
    chain: Chain
    place: str
    test: str

    def note(self, found: Untaken, paths: Mapping[int, str]) -> None:
        for module, rest in _followed(self.module, self.chain):
            if module is self.module or id(module) not in paths:
                continue
            path, owner = paths[id(module)], paths[id(self.module)]
            near = owner.count(".") + bool(owner)
            if not rest or callable(getattr(type(module), rest[0], None)):
                found.note(found.switches, path, f"whether it runs is decided by {self.test}", (True, near))
            elif module._parameters.get(rest[0]) is not None and not _uses_no_value(rest[1:]):
                why = f"`{rest[0]}` is read directly on a path that this run did not take, decided by {self.test}"
                found.note(found.reads, path, f"{why}; {self.place}", (False, near))
                found.note(found.switches, path, f"whether it is read is decided by {self.test}", (False, near))


def _uses_no_value(rest: Chain) -> bool:
    """Whether what follows a parameter tells about it (`.dtype`), or changes it in place (`.div_`)."""
    return bool(_DESCRIBING & {*rest}) or any(name.endswith("_") for name in rest)


def _followed(module: torch.nn.Module, chain: Chain) -> Iterator[tuple[torch.nn.Module, Chain]]:
    """The modules that a chain of attributes leads to, with what is left of it."""
    if chain and chain[0] == EACH and isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential)):
        for child in module.children():
            yield from _followed(child, chain[1:])
    elif chain and (held := module._modules.get(chain[0])) is not None:
        yield from _followed(held, chain[1:])
    else:
        yield module, chain


@dataclass(frozen=True)
class _Function:
    """A function that is handed modules, and the test that decided whether it was called, if one did."""

    function: Callable[..., Any]
    modules: Modules
    test: str = ""
    depth: int = 0

    @classmethod
    def forward_of(cls, module: torch.nn.Module) -> _Function:
        return cls(module.__dict__.get("forward") or type(module).forward, {"self": module})

    def uses(self) -> Iterator[_Use]:
        """What it mentions of its modules on branches that a test switches, and what the functions it calls do."""
        summary = summary_of(self.function)
        if summary is None or self.depth > _DEEPEST:
            return
        for mention in summary.mentions:
            name, *chain = mention.chain
            if name in self.modules and (test := self._test(summary, mention.conditions)):
                yield _Use(self.modules[name], tuple(chain), shown_line(summary.filename, mention.line), test)
        for call in summary.calls:
            if (test := self._test(summary, call.conditions)) is not None and (called := self._called(call, test)):
                yield from called.uses()

    # --- tests ----------------------------------------------------------------------------

    def _test(self, summary: Summary, conditions: tuple[Condition, ...]) -> str | None:
        """The open test nearest to a line, behind that on which the call of this function hangs; empty without any.

        None where a test that is decided keeps the line from running.
        """
        nearest = ""
        for condition in conditions:
            answer = self._truth(summary, condition.test)
            if answer is None:
                text = ast.unparse(condition.test)
                shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
                nearest = f"`{shown}` ({shown_line(summary.filename, condition.test.lineno)})"
            elif answer is not condition.wanted:
                return None
        return " and ".join(filter(None, (self.test, nearest)))

    def _truth(self, summary: Summary, test: ast.expr) -> bool | None:
        """What a test comes to, if it depends on nothing but the modules' own settings; else None."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._truth(summary, test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.BoolOp):
            answers = [self._truth(summary, value) for value in test.values]
            decisive = isinstance(test.op, ast.Or)
            return decisive if decisive in answers else None if None in answers else not decisive
        for node in ast.walk(test):
            if isinstance(node, ast.Name) and node.id not in self.modules and node.id in summary.locals:
                return None
            if isinstance(node, ast.Attribute) and node.attr == "training":
                return None
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") not in vars(builtins):
                return None
        try:
            compiled = compile(ast.Expression(test), summary.filename, "eval")
            return bool(eval(compiled, self._globals, dict(self.modules)))
        except Exception:  # noqa: BLE001  the code of a model may raise anything; then its test stays open
            return None

    @property
    def _globals(self) -> dict[str, Any]:
        return getattr(inspect.unwrap(self.function), "__globals__", {})

    # --- calls ----------------------------------------------------------------------------

    def _called(self, call: Call, test: str) -> _Function | None:
        """The Python function that a call runs, if it is handed a module; forwards of modules speak for themselves."""
        function, receiver = self._resolved(call.callee)
        if not inspect.isfunction(function):
            return None
        names = [*inspect.signature(function).parameters]
        modules = {names[0]: receiver} if isinstance(receiver, torch.nn.Module) and names else {}
        first = 0 if receiver is None else 1
        for key, chain in call.arguments:
            name = names[key + first] if isinstance(key, int) and key + first < len(names) else key
            if isinstance(name, str) and (given := self._module(chain)) is not None:
                modules[name] = given
        return _Function(function, modules, test, self.depth + 1) if modules else None

    def _resolved(self, chain: Chain) -> tuple[Any, Any]:
        """A function, and what it is a method of: a module, or another object that a module holds (a processor)."""
        if len(chain) == 1:
            return inspect.unwrap(self._globals.get(chain[0]) or len), None
        owner = self._module(chain[:-1])
        if owner is None:
            return None, None
        method = getattr(type(owner), chain[-1], None)
        if method is not None and chain[-1] not in owner._modules:
            return inspect.unwrap(method), owner
        held = owner.__dict__.get(chain[-1])
        return (vars(type(held)).get("__call__"), held) if held is not None else (None, None)

    def _module(self, chain: Chain) -> torch.nn.Module | None:
        """The module that a chain comes to."""
        module = self.modules.get(chain[0])
        for name in chain[1:]:
            module = module._modules.get(name) if module is not None else None
        return module

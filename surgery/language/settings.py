"""Settings with a fixed meaning: of `checkpoint`, of `budget`, and the sizes of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, Span, SurgeryError
from surgery.language import tree
from surgery.language.nearest import did_you_mean, listed
from surgery.language.values import Evaluator, spelled
from surgery.language.walking import walk

_LIMITS = {
    "trainable": (tree.Share, "a share of the model or a count of parameters", "trainable <= 1%"),
    "adapter": (tree.Size, "the size of a file", "adapter <= 20 MB"),
}
_CHECKPOINT = ("every",)


def check_settings(spec: tree.Spec, params: Mapping[str, Any], folder: Path, found: Diagnostics) -> None:
    """Adds E0105 and E0106 to `found`."""
    evaluate = Evaluator(params, folder)
    for budget in spec.budgets:
        _check_known(budget.limits, _LIMITS, "budget", found)
        for limit in budget.limits:
            if limit.name.name in _LIMITS:
                _check_limit(limit, evaluate, found)
    for checkpoint in spec.checkpoints:
        _check_known(checkpoint.settings, _CHECKPOINT, "checkpoint", found)
        for setting in checkpoint.settings:
            if setting.name.name == "every":
                _check_whole(setting.value, 1, "`every`", evaluate, found)
    for node in walk(spec):
        if isinstance(node, tree.Tensor):
            for size in node.shape:
                _check_whole(size, 0, "a tensor's size", evaluate, found)
            if node.below is not None:
                _check_below(node, node.below, evaluate, found)


def _check_known(settings: Iterable[tree.Setting], known: Iterable[str], what: str, found: Diagnostics) -> None:
    for setting in settings:
        if setting.name.name not in known:
            helps = did_you_mean(setting.name.name, known, f"`{what}` knows {listed(known)}")
            found.add(
                Diagnostic("E0106", f"`{what}` has no setting `{setting.name.name}`", setting.name.span, helps=helps)
            )


def _check_limit(limit: tree.Setting, evaluate: Evaluator, found: Diagnostics) -> None:
    sort, what, example = _LIMITS[limit.name.name]
    if isinstance(limit.value, sort) or (sort is tree.Share and _is_count(limit.value, evaluate, found)):
        return
    message = f"the limit of `{limit.name.name}` has to be {what}"
    found.add(Diagnostic("E0105", message, limit.value.span, helps=(f"write `{example}`",)))


def _is_count(value: tree.Expression, evaluate: Evaluator, found: Diagnostics) -> bool:
    """Whether a value is a whole number from 0 up, or has none for a reason that is reported."""
    if not isinstance(value, (tree.Number, tree.Name, tree.Arithmetic, tree.Negative)):
        return False
    number = _evaluated(value, evaluate, found)
    return number is None or (type(number) in (int, float) and number >= 0 and float(number).is_integer())


def _check_whole(value: tree.Expression, least: int, what: str, evaluate: Evaluator, found: Diagnostics) -> None:
    number = _evaluated(value, evaluate, found)
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
        found.add(_wrong_number(what, least, value.span, number))


def _check_below(tensor: tree.Tensor, below: tree.Expression, evaluate: Evaluator, found: Diagnostics) -> None:
    if tensor.dtype.startswith(("f", "b")):
        found.add(
            Diagnostic(
                "E0105",
                f"only whole numbers have a bound, and this tensor is {tensor.dtype}",
                below.span,
                helps=("leave the bound out, or use an integer type such as i64",),
            )
        )
    else:
        _check_whole(below, 1, "the bound of a tensor", evaluate, found)


def _wrong_number(what: str, least: int, span: Span, number: object) -> Diagnostic:
    wanted = f"a whole number from {least} up"
    return Diagnostic("E0105", f"{what} is {wanted}, and here is {spelled(number)}", span, helps=(f"write {wanted}",))


def _evaluated(value: tree.Expression, evaluate: Evaluator, found: Diagnostics) -> Any:
    """The value; none where it has none, which is reported here or was before (unknown names, wrong operands)."""
    try:
        return evaluate(value)
    except SurgeryError as error:
        found.extend(d for d in error.diagnostics if d.code == "E0105")
        return None

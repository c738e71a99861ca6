"""The keys of a checkpoint under the names of the model, as the spec's `weights` statement maps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from surgery.capturing.checkpoint import Checkpoint, StoredTensor
from surgery.diagnostics import Diagnostic, Diagnostics, Label, Span
from surgery.language import tree
from surgery.language.key_patterns import KeyPattern, KeyRename, parse_key_pattern, parse_rename
from surgery.planning.words import counted

_STARTS_SHOWN = 6

Ignores = list[tuple[tree.Text, KeyPattern]]
Names = list[tuple[str, KeyRename]]  # the names that renamings give to one key
Fitting = list[tuple[StoredTensor, Names]]  # the keys that are not ignored, with theirs


@dataclass(frozen=True)
class MappedKeys:
    """The tensors of a checkpoint by the model's names; `ignored` counts the others by the patterns they fit."""

    tensors: dict[str, StoredTensor]
    ignored: dict[str, int]


def map_keys(checkpoint: Checkpoint, weights: tree.Weights | None, own: Collection[str]) -> MappedKeys:
    """Map every key that is not ignored by the one renaming that it fits; a key that fits none keeps its name.

    A checkpoint that has the model's `own` keys only, none of which a renaming fits, needs no mapping and is taken
    as it is: what `surgery export` merges is such a file. Raises SurgeryError (E0518): a pattern that fits no key, a
    key that fits two renamings, two keys with one name.
    """
    renames = [parse_rename(rename) for rename in weights.renames] if weights else []
    ignores = [(text, parse_key_pattern(text)) for part in weights.ignores for text in part.keys] if weights else []
    fitting: Fitting = []
    ignored: Counter[str] = Counter()
    for tensor in checkpoint.tensors:
        taking = [text.value for text, pattern in ignores if pattern.match(tensor.key) is not None]
        ignored.update(taking)
        if not taking:
            fitting.append((tensor, [(name, rename) for rename in renames if (name := rename.of(tensor.key))]))
    named: dict[str, list[tuple[StoredTensor, Span | None]]] = {}
    for tensor, fits in fitting:
        name, span = (fits[0][0], fits[0][1].written.span) if fits else (tensor.key, None)
        named.setdefault(name, []).append((tensor, span))
    found = Diagnostics()
    if any(fits for _, fits in fitting) or not all(tensor.key in own for tensor in checkpoint.tensors):
        found.extend(_idle(checkpoint, fitting, renames, [item for item in ignores if not ignored[item[0].value]]))
    found.extend(_ambiguous(fitting))
    found.extend(_doubled(checkpoint, named))
    found.raise_errors()
    mapped = {name: tensors[0][0] for name, tensors in named.items()}
    return MappedKeys(mapped, {text.value: ignored[text.value] for text, _ in ignores if ignored[text.value]})


def _idle(
    checkpoint: Checkpoint, fitting: Fitting, renames: Sequence[KeyRename], ignores: Ignores
) -> Iterator[Diagnostic]:
    """Complaints about the renamings that no key fits, and about these patterns to ignore, which none fits."""
    used = {id(rename) for _, fits in fitting for _, rename in fits}
    patterns = [(rename.written.theirs, rename.theirs) for rename in renames if id(rename) not in used]
    patterns += ignores
    starts = _starts(tensor.key for tensor in checkpoint.tensors if patterns)
    for text, pattern in patterns:
        yield Diagnostic(
            "E0518",
            f'"{text.value}" fits no key of the checkpoint',
            text.span,
            label="fits no key",
            notes=(f"the checkpoint is {checkpoint.name}",),
            helps=(_nearest(pattern, starts),),
        )


def _starts(keys: Iterator[str]) -> Counter[str]:
    """How many keys start with each name or dotted row of names, up to the first number in it."""
    starts: Counter[str] = Counter()
    for key in keys:
        names = key.split(".")
        numbered = next((at for at, name in enumerate(names) if name.isdecimal()), len(names))
        starts.update(".".join(names[:end]) for end in range(1, max(numbered, 1) + 1))
    return starts


def _nearest(pattern: KeyPattern, starts: Counter[str]) -> str:
    near = get_close_matches(pattern.start, starts, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`, as in {counted(starts[near[0]], 'key')}?"
    most = [(start, count) for start, count in starts.most_common() if "." not in start]
    shown = ", ".join(f"`{start}` ({count:,})" for start, count in most[:_STARTS_SHOWN])
    return f"its keys start with {shown}" + (f" and {len(most) - _STARTS_SHOWN} more" * (len(most) > _STARTS_SHOWN))


def _ambiguous(fitting: Fitting) -> Iterator[Diagnostic]:
    """Complaints about keys that fit several renamings, one for each pair of these."""
    pairs: dict[tuple[Span, Span], list[str]] = {}
    for tensor, fits in fitting:
        if len(fits) > 1:
            (_, first), (_, second), *_ = fits
            pairs.setdefault((first.written.span, second.written.span), []).append(tensor.key)
    for (one, other), (key, *others) in pairs.items():
        yield Diagnostic(
            "E0518",
            f"two renamings fit `{key}`" + (f" and {counted(len(others), 'other key')}" * bool(others)),
            other,
            labels=(Label(one, "fits too"),),
            helps=("narrow one of the two, so that every key fits one; neither the longer nor the later one wins",),
        )


def _doubled(checkpoint: Checkpoint, named: dict[str, list[tuple[StoredTensor, Span | None]]]) -> Iterator[Diagnostic]:
    """Complaints about keys that get one name, one for each pair of renamings that gave it."""
    pairs: dict[tuple[Span | None, ...], list[str]] = {}
    for name, tensors in named.items():
        if len(tensors) > 1:
            pairs.setdefault(tuple(span for _, span in tensors), []).append(name)
    for spans, names in pairs.items():
        places = [span for span in spans if span]
        keys = [f"`{tensor.key}`" for tensor, _ in named[names[0]]]
        files = sorted({str(tensor.file) for tensor, _ in named[names[0]]})
        yield Diagnostic(
            "E0518",
            f"several keys get the name `{names[0]}`" + (f", and so with {len(names) - 1:,} more" * (len(names) > 1)),
            places[-1] if places else None,
            None if places else checkpoint.name,
            labels=tuple(Label(span, "gives the same name") for span in places[:-1] if span != places[-1]),
            notes=(f"{' and '.join(keys)}, in {' and '.join(files)}",),
            helps=("ignore all but one of them, or give the files that belong together",),
        )

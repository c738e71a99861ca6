"""The registry of methods in words: a table of all, and a page for each."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from surgery.methods.method import Method
from surgery.methods.setting import Setting, as_text

_WIDTH = 110
_STARTS = {"exact": "as the base model, bit for bit", "close": "as the base model, up to rounding", "none": "elsewhere"}


def defaults(method: Method) -> dict[str, Any]:
    """Every setting at its default."""
    return {setting.name: setting.default for setting in method.settings}


def update_of(method: Method) -> str:
    """What the adapter computes, in one sentence: the first line of its class's documentation."""
    return (inspect.getdoc(type(method)) or "").partition("\n")[0]


def remarks_on(method: Method) -> str:
    """What else there is to know of it: the rest of its class's documentation, on one line."""
    return " ".join((inspect.getdoc(type(method)) or "").partition("\n")[2].split())


def methods_text(methods: Mapping[str, Method]) -> str:
    """One line for each method: its name, what it computes, the layers it adapts."""
    width = max(len(name) for name in methods)
    lines = [f"{name:<{width}}  {update_of(method)}  ({', '.join(method.layers)})" for name, method in methods.items()]
    return "\n".join(lines) + "\n"


def method_text(method: Method) -> str:
    """The page of one method: source, formula, remarks, layers, how it starts, every setting with its default."""
    settings = [(setting.name, _default(setting), setting.wanted, _doc(setting)) for setting in method.settings]
    lines = [f"{method.name}: {method.title}, {method.paper}", "", *textwrap.wrap(update_of(method), _WIDTH)]
    lines += [*textwrap.wrap(remarks_on(method), _WIDTH), ""]
    lines += [f"{name:<8}{text}" for name, text in _properties(method)]
    if settings:
        lines += ["", "settings"]
        widths = [max(len(row[column]) for row in settings) for column in range(2)]
        for name, default, wanted, doc in settings:
            lead = f"  {name:<{widths[0]}}  {default:<{widths[1]}}  "
            lines.append(textwrap.fill(lead + f"{doc}; {wanted}", _WIDTH, subsequent_indent=" " * len(lead)))
    return "\n".join(lines) + "\n"


def _doc(setting: Setting) -> str:
    other = f" (PEFT: {setting.field})" if setting.field not in ("", setting.name) else ""
    return setting.doc + other


def _default(setting: Setting) -> str:
    return "required" if setting.required else as_text(setting.default)


def _properties(method: Method) -> Iterator[tuple[str, str]]:
    yield "layers", ", ".join(method.layers)
    yield "starts", _STARTS[method.start(defaults(method))] + " (with the defaults)"
    yield "mixes", "with other methods in one model" if method.mixes else "with no other method in one model"
    varying = [setting.name for setting in method.settings if setting.per_site]
    yield "varies", f"{' and '.join(varying)} within one PEFT adapter" if varying else "nothing within one PEFT adapter"


def method_json(method: Method) -> dict[str, Any]:
    """What `method_text` says, as data."""
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "update": update_of(method),
        "remarks": remarks_on(method),
        "peft_type": method.peft_type,
        "layers": list(method.layers),
        "starts": method.start(defaults(method)),
        "mixes": method.mixes,
        "settings": [
            {
                "name": setting.name,
                "field": setting.field,
                "type": setting.type,
                "default": setting.default,
                "choices": list(setting.choices),
                "optional": setting.optional,
                "per_site": setting.per_site,
                "doc": setting.doc,
            }
            for setting in method.settings
        ],
        "unsupported": dict(method.unsupported),
    }


def reference(methods: Mapping[str, Method], not_supported: Mapping[str, str]) -> str:
    """The Markdown page of all methods."""
    return "\n".join([*_HEAD, *_table(list(methods.values())), *_sections(methods), *_missing(not_supported)]) + "\n"


_HEAD = (
    "# Methods",
    "",
    "Written by `make goldens` from the registry in `surgery/methods`; `surgery methods NAME` prints one of them.",
    "A setting is understood under PEFT's name too. Those marked * may differ between the modules of one PEFT adapter;",
    "targets that differ in another one become adapters of their own.",
    "",
)


def _table(methods: Sequence[Method]) -> Iterator[str]:
    yield "| method | layers | starts as the base model | beside other methods |"
    yield "|---|---|---|---|"
    starts = {"exact": "exactly", "close": "up to rounding", "none": "no"}
    for method in methods:
        start = starts[method.start(defaults(method))]
        yield f"| `{method.name}` | {', '.join(method.layers)} | {start} | {'yes' if method.mixes else 'no'} |"


def _sections(methods: Mapping[str, Method]) -> Iterator[str]:
    for method in methods.values():
        yield from ("", f"## `{method.name}`", "", f"[{method.title}]({method.paper}): {update_of(method)}")
        yield from (["", remarks_on(method), ""] if remarks_on(method) else [""])
        if method.settings:
            yield from ("| setting | default | |", "|---|---|---|")
        for setting in method.settings:
            star = " *" if setting.per_site else ""
            doc = setting.doc.replace("|", "\\|")
            yield f"| `{setting.name}`{star} | `{_default(setting)}` | {doc}; {setting.wanted} |"


def _missing(not_supported: Mapping[str, str]) -> Iterator[str]:
    yield from ("", "## Not offered", "", "| PEFT's name | why |", "|---|---|")
    for name, reason in not_supported.items():
        yield f"| {name} | {reason} |"

"""Source text to syntax tree, with every syntax error of the file."""

from __future__ import annotations

from lark import Tree, UnexpectedInput

from surgery.diagnostics import Diagnostic, Diagnostics, Source, Span
from surgery.language import tree
from surgery.language.builder import Builder
from surgery.language.grammar import lalr
from surgery.language.scanning import (
    DEEPEST_TREE,
    MOST_ERRORS,
    RESERVED_STATEMENTS,
    check_brackets,
    check_edition,
    chunks,
    edition_end,
    in_order,
)
from surgery.language.syntax_errors import diagnose

_RESERVED = {
    "use": (
        "`use` will read lets and protections from another file",
        "for now write what you need of that file into this one",
    ),
    "serve": (
        "`serve` will check that the plan loads in a serving runtime",
        "for now leave it out, and try the exported adapter in the runtime itself",
    ),
}


def parse(source: Source) -> tuple[tree.Spec, Diagnostics]:
    """The syntax tree of a file, and what the names and types in it got wrong so far.

    Raises SurgeryError with all syntax errors (E00xx), if there are any: then there is no tree to go on with.
    """
    found = Diagnostics()
    if edition_error := check_edition(source):
        found.add(edition_error)
        found.raise_errors()
    found.extend(check_brackets(source))
    found.raise_errors()
    try:
        parsed = lalr().parse(source.text)
    except UnexpectedInput as error:
        found.extend(_errors_by_statement(source) or [diagnose(error, source, 0)])
        found.raise_errors()
        raise AssertionError("a syntax error was found, and not reported") from error
    found.extend(_too_deep(source, parsed))
    found.raise_errors()
    builder = Builder(source, found)
    spec = builder.spec(parsed)
    if any(diagnostic.code.startswith("E00") for diagnostic in found):
        in_order(found).raise_errors()
    return spec, found


def _errors_by_statement(source: Source) -> list[Diagnostic]:
    """The syntax errors of each statement, found by parsing each alone."""
    found: list[Diagnostic] = []
    lead = "surg 1\n"
    for start, end in _statements(source):
        text = source.text[start:end]
        keyword = text.split(None, 1)[0]
        if keyword in RESERVED_STATEMENTS:
            found.append(_reserved(source, keyword, start))
        else:
            try:
                lalr().parse(lead + text)
            except UnexpectedInput as error:
                found.append(diagnose(error, source, start - len(lead)))
        if len(found) >= MOST_ERRORS:
            break
    return found


def _statements(source: Source) -> list[tuple[int, int]]:
    """The file in chunks: what stands between the edition and the first statement, then each statement."""
    ranges = list(chunks(source.text))
    edition = edition_end(source)
    first = ranges[0][0] if ranges else len(source.text)
    return [(edition, first), *ranges] if source.text[edition:first].strip() else ranges


def _reserved(source: Source, keyword: str, start: int) -> Diagnostic:
    meaning, way_out = _RESERVED[keyword]
    return Diagnostic(
        "E0007",
        f"`{keyword}` is reserved for a later edition",
        Span(source, start, start + len(keyword)),
        notes=(meaning,),
        helps=(way_out,),
    )


def _too_deep(source: Source, parsed: Tree) -> list[Diagnostic]:  # type: ignore[type-arg]
    """E0008 for long chains of operators: they nest as brackets do, and every later pass recurses over them."""
    depths: dict[int, int] = {}
    for node in parsed.iter_subtrees():
        depths[id(node)] = 1 + max((depths[id(c)] for c in node.children if isinstance(c, Tree)), default=0)
        if depths[id(node)] > DEEPEST_TREE:
            span = Span(source, node.meta.start_pos, node.meta.end_pos)
            return [
                Diagnostic(
                    "E0008",
                    f"an expression chains more than {DEEPEST_TREE} operators",
                    span,
                    helps=("name parts of it with `let`, or give one selector several arguments",),
                )
            ]
    return []

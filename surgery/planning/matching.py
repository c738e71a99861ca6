"""Which modules or parameters of a tree a glob matches, and what to say when it matches none.

A glob is walked through the module tree, not run as a regular expression over paths: slices need to know a
module's numbered children, and a walk stays linear in the modules that the glob reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cached_property

from surgery.diagnostics import Diagnostic
from surgery.graph import Graph
from surgery.language.globs import Alternatives, AnyDepth, Glob, Literal, Segment, Slice, Wildcard, join
from surgery.language.nearest import listed
from surgery.planning.words import shown

Segments = tuple[Segment, ...]
Places = frozenset[str]

_ROOT: Places = frozenset([""])


class ModuleTree:
    """The module tree of a graph, indexed for walking."""

    noun = "module"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._children: dict[str, dict[str, str]] = {
            path: {child.rpartition(".")[2]: child for child in children} for path, children in graph.children.items()
        }

    def chosen(self, places: Places) -> Places:
        """Those places that a glob can select: all modules but the model itself, which has no path."""
        return places - _ROOT

    def children(self, path: str) -> dict[str, str]:
        """The paths of a module's direct children by their names, in order."""
        return self._children.get(path, {})

    def numbered(self, path: str) -> list[str]:
        """The paths of the children whose names are numbers, by number."""
        names = self.children(path)
        return [names[name] for name in sorted((n for n in names if n.isdecimal() and n.isascii()), key=int)]

    def inside(self, paths: Iterable[str]) -> frozenset[str]:
        """Everything strictly below any of `paths`."""
        found: set[str] = set()
        waiting = [child for path in paths for child in self.children(path).values()]
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting.extend(self.children(path).values())
        return frozenset(found)

    def containing(self, paths: Iterable[str]) -> frozenset[str]:
        """Everything that has any of `paths` strictly below it, the model itself (path "") included."""
        found: set[str] = set()
        for path in paths:
            while path:
                path = path.rpartition(".")[0]
                if path in found:
                    break
                found.add(path)
        return frozenset(found)

    @cached_property
    def names(self) -> frozenset[str]:
        """Every last segment of a path."""
        return frozenset(name for children in self._children.values() for name in children)

    def match(self, glob: Glob) -> frozenset[str]:
        """What the glob selects."""
        return self.chosen(self._walk(_ROOT, glob.segments))

    def complaints(self, glob: Glob, matched: frozenset[str]) -> Iterator[Diagnostic]:
        """E0201 if the glob `matched` nothing, else E0202 for each of its alternatives that matches nothing."""
        if not matched:
            helps = self._second_place(glob.text) or self._of_the_other_kind(glob) or self._suggestion(glob.segments)
            message = f'no {self.noun} matches "{glob.text}"'
            yield Diagnostic("E0201", message, glob.span, label="matches nothing", helps=helps)
        else:
            yield from self._idle_alternatives(_ROOT, glob.segments, (), glob)

    def _walk(self, places: Places, segments: Segments) -> Places:
        for segment in segments:
            if not places:
                break
            places = self._step(places, segment)
        return places

    def _step(self, places: Places, segment: Segment) -> Places:
        match segment:
            case AnyDepth():
                return places | self.inside(places)
            case Literal():
                found = (self.children(place).get(segment.name) for place in places)
                return frozenset(path for path in found if path is not None)
            case Wildcard():
                children = (child for place in places for child in self.children(place).items())
                return frozenset(path for name, path in children if segment.fits(name))
            case Slice():
                return frozenset(path for place in places for path in self.numbered(place)[segment.slice])
            case Alternatives():
                return frozenset[str]().union(*(self._walk(places, option) for option in segment.options))
        raise AssertionError(f"no rule walks {type(segment).__name__}")

    def _of_the_other_kind(self, glob: Glob) -> tuple[str, ...]:
        """What to say of a glob that fits no module but parameters."""
        parameters = ParameterTree(self.graph)
        if not (found := parameters.match(glob)):
            return ()
        first = min(found)
        holder = self.graph.holder(first).path
        return (f"`{first}` is a parameter of `{shown(holder)}`: select that module, or write `param(...)`",)

    def _second_place(self, path: str) -> tuple[str, ...]:
        """What to say of a path at which a module stands that has another one already."""
        for first, module in self.graph.modules.items():
            if path in module.tied and path not in self.graph:
                return (f"`{path}` is the same module as `{first}`, and goes by that path",)
        return ()

    def _idle_alternatives(
        self, places: Places, segments: Segments, after: Segments, glob: Glob
    ) -> Iterator[Diagnostic]:
        """Complaints about the alternatives in `segments`, which start at `places` and are followed by `after`."""
        for at, segment in enumerate(segments):
            if isinstance(segment, Alternatives):
                rest = segments[at + 1 :] + after
                for option, span in zip(segment.options, segment.spans, strict=True):
                    if self.chosen(self._walk(places, option + rest)):
                        yield from self._idle_alternatives(places, option, rest, glob)
                    else:
                        yield Diagnostic(
                            "E0202",
                            f'alternative `{join(option)}` of "{glob.text}" matches nothing',
                            span,
                            label="matches nothing",
                            helps=self._suggestion(option + rest, places),
                        )
            places = self._step(places, segment)

    def _suggestion(self, segments: Segments, places: Places = _ROOT) -> tuple[str, ...]:
        """What the author may have meant: the glob with its first failing segment replaced by the nearest name."""
        at = 0
        while at < len(segments) and (reached := self._step(places, segments[at])):
            places, at = reached, at + 1
        if at == len(segments):
            return (self._cannot_choose(places),)
        failing = segments[at]
        if isinstance(failing, Alternatives):
            return self._suggestion(failing.options[0], places)
        if isinstance(failing, Slice):
            return (self._numbered_help(places),)
        here = frozenset(name for place in places for name in self.children(place))
        for names in (here, self.names):
            for name in get_close_matches(str(failing).strip("*"), sorted(names), n=3, cutoff=0.5):
                if found := self.chosen(self._walk(places, (Literal(name), *segments[at + 1 :]))):
                    return (f"did you mean `{name}`, as in {self._first(found)}?",)
        nearest = get_close_matches(str(failing).strip("*"), sorted(here or self.names), n=3, cutoff=0.0)
        return (f"the nearest names there are {', '.join(f'`{name}`' for name in nearest)}",) if nearest else ()

    def _numbered_help(self, places: Places) -> str:
        counts = {place: len(self.numbered(place)) for place in places}
        place, most = max(counts.items(), key=lambda item: item[1])
        if not most:
            return "no module there has numbered children"
        return f"`{place}` has {most} numbered children, 0 to {most - 1}"

    def _cannot_choose(self, places: Places) -> str:
        """What to say where a glob leads to places that it cannot select."""
        return 'select the modules by their names: "*" stands for those at the top'

    def _first(self, paths: Places) -> str:
        return next(path for path in self.graph if path in paths)


class ParameterTree(ModuleTree):
    """The same tree with the parameters of every module among its children: `param("**.experts.down_proj")`."""

    noun = "parameter"

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._parameters: dict[str, None] = {}
        for path, module in graph.modules.items():
            own = {p.name: f"{path}.{p.name}" if path else p.name for p in module.parameters}
            self._parameters.update(dict.fromkeys(own.values()))
            self._children[path] = {**own, **self._children[path]}

    def chosen(self, places: Places) -> Places:
        """The parameters among these places."""
        return frozenset(path for path in places if path in self._parameters)

    def _of_the_other_kind(self, glob: Glob) -> tuple[str, ...]:
        return ()

    def _second_place(self, path: str) -> tuple[str, ...]:
        return super()._second_place(path.rpartition(".")[0])

    def _cannot_choose(self, places: Places) -> str:
        place = min(places, key=lambda path: (len(path), path))
        names = [path.rpartition(".")[2] for path in self.chosen(frozenset(self.children(place).values()))]
        if not names:
            return f"`{shown(place)}` is a module, and holds no parameter itself: `**` stands for any depth"
        return f"`{shown(place)}` is a module; its parameters are {listed(sorted(names))}"

    def _first(self, paths: Places) -> str:
        return next(path for path in self._parameters if path in paths)

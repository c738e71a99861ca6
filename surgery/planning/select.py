"""From the selectors of a spec to sets of modules and of parameters of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph
from surgery.language import tree
from surgery.language.globs import parse_glob
from surgery.language.nearest import did_you_mean, listed
from surgery.language.spec import LoadedSpec
from surgery.language.walking import walk
from surgery.planning import facts
from surgery.planning.conditions import holds, numbers
from surgery.planning.matching import ModuleTree, ParameterTree
from surgery.planning.selection import Selection, union

Vouchable = tree.Inits | tree.Roles | tree.FactSet
FactKey = tuple[str, str]


class Selector:
    """Evaluates sets of one spec against one graph; each set and each fact is worked out once.

    What matches nothing is reported to `found` (E0201, E0202): globs and classes wherever they stand, roles and
    other facts only where something is chosen by them (`strict`). That nothing has the role a `never` names
    is no mistake of the author: one file of protections serves many models.
    """

    def __init__(self, spec: LoadedSpec, graph: Graph, found: Diagnostics) -> None:
        self.spec = spec
        self.graph = graph
        self.found = found
        self.tree = ModuleTree(graph)
        self._lets = {let.name.name: let.value for let in spec.tree.lets}
        self._known: dict[tuple[int, bool], Selection] = {}
        self._facts: dict[FactKey, Selection] = {}
        self._vouched: dict[FactKey, frozenset[str]] = {}
        for assume in spec.tree.assumes:
            self._vouch(assume)
        self._known.clear()  # what was worked out before all was vouched for

    def _vouch(self, assume: tree.Assume) -> None:
        chosen = self(assume.value)
        paths = chosen.yes
        keys = fact_keys(assume.fact)
        denied = self.ordered(chosen.members - union(self._fact(key) for key in keys).possible)
        if denied:
            self.found.add(
                Diagnostic(
                    "E0309",
                    f"the graph knows that `{assume.fact.span.text}` is not so of {denied[0] or 'the model itself'}",
                    assume.value.span,
                    label=f"{len(denied)} such modules" if len(denied) > 1 else "",
                    helps=("`assume` is for what the graph does not know; take out what it does know",),
                )
            )
        for key in keys:
            vouched = paths & self._facts.pop(key).possible
            self._vouched[key] = self._vouched.get(key, frozenset()) | vouched

    def __call__(self, node: tree.Set, *, strict: bool = False) -> Selection:
        """What is in a set. `node` is part of the spec's tree, which outlives this object."""
        key = (id(node), strict)
        if key not in self._known:
            self._known[key] = self._select(node, strict)
        return self._known[key]

    def is_reported(self, node: tree.Set | tree.Expect) -> bool:
        """Whether a part of a set, or of a `let` that it uses, was reported as matching nothing."""
        spans = [node.span]
        waiting: list[tree.Set | tree.Expect] = [node]
        while waiting:
            for part in walk(waiting.pop()):
                if isinstance(part, tree.LetName) and self._lets[part.name].span not in spans:
                    spans.append(self._lets[part.name].span)
                    waiting.append(self._lets[part.name])
        reported = [found.span for found in self.found if found.is_error and found.span]
        return any(s.source is part.source and part.start <= s.start < part.end for s in reported for part in spans)

    def count(self, node: tree.Set) -> int:
        """`count(S)`: how many modules and parameters are in a set for certain."""
        return len(self(node).members)

    def vouched(self, key: FactKey) -> frozenset[str]:
        """What an `assume` says has the fact."""
        return self._vouched.get(key, frozenset())

    def ordered(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Paths in the order of the model's modules, parameters behind the module that holds them."""
        return tuple(sorted(paths, key=self._order.__getitem__))

    @cached_property
    def _order(self) -> dict[str, int]:
        if not self.parameters:
            return {path: at for at, path in enumerate(self.graph)}
        order: dict[str, int] = {}
        for path, module in self.graph.modules.items():
            for name in (path, *(f"{path}.{p.name}" if path else p.name for p in module.parameters)):
                order[name] = len(order)
        return order

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The parameters that the spec speaks of: all that one of its `param(...)` matches, by their full paths."""
        found: set[str] = set()
        for node in walk(self.spec.tree):
            for text in node.globs if isinstance(node, tree.Parameters) else ():
                with suppress(SurgeryError):  # reported where the set is asked for
                    found |= self._parameter_tree.match(parse_glob(text.value, text.span))
        return frozenset(found)

    @cached_property
    def _parameter_tree(self) -> ParameterTree:
        return ParameterTree(self.graph)

    def _select(self, node: tree.Set, strict: bool) -> Selection:
        match node:
            case tree.Paths():
                return self.with_held(union(self._glob(text, self.tree) for text in node.globs))
            case tree.Parameters():
                return union(self._glob(text, self._parameter_tree) for text in node.globs)
            case tree.Kinds():
                return union(self._kind(word) for word in node.words)
            case tree.Roles() | tree.Inits():
                return union(self._fact_word(node, word, strict) for word in node.words)
            case tree.FactSet():
                return self._fact((node.fact, ""))
            case tree.Related():
                return self._related(node, strict)
            case tree.Indexed():
                return self._indexed(node, strict)
            case tree.Where():
                return self._where(node)
            case tree.LetName():
                return self(self._lets[node.name], strict=strict)
            case tree.Combined():
                return self._combined(node, strict)
        raise AssertionError(f"no rule selects {type(node).__name__}")

    def _combined(self, node: tree.Combined, strict: bool) -> Selection:
        left = self(node.left, strict=strict)
        # What is taken away chooses nothing: it need not exist.
        right = self(node.right, strict=strict and node.operator != "-")
        if node.operator == "|":
            return left | right
        return left & right if node.operator == "&" else left - right

    def with_held(self, modules: Selection) -> Selection:
        """A set of modules with the parameters that belong to it."""
        if not self.parameters:
            return modules
        return modules | facts.of_parameters(self.graph, self.parameters, ("", ""), modules)

    def _glob(self, text: tree.Text, among: ModuleTree) -> Selection:
        try:
            glob = parse_glob(text.value, text.span)
        except SurgeryError as error:
            self.found.extend(error.diagnostics)
            return Selection()
        matched = among.match(glob)
        self.found.extend(among.complaints(glob, matched))
        return Selection(matched)

    def _kind(self, word: tree.Word) -> Selection:
        found = self._fact(("kind", word.name))
        if not found.yes:
            classes = {name for module in self.graph.modules.values() for name in facts.kinds(module)}
            self._nothing(word, f"no module is a `{word.name}`", did_you_mean(word.name, classes, listed_some(classes)))
        return found

    def _fact_word(self, node: tree.Roles | tree.Inits, word: tree.Word, strict: bool) -> Selection:
        sort = "role" if isinstance(node, tree.Roles) else "init"
        found = self._fact((sort, word.name))
        if strict and not found.possible:
            if sort == "role":
                present = sorted({role for module in self.graph.modules.values() for role in module.roles})
                help = f"the roles in this model are {listed(present)}" if present else "no module has any role"
                self._nothing(word, f"no module has the role `{word.name}`", (help,))
            else:
                self._nothing(word, f"no module starts as `{word.name}`", ("`surgery facts` lists the initial values",))
        return found

    def _nothing(self, word: tree.Word, message: str, helps: tuple[str, ...]) -> None:
        self.found.add(Diagnostic("E0201", message, word.span, label="matches nothing", helps=helps))

    def _fact(self, key: FactKey) -> Selection:
        if key not in self._facts:
            sort, word = key
            selection = {
                "kind": lambda: facts.of_kind(self.graph, word),
                "role": lambda: facts.with_role(self.graph, word),
                "init": lambda: facts.with_init(self.graph, word),
            }.get(sort, lambda: facts.with_fact(self.graph, sort))()
            if self.parameters:
                selection |= facts.of_parameters(self.graph, self.parameters, key, selection)
            if key in self._vouched:
                selection = selection.known_by(self._vouched[key])
            self._facts[key] = selection
        return self._facts[key]

    def _related(self, node: tree.Related, strict: bool) -> Selection:
        relation = self._relation(node.relation)
        of = self(node.of, strict=strict)
        yes = relation(of.members)
        maybe: dict[str, str] = {}
        if doubtful := of.doubtful:
            why = next(iter(doubtful.values()))
            maybe = dict.fromkeys(relation(of.members | doubtful.keys()) - yes, why)
        found = self.with_held(Selection(yes, maybe))
        if node.relation == "inside" and self.parameters:
            # The parameters of a module lie inside it.
            found |= facts.of_parameters(self.graph, self.parameters, ("", ""), Selection(of.members, of.doubtful))
        return found

    def _relation(self, name: str) -> Callable[[frozenset[str]], frozenset[str]]:
        if name == "inside":
            return self.tree.inside
        if name == "containing":
            return self.tree.containing
        from surgery.facts import relations

        relation: Callable[[Graph, frozenset[str]], frozenset[str]] = getattr(relations, name)
        # A parameter is fed, and feeds, as the module that holds it.
        return lambda paths: relation(self.graph, frozenset(self.graph.holder(path).path for path in paths))

    def _indexed(self, node: tree.Indexed, strict: bool) -> Selection:
        of = self(node.of, strict=strict)
        slices = [as_slice(part) for part in node.slices]
        for part, chosen in zip(node.slices, slices, strict=True):
            if of.possible and not facts.in_blocks(self.graph, of.possible, [chosen]):
                self._no_block(part, of.possible)
        return of.kept(facts.in_blocks(self.graph, of.possible, slices))

    def _no_block(self, part: tree.Slice, members: frozenset[str]) -> None:
        families = dict.fromkeys(b.family for path in members if (b := self.graph.holder(path).block))
        counts = facts.family_sizes(self.graph, families)
        sizes = ", ".join(f"{family} has {size} (0 to {size - 1})" for family, size in counts.items())
        self.found.add(
            Diagnostic(
                "E0202",
                f"no block has an index in `{part.span.text}`",
                part.span,
                label="matches nothing",
                helps=(f"of the families of blocks, {sizes}" if sizes else "none of these modules lies in a block",),
            )
        )

    def _where(self, node: tree.Where) -> Selection:
        try:
            modules = {
                p for p, module in self.graph.modules.items() if holds(self.spec, node.condition, numbers(module))
            }
            held = {p for p in self.parameters if holds(self.spec, node.condition, self._numbers(p))}
        except SurgeryError as error:
            self.found.extend(error.diagnostics)
            return Selection()
        return Selection(frozenset(modules | held), implied=frozenset(held))

    def _numbers(self, path: str) -> dict[str, int]:
        """Those of a parameter are its module's, but for `parameters`: its own size."""
        parameter = self.graph.parameter(path)
        assert parameter is not None
        return {**numbers(self.graph.holder(path)), "parameters": parameter.numel}


def listed_some(names: Iterable[str]) -> str:
    """A few of `names`, for a name that is near to none."""
    found = sorted(names)
    return f"there are {listed(found[:8])}" + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def as_slice(node: tree.Slice) -> slice:
    """The Python slice of `3`, `0:11`, `::2`, `-4:`."""
    if node.single:
        assert node.start is not None
        return slice(node.start, node.start + 1 or None)
    return slice(node.start, node.stop, node.step)


def fact_keys(node: Vouchable) -> list[FactKey]:
    """What an `assume` vouches for, one key per word."""
    if isinstance(node, tree.FactSet):
        return [(node.fact, "")]
    sort = "role" if isinstance(node, tree.Roles) else "init"
    return [(sort, word.name) for word in node.words]

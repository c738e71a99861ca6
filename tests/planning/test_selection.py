"""Three-valued sets, against their definition path by path."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from surgery.planning.selection import Selection, union

PATHS = "abcdef"
YES, NO, MAYBE = "yes", "no", "maybe"
answers = st.fixed_dictionaries({path: st.sampled_from((YES, NO, MAYBE)) for path in PATHS})


def selection(answer: dict[str, str]) -> Selection:
    return Selection(
        frozenset(path for path in PATHS if answer[path] == YES),
        {path: f"why {path}" for path in PATHS if answer[path] == MAYBE},
    )


def answer_of(found: Selection) -> dict[str, str]:
    assert not found.yes & found.maybe.keys()
    return {path: YES if path in found.yes else MAYBE if path in found.maybe else NO for path in PATHS}


def kleene(combine: Callable[[bool, bool], bool], left: str, right: str) -> str:
    """The answer that all ways to settle the doubts agree on, else maybe."""
    ways = {YES: (True,), NO: (False,), MAYBE: (True, False)}
    found = {combine(a, b) for a in ways[left] for b in ways[right]}
    return MAYBE if len(found) == 2 else YES if found == {True} else NO


@given(answers, answers)
def test_operators_are_kleenes(left: dict[str, str], right: dict[str, str]) -> None:
    a, b = selection(left), selection(right)
    assert answer_of(a | b) == {p: kleene(lambda x, y: x or y, left[p], right[p]) for p in PATHS}
    assert answer_of(a & b) == {p: kleene(lambda x, y: x and y, left[p], right[p]) for p in PATHS}
    assert answer_of(a - b) == {p: kleene(lambda x, y: x and not y, left[p], right[p]) for p in PATHS}


@given(st.lists(answers, max_size=4))
def test_union_is_repeated_or(many: list[dict[str, str]]) -> None:
    found = Selection()
    for answer in many:
        found = found | selection(answer)
    assert answer_of(union(selection(answer) for answer in many)) == answer_of(found)


def test_doubt_keeps_its_reason() -> None:
    found = Selection(frozenset("ab")) - Selection(maybe={"a": "nobody knows"})
    assert found == Selection(frozenset("b"), {"a": "nobody knows"})


def test_what_is_vouched_for_settles_every_doubt() -> None:
    doubtful = Selection(frozenset("a"), {"b": "why", "c": "why"})
    assert doubtful.known_by(frozenset("b")) == Selection(frozenset("ab"))


PARAMETERS = frozenset("def")  # of the paths, those that are parameters; the others are modules
sets = st.recursive(
    st.tuples(st.sampled_from(("path", "param")), st.frozensets(st.sampled_from(PATHS))),
    lambda inner: st.tuples(st.sampled_from("|&-"), inner, inner),
    max_leaves=6,
)


def evaluated(node: tuple) -> Selection:
    """A set as the selector builds it: `path` holds modules, and implies parameters; `param` holds parameters."""
    operator, *parts = node
    if operator == "path":
        return Selection(parts[0], implied=parts[0] & PARAMETERS)
    if operator == "param":
        return Selection(parts[0] & PARAMETERS)
    left, right = map(evaluated, parts)
    return left | right if operator == "|" else left & right if operator == "&" else left - right


def defined(node: tuple) -> tuple[frozenset[str], frozenset[str]]:
    """By the definition: the members of a set, and the parameters that belong to it."""
    operator, *parts = node
    if operator == "path":
        return parts[0] - PARAMETERS, parts[0] & PARAMETERS
    if operator == "param":
        return parts[0] & PARAMETERS, parts[0] & PARAMETERS
    (left, ours), (right, theirs) = map(defined, parts)
    modules, parameters = left - PARAMETERS, left & PARAMETERS
    if operator == "|":
        return left | right, ours | theirs
    if operator == "&":
        return modules & right | parameters & theirs | right & PARAMETERS & ours, ours & theirs
    return (modules - right) | (parameters - theirs), ours - theirs


@given(sets)
def test_parameters_are_members_where_they_are_named(node: tuple) -> None:
    found, (members, belonging) = evaluated(node), defined(node)
    assert found.members == members
    assert found.yes & PARAMETERS == belonging
    assert union([found, Selection()]) == found

"""Lists of paths as globs: nothing lost, nothing added."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from surgery.planning.grouping import group_paths

names = st.sampled_from(["blocks", "a", "b", "0", "1", "2", "3", "7", "00", "10", "{x}", "a+", "é"])
path_lists = st.lists(st.lists(names, min_size=1, max_size=5).map(".".join), max_size=40)


@given(path_lists)
def test_groups_hold_exactly_the_paths(paths: list[str]) -> None:
    expanded = [path for group in group_paths(paths) for path in group.paths()]
    assert sorted(expanded) == sorted(set(paths))


def test_blocks_become_one_line() -> None:
    leaves = ("attn.to_q", "attn.to_k", "attn.to_out.0", "ff.0.0", "ff.2")
    found = group_paths(f"blocks.{block}.{leaf}" for block in range(22) for leaf in leaves)
    assert [str(group) for group in found] == ["blocks.[0:22].attn.{to_q,to_k,to_out.0}", "blocks.[0:22].ff.{0.0,2}"]
    assert [len(group) for group in found] == [66, 44]


def test_ranges_with_steps_and_gaps() -> None:
    assert [str(g) for g in group_paths(f"b.{i}" for i in (0, 2, 4))] == ["b.[0:5:2]"]
    assert [str(g) for g in group_paths(f"b.{i}" for i in (0, 1, 5))] == ["b.{0,1,5}"]
    assert [str(g) for g in group_paths(f"l.{i}.experts.{j}.w" for i in range(3) for j in range(4))] == [
        "l.[0:3].experts.[0:4].w"
    ]


def test_the_model_itself_has_a_name() -> None:
    assert [str(group) for group in group_paths([""])] == ["(the model itself)"]

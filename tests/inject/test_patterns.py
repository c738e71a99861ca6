import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from surgery.inject.patterns import MODEL_PREFIX, anchored, anywhere_wrapped, exactly

# Names that a pattern made without care gets wrong: prefixes of each other, digits, metacharacters, spaces.
NAMES = st.sampled_from(
    [
        "a",
        "ab",
        "0",
        "1",
        "10",
        "to_q",
        "to_k",
        "x+",
        "(",
        ")",
        "[0]",
        "a|b",
        "^a",
        "a$",
        "\\d",
        ".*"[1:],
        "?",
        "ä b",
        "-",
    ]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(".".join)
TREES = st.lists(PATHS, min_size=1, max_size=30, unique=True)


@st.composite
def planned_of_a_tree(draw):
    tree = draw(TREES)
    return draw(st.sets(st.sampled_from(tree), min_size=1)), tree


@given(planned_of_a_tree())
def test_peft_selects_exactly_the_planned_paths(case):
    planned, tree = case
    config = LoraConfig(target_modules=exactly(planned))
    assert {path for path in tree if check_target_module_exists(config, path)} == planned


@given(planned_of_a_tree())
def test_the_wrapped_form_selects_the_same_with_and_without_pefts_prefix(case):
    planned, tree = case
    config = LoraConfig(target_modules=anywhere_wrapped(exactly(planned)))
    assert {path for path in tree if check_target_module_exists(config, path)} == planned
    assert {path for path in tree if check_target_module_exists(config, MODEL_PREFIX + path)} == planned


@given(planned_of_a_tree())
def test_a_rank_pattern_holds_for_exactly_its_paths(case):
    planned, tree = case
    for key in (anchored(exactly(planned)), anchored(anywhere_wrapped(exactly(planned)))):
        assert {path for path in tree if get_pattern_key([key], path) == key} == planned


@given(TREES)
def test_every_path_is_matched_and_its_extensions_are_not(paths):
    pattern = re.compile(exactly(paths))
    for path in paths:
        assert pattern.fullmatch(path)
        for other in (path + "x", "x" + path, path + ".x", "x." + path, path.replace(".", "x")):
            assert bool(pattern.fullmatch(other)) == (other in paths)


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (["lm_head"], "lm_head"),
        (
            [f"transformer_blocks.{i}.attn.{name}" for i in range(3) for name in ("to_q", "to_out.0")],
            r"transformer_blocks\.[0-2]\.attn\.(?:to_out\.0|to_q)",
        ),
        (["a", "a.b"], r"a(?:\.b)?"),
        (["h.10.c", "h.2.c", "h.2.d"], r"h\.(?:2\.(?:c|d)|10\.c)"),
    ],
)
def test_common_parts_are_written_once(paths, pattern):
    assert exactly(paths) == pattern


def test_the_pattern_of_a_large_model_stays_small():
    paths = [
        f"transformer_blocks.{i}.{name}"
        for i in range(126)
        for name in ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.ff.0.0", "ff.ff.2")
    ]
    assert len(exactly(paths)) < 1000

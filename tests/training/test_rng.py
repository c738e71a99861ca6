import random

import numpy
import torch

from surgery.training.rng import derived_seed, read_rng, seeded, undisturbed, write_rng


def draw():
    return random.random(), random.gauss(0, 1), numpy.random.randn(), torch.rand(3).tolist()


def test_writing_a_state_back_repeats_what_was_drawn():
    draw()  # leaves a cached gaussian in Python's and numpy's
    state = read_rng()
    first = [draw() for _ in range(5)]
    write_rng(state)
    assert [draw() for _ in range(5)] == first


def test_a_block_may_draw_without_leaving_a_trace():
    state = read_rng()
    expected = draw()
    for block in (undisturbed(), seeded(2**63 - 1)):
        write_rng(state)
        with block:
            draw()
        assert draw() == expected


def test_a_seeded_block_repeats_itself():
    with seeded(7):
        first = draw()
    draw()
    with seeded(7):
        assert draw() == first
    with seeded(8):
        assert draw() != first


def test_derived_seeds_differ_by_place_and_fit_torch():
    seeds = {derived_seed(seed, "epoch", number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)

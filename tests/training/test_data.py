from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery.training.data import DataOrder, make_loader

orders = st.builds(
    DataOrder,
    samples=st.integers(3, 40),
    batch_size=st.integers(1, 7),
    accumulation=st.integers(1, 4),
    seed=st.integers(0, 2**31 - 1),
    processes=st.integers(1, 3),
)


def of_all_processes(order, start, stop):
    return [list(replace(order, process=process).batches(start, stop)) for process in range(order.processes)]


@given(orders, st.integers(0, 30), st.integers(0, 30))
def test_starting_anywhere_gives_the_rest_of_the_same_order(order, start, more):
    whole = list(order.batches(0, start + more))
    assert list(order.batches(start, start + more)) == [batch for batch in whole if batch.step >= start]


@given(orders)
def test_an_epoch_reads_every_sample_at_most_once_and_leaves_out_fewer_than_the_processes(order):
    parts = of_all_processes(order, 0, order.steps_per_epoch)
    counts = Counter(index for batches in parts for batch in batches for index in batch.indices)
    assert set(counts.values()) == {1}
    assert set(counts) <= set(range(order.samples))
    assert order.samples - len(counts) < order.processes
    assert order.samples_seen(order.steps_per_epoch) == len(counts)


@given(orders, st.integers(0, 20))
def test_samples_seen_counts_what_the_steps_read(order, steps):
    parts = of_all_processes(order, 0, steps)
    assert order.samples_seen(steps) == sum(len(batch.indices) for batches in parts for batch in batches)


@given(orders)
def test_weights_make_the_mean_over_the_samples_of_a_step(order):
    parts = of_all_processes(order, 0, 2 * order.steps_per_epoch)
    for step in range(2 * order.steps_per_epoch):
        batches = [batch for part in parts for batch in part if batch.step == step]
        total = sum(len(batch.indices) for batch in batches)
        # Processes average their gradients, so a sample's share is weight / size / processes.
        shares = [batch.weight / len(batch.indices) / order.processes for batch in batches]
        assert shares == pytest.approx([1 / total] * len(batches))
        assert [sum(batch.is_last for batch in part if batch.step == step) for part in parts] == [1] * order.processes


def test_epochs_are_shuffled_differently_and_by_the_seed():
    order, other = DataOrder(50, 5, 1, seed=1), DataOrder(50, 5, 1, seed=2)
    assert not torch.equal(order.permutation(0), order.permutation(1))
    assert not torch.equal(order.permutation(0), other.permutation(0))


class Noisy:
    """Samples with augmentation drawn from all three generators."""

    def __len__(self):
        return 17

    def __getitem__(self, index):
        import random

        import numpy

        return torch.tensor([index, random.random(), numpy.random.rand(), torch.rand(()).item()], dtype=torch.float64)


def drawn(start, num_workers):
    order = DataOrder(17, 4, 2, seed=3)
    loader = make_loader(Noisy(), torch.stack, order, start=start, stop=6, num_workers=num_workers)
    return {(part.step, part.indices): batch for part, batch in loader}


def test_augmentation_depends_neither_on_workers_nor_on_where_the_run_was_resumed():
    whole = drawn(0, num_workers=0)
    for other in (drawn(0, num_workers=2), drawn(3, num_workers=0), drawn(3, num_workers=2)):
        assert other
        assert all(torch.equal(batch, whole[key]) for key, batch in other.items())
    assert len({tuple(batch[0, 1:].tolist()) for batch in whole.values()}) == len(whole)


def test_loading_leaves_the_training_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drawn(0, num_workers=0)
    drawn(0, num_workers=2)
    assert torch.equal(torch.get_rng_state(), before)

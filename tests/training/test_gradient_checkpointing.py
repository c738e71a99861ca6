import pytest
import torch
from torch import nn

from surgery.diagnostics import SurgeryError
from surgery.training.gradient_checkpointing import checkpointable, gradient_checkpointing


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.dropout = nn.Dropout(0.3)
        self.runs = 0

    def forward(self, x, *, scale=1.0):
        self.runs += 1
        return x + self.dropout(torch.tanh(self.linear(x))) * scale


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x, scale=0.5)
        return x


def gradients(model, paths):
    """Of a batch that needs no gradient itself: what a frozen embedding would give."""
    torch.manual_seed(1)
    model.zero_grad()
    for block in model.blocks:
        block.runs = 0
    x = torch.randn(4, 6)
    modules = checkpointable(model, paths)
    with gradient_checkpointing(list(modules.values())):
        model(x).pow(2).mean().backward()
    return [p.grad.clone() for p in model.parameters()], [block.runs for block in model.blocks]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def test_gradients_equal_the_plain_ones_with_dropout(model):
    plain, runs = gradients(model, [])
    assert runs == [1, 1, 1]
    recomputed, runs = gradients(model, ["blocks.0", "blocks.2"])
    assert runs == [2, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_forwards_are_restored_also_after_an_error(model):
    with pytest.raises(ZeroDivisionError), gradient_checkpointing(list(model.blocks)):
        raise ZeroDivisionError
    assert all("forward" not in block.__dict__ for block in model.blocks)
    own = model.blocks[0].forward
    model.blocks[0].forward = own
    with gradient_checkpointing(list(model.blocks)):
        pass
    assert model.blocks[0].__dict__["forward"] is own


def test_nothing_is_recomputed_outside_training(model):
    with gradient_checkpointing(list(model.blocks)):
        with torch.no_grad():
            model(torch.randn(2, 6))
        model.eval()
        model(torch.randn(2, 6)).sum().backward()
    assert [block.runs for block in model.blocks] == [2, 2, 2]


def test_containers_and_missing_modules_are_refused_together(model):
    with pytest.raises(SurgeryError) as caught:
        checkpointable(model, ["blocks", "blocks.1", "blocks.7"])
    assert [(d.code, d.message.split("`")[1]) for d in caught.value.diagnostics] == [
        ("E0515", "blocks"),
        ("E0506", "blocks.7"),
    ]


def test_a_decoder_with_a_cache_has_the_same_gradients():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    model = LlamaModel(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=20,
        )
    ).train()
    ids = torch.arange(12).reshape(2, 6)

    def gradient():
        model.zero_grad()
        model(input_ids=ids, use_cache=True).last_hidden_state.pow(2).mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradient()
    with gradient_checkpointing([model.layers[0]]):
        recomputed = gradient()
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))

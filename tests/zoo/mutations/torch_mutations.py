"""Mutations of torch's own transformer layer."""

from __future__ import annotations

from mutations.case import LOST, Citation, Edit, maybe_called, mutation

TRANSFORMER = "torch.nn.modules.transformer"

mutation(
    "encoder",
    "fused path removed",
    Edit(
        TRANSFORMER,
        """
            if not why_not_sparsity_fast_path:
                tensor_args = (
        """,
        """
            if False:
                tensor_args = (
        """,
        times=2,
    ),
    changes={"layers.*.{self_attn,linear1,linear2,norm1,norm2}": {"bypassed": ("unknown", "no")}},
)

mutation(
    "encoder",
    "activation removed",
    Edit(
        TRANSFORMER,
        """
            x = self.linear2(self.dropout(self.activation(self.linear1(x))))
            return self.dropout2(x)
        """,
        """
            x = self.linear2(self.dropout(self.linear1(x)))
            return self.dropout2(x)
        """,
    ),
    changes={
        "layers.*.linear1": {"role feedforward_in": LOST},
        "layers.*.linear2": {"role feedforward_out": LOST},
    },
)

mutation(
    "encoder",
    "last linear read directly",
    Edit(
        TRANSFORMER,
        """
            x = self.linear2(self.dropout(self.activation(self.linear1(x))))
            return self.dropout2(x)
        """,
        """
            x = self.dropout(self.activation(self.linear1(x)))
            return self.dropout2(F.linear(x, self.linear2.weight, self.linear2.bias))
        """,
    ),
    changes={"layers.*.linear2": {"calls": ("1", "0"), "bypassed": ("unknown", "yes")}},
    cites=(Citation("layers.1.linear2", "bypassed", "self.linear2.weight, self.linear2.bias"),),
)

mutation(
    "encoder",
    "residual add removed",
    Edit(
        TRANSFORMER,
        """
            x
            + self._sa_block(x, src_mask, src_key_padding_mask, is_causal=is_causal)
        """,
        """
            self._sa_block(x, src_mask, src_key_padding_mask, is_causal=is_causal)
        """,
    ),
    changes={"layers.*.self_attn.out_proj": {"role residual_output": LOST}},
)

mutation(
    "encoder",
    "zero-init added",
    Edit(
        TRANSFORMER,
        """
            self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **factory_kwargs)
            self.dropout1 = Dropout(dropout)
        """,
        """
            self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **factory_kwargs)
            self.dropout1 = Dropout(dropout)
            torch.nn.init.zeros_(self.linear2.weight)
        """,
    ),
    changes={"layers.*.linear2": {"init weight": ("random", "zero")}, "layers.*.linear1": {"gradient": LOST}},
    cites=(Citation("layers.1.linear2", "init weight", "torch.nn.init.zeros_(self.linear2.weight)"),),
)

mutation(
    "encoder",
    "called in training only",
    Edit(
        TRANSFORMER,
        """
            x = self.norm2(x + self._ff_block(x))
        """,
        """
            x = x + self._ff_block(x)
            if self.training:
                x = self.norm2(x)
        """,
    ),
    changes={"layers.*.norm2": maybe_called("norm")},
)

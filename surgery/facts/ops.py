"""What the analyses know about ops: sets of names, as `surgery.capturing` records them."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Move values around, or copy them, without mixing them.
SHAPE = _names(
    "copy reshape reshape_as view view_as transpose swapaxes swapdims permute movedim moveaxis unsqueeze squeeze "
    "expand expand_as repeat repeat_interleave tile chunk split tensor_split split_with_sizes unbind getitem pick "
    "narrow select index_select gather take_along_dim contiguous flatten unflatten ravel T mT H mH t to type "
    "type_as float half double bfloat16 clone alias detach data flip roll pixel_shuffle pixel_unshuffle unfold "
    "fold pad constant_pad_nd view_as_complex view_as_real as_strided atleast_1d atleast_2d atleast_3d "
    "broadcast_to einops rearrange requires_grad cpu cuda masked_fill masked_select dropout alpha_dropout "
    "feature_dropout dropout1d dropout2d squeeze_copy nan_to_num clamp clamp_min clamp_max clip"
)
CONCATENATIONS = _names("cat concat concatenate stack hstack vstack dstack")
WRITES = _names("setitem index_put index_copy scatter masked_scatter slice_scatter select_scatter")
JOINS = CONCATENATIONS | WRITES
# Take only shape, dtype and device of their input: no value flows through.
# Take the values of their first operand; of the others shape, dtype and device only.
AS = _names("type_as view_as expand_as reshape_as to")
LIKE = _names("empty_like zeros_like ones_like full_like rand_like randn_like new_empty new_zeros new_ones new_full")
SUMS = _names("add sub rsub index_add scatter_add scatter_reduce")
PRODUCTS = _names("mul div rdiv")
# One value in, one value out, no parameters.
ACTIVATIONS = _names(
    "relu relu6 gelu silu swish mish sigmoid tanh softplus elu celu selu leaky_relu hardswish hardsigmoid "
    "hardtanh logsigmoid quick_gelu softsign tanhshrink square glu threshold prelu"
)
UNARY = _names(
    "neg abs exp log sqrt rsqrt pow reciprocal sin cos round floor ceil trunc long int erf erfc log1p expm1 sign"
)
# Without slope, so that no gradient passes.
FLAT = _names("detach data round floor ceil trunc sign heaviside")
# Bend what passes: activations and what people write them out with.
BENDS = ACTIVATIONS | _names("erf erfc exp sin cos pow maximum minimum where clamp clip clamp_min abs log1p expm1")
NORMS = _names("layer_norm rms_norm group_norm batch_norm instance_norm local_response_norm normalize")
POOLS = _names(
    "mean sum max amax norm linalg_norm linalg_vector_norm std var avg_pool1d avg_pool2d adaptive_avg_pool1d "
    "adaptive_avg_pool2d max_pool1d max_pool2d adaptive_max_pool2d interpolate upsample"
)
FUSED_ATTENTION = _names(
    "scaled_dot_product_attention flash_attn_func flash_attn_varlen_func flex_attention memory_efficient_attention"
)
MULTI_HEAD = "multi_head_attention_forward"
TENSOR_NAMES = "tensors"  # its argument that names its inputs, in order
CONVOLUTIONS = _names("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
# Multiply an activation with a parameter.
PROJECTIONS = _names("linear embedding embedding_bag bilinear") | CONVOLUTIONS
# Multiply two operands: a projection where one of them comes from parameters alone.
PRODUCTS_OF_MATRICES = _names(
    "matmul mm bmm addmm baddbmm addbmm einsum tensordot mv _grouped_mm grouped_mm chain_matmul"
)
ADDED_PRODUCTS = _names("addmm baddbmm addbmm")  # their first operand is added, no factor
MAGNITUDES = _names("norm linalg_norm linalg_vector_norm")
SOFTMAX = _names("softmax _softmax log_softmax")
# A random, filled or counted tensor: no input of the model reaches it.
SOURCES = _names("input parameter constant output")

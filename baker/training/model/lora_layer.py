"""PEFT's LoRA layer with a faster forward and backward."""

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

ADAPTER_NAME = "default"  # PEFT's name for the one adapter


def _product(
    x: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """x @ W.T + bias + inner @ B.T, and inner = scale * z @ A.T. x and z are (T, in), and may be the same tensor."""
    inner = (z @ a.T).mul_(scale)
    return nn.functional.linear(x, weight, bias).addmm_(inner, b.T), inner


def _product_gradient(grad: Tensor, weight: Tensor, grad_inner: Tensor, a: Tensor, is_dropped: bool) -> Tensor:
    """The gradient by x; without dropout z is x, and its gradient is included."""
    grad_x = grad @ weight
    return grad_x if is_dropped else grad_x.addmm_(grad_inner, a)


# Opaque to the compiler, which would split them and copy the wide output before adding to it.
_product_op = torch.library.custom_op("bread::lora_product", _product, mutates_args=())
_product_gradient_op = torch.library.custom_op("bread::lora_product_gradient", _product_gradient, mutates_args=())


@_product_op.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], weight.shape[0]), x.new_empty(x.shape[0], a.shape[0])


@_product_gradient_op.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, weight: Tensor, grad_inner: Tensor, a: Tensor, is_dropped: bool) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1])


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
    """x @ W.T + bias + scale * (z @ A.T) @ B.T for frozen W and bias, in x's type; A and B stay float32.

    z is x after dropout, or None for x itself. PEFT's forward makes four more passes over the wide output (scale and
    add, forwards and backwards) and multiplies in float32 even over a bfloat16 base.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, z: Tensor | None, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        a, b = a.to(x.dtype), b.to(x.dtype)
        inputs = x.reshape(-1, x.shape[-1])
        dropped = inputs if z is None else z.reshape(-1, z.shape[-1])
        product = _product_op if torch.compiler.is_compiling() else _product
        output, inner = product(inputs, dropped, weight, bias, a, b, scale)
        ctx.save_for_backward(dropped, weight, inner, a, b)
        ctx.scale, ctx.has_dropout = scale, z is not None
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, weight, inner, a, b = ctx.saved_tensors
        shape, grad = (*grad.shape[:-1], -1), grad.reshape(-1, grad.shape[-1])
        grad_inner = (grad @ b).mul_(ctx.scale)
        grad_x = grad_z = None
        if ctx.needs_input_grad[0]:
            gradient = _product_gradient_op if torch.compiler.is_compiling() else _product_gradient
            grad_x = gradient(grad, weight, grad_inner, a, ctx.has_dropout).view(shape)
        if ctx.needs_input_grad[1]:
            grad_z = (grad_inner @ a).view(shape)
        return grad_x, grad_z, None, None, (grad_inner.T @ dropped).float(), (grad.T @ inner).float(), None


class FastLoraLinear(LoraLinear):  # type: ignore[misc]
    """PEFT's layer with `_LoraProduct` in its forward."""

    is_parent = False
    """Whether it computes with the parent's weights instead of its own."""
    parent: tuple[Tensor, Tensor] | None = None
    """The parent's A and B; None: the parent is the base model."""

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        return self.lora_A[ADAPTER_NAME].weight, self.lora_B[ADAPTER_NAME].weight

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs:
            peft_output: Tensor = super().forward(x, *args, **kwargs)
            return peft_output
        base, dropout = self.get_base_layer(), self.lora_dropout[ADAPTER_NAME]
        if self.is_parent and self.parent is None:
            base_output: Tensor = base(x)
            return base_output
        z = dropout(x) if self.training and isinstance(dropout, nn.Dropout) else None
        a, b = self.parent if self.is_parent and self.parent is not None else self.weights
        result: Tensor = _LoraProduct.apply(x, z, base.weight, base.bias, a, b, self.scaling[ADAPTER_NAME])
        return result

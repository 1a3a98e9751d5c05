"""Execution of a network up to a layer, and from a layer on, for any architecture.

The network is not rebuilt: its own `forward` runs, and the layers below the split are temporarily replaced by stubs
that return at once. So masks, positions and other inputs of the layers are computed by the network itself. The outputs
of the stubs are known from one run on the meta device (see `shape_trace`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.pretrained.shape_trace import ShapeTrace, TensorSpec, arguments_by_key, first_tensor, map_leaves


class _SplitReached(Exception):  # not an error: it ends the run at the cut
    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def run_lower(model: nn.Module, layers: list[nn.Module], split_index: int, inputs: dict[str, Tensor]) -> Tensor:
    """The input of layer `split_index`, or the output of the last layer if `split_index` is the number of layers."""

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _SplitReached(first_tensor((args, kwargs)))

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        raise _SplitReached(first_tensor(output))

    hook = (
        layers[split_index].register_forward_pre_hook(stop, with_kwargs=True)
        if split_index < len(layers)
        else layers[-1].register_forward_hook(end)
    )
    try:
        model(**inputs)
    except _SplitReached as reached:
        return reached.hidden
    finally:
        hook.remove()
    raise RuntimeError("the network ran without calling the layer at the split")


def run_upper(
    model: nn.Module,
    layers: list[nn.Module],
    split_index: int,
    hidden: Tensor,
    inputs: dict[str, Tensor],
    trace: ShapeTrace,
) -> Any:
    """The output of the network from the input of layer `split_index` on; of `inputs`, only shapes and masks are
    used."""
    with ExitStack() as stack:
        for name, output_spec in trace.stub_outputs.items():
            stack.enter_context(_patched_forward(model.get_submodule(name), _stub_forward(output_spec, len(hidden))))
        pending = [hidden]

        def replace_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return _replace_first_argument(args, kwargs, pending.pop()) if pending else None

        def replace_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return _replace_first(output, pending.pop()) if pending else None

        if trace.is_direct:
            hook = layers[split_index - 1].register_forward_hook(replace_output)
        else:  # with gradient checkpointing, the layer would run a second time without them
            stack.enter_context(_without_checkpointing(layers[split_index]))
            hook = layers[split_index].register_forward_pre_hook(replace_input, with_kwargs=True)
        stack.callback(hook.remove)
        return model(**inputs)


def _stub_forward(output_spec: Any, items: int) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        arguments = arguments_by_key(args, kwargs)
        reference = first_tensor(arguments)

        def tensor(value: Any) -> Any:
            if not isinstance(value, TensorSpec):
                return value
            if value.argument is not None:
                return arguments[value.argument]
            if value.shape is None:
                return reference
            return torch.zeros((), device=reference.device).expand(items, *value.shape)

        return map_leaves(output_spec, tensor)

    return forward


def _replace_first(value: Any, hidden: Tensor) -> Any:
    pending = [hidden]
    return map_leaves(value, lambda inner: pending.pop() if pending and isinstance(inner, Tensor) else inner)


def _replace_first_argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor
) -> tuple[Any, dict[str, Any]]:
    changed: tuple[Any, dict[str, Any]] = _replace_first((args, kwargs), hidden)
    return changed


@contextmanager
def _patched_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextmanager
def _without_checkpointing(layer: Any) -> Iterator[None]:
    """Disable gradient checkpointing of this layer."""
    before = getattr(layer, "gradient_checkpointing", False)
    layer.gradient_checkpointing = False
    try:
        yield
    finally:
        layer.gradient_checkpointing = before

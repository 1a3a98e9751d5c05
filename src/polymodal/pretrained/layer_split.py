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

from polymodal.pretrained.shape_trace import Shape, Trace, by_place, first_tensor, mapped


class _Reached(Exception):  # not an error: it ends the run at the cut
    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def lower(model: nn.Module, layers: list[nn.Module], cut: int, inputs: dict[str, Tensor]) -> Tensor:
    """The input of layer `split_index`, or the output of the last layer if `split_index` is the number of layers."""

    def stop(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise _Reached(first_tensor((given, named)))

    def end(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        raise _Reached(first_tensor(output))

    hook = (
        layers[cut].register_forward_pre_hook(stop, with_kwargs=True)
        if cut < len(layers)
        else layers[-1].register_forward_hook(end)
    )
    try:
        model(**inputs)
    except _Reached as reached:
        return reached.hidden
    finally:
        hook.remove()
    raise RuntimeError("the network ran without calling the layer at the split")


def upper(
    model: nn.Module, layers: list[nn.Module], cut: int, hidden: Tensor, inputs: dict[str, Tensor], trace: Trace
) -> Any:
    """The output of the network from the input of layer `split_index` on; of `inputs`, only shapes and masks are
    used."""
    with ExitStack() as stack:
        for name, answer in trace.answers.items():
            stack.enter_context(_replaced(model.get_submodule(name), _answering(answer, len(hidden))))
        waiting = [hidden]

        def put(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            return _with_first(given, named, waiting.pop()) if waiting else None

        def give(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            return _other_first(output, waiting.pop()) if waiting else None

        if trace.direct:
            hook = layers[cut - 1].register_forward_hook(give)
        else:  # with gradient checkpointing, the layer would run a second time without them
            stack.enter_context(_kept(layers[cut]))
            hook = layers[cut].register_forward_pre_hook(put, with_kwargs=True)
        stack.callback(hook.remove)
        return model(**inputs)


def _answering(answer: Any, items: int) -> Callable[..., Any]:
    def forward(*given: Any, **named: Any) -> Any:
        arguments = by_place(given, named)
        like = first_tensor(arguments)

        def tensor(value: Any) -> Any:
            if not isinstance(value, Shape):
                return value
            if value.given is not None:
                return arguments[value.given]
            if value.shape is None:
                return like
            return torch.zeros((), device=like.device).expand(items, *value.shape)

        return mapped(answer, tensor)

    return forward


def _other_first(value: Any, hidden: Tensor) -> Any:
    waiting = [hidden]
    return mapped(value, lambda inner: waiting.pop() if waiting and isinstance(inner, Tensor) else inner)


def _with_first(given: tuple[Any, ...], named: dict[str, Any], hidden: Tensor) -> tuple[Any, dict[str, Any]]:
    changed: tuple[Any, dict[str, Any]] = _other_first((given, named), hidden)
    return changed


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextmanager
def _kept(layer: Any) -> Iterator[None]:
    """Disable gradient checkpointing of this layer."""
    before = getattr(layer, "gradient_checkpointing", False)
    layer.gradient_checkpointing = False
    try:
        yield
    finally:
        layer.gradient_checkpointing = before

"""Trace the shapes and module calls of a network in one run on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from polymodal.core.errors import RecipeError

#: Batch size of the traced run: a number that no other dimension is likely to have.
TRACE_BATCH = 5


@dataclass(frozen=True)
class TensorSpec:
    """A tensor in the output of a stub.

    shape: zeros of this shape after the batch dimension; None: the hidden states that the stub receives
    argument: the position or name of the argument that is returned instead
    """

    shape: tuple[int, ...] | None = None
    argument: int | str | None = None


@dataclass
class ShapeTrace:
    """The result of a traced run.

    hidden_shape: shape of the hidden states of an item at the split
    is_direct: whether the hidden states are the unmodified output of the layer below
    stub_outputs: output of the stub of each replaced module, by module name; nested, with `TensorSpec` for tensors
    output_modules: names of the modules that run only after the last layer
    """

    hidden_shape: tuple[int, ...] = ()
    is_direct: bool = False
    stub_outputs: dict[str, Any] = field(default_factory=dict)
    output_modules: list[str] = field(default_factory=list)


def trace_shapes(model: nn.Module, layers: list[nn.Module], split_index: int, inputs: dict[str, Tensor]) -> ShapeTrace:
    """Trace the network on inputs of these shapes (the first dimension is ignored).

    Raises:
        RecipeError: the network cannot be split: it does not run on the meta device, or the first dimension of the
            input of its layers is not the batch.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[_Call] = []
    open_calls: list[_Call] = []
    hooks = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = _Call(names[module], module, arguments_by_key(args, kwargs), len(open_calls))
        calls.append(call)
        open_calls.append(call)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        open_calls.pop().output = output

    for module in names:
        hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave))
    try:
        with torch.no_grad():
            _run(model, inputs)
    except Exception as error:
        problem = f"this network cannot be split between layers ({error}); use `freeze` or `full`"
        raise RecipeError("fine_tuning", problem) from error
    finally:
        for hook in hooks:
            hook.remove()
    return _read_trace(calls, layers, split_index)


def _run(model: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Run text networks on eight real tokens, since they read the values of masks; all others on the meta device."""
    if "input_ids" in inputs:
        model(input_ids=torch.ones(TRACE_BATCH, 8, dtype=torch.long))
        return
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta_tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    meta_inputs = {
        name: torch.empty(TRACE_BATCH, *tensor.shape[1:], dtype=tensor.dtype, device="meta")
        for name, tensor in inputs.items()
        if "mask" not in name
    }
    functional_call(model, meta_tensors, (), meta_inputs)


@dataclass
class _Call:
    """One call of a module: its arguments by position or name, its nesting depth, and its output."""

    name: str
    module: nn.Module
    arguments: dict[int | str, Any]
    depth: int
    output: Any = None


def _read_trace(calls: list[_Call], layers: list[nn.Module], split_index: int) -> ShapeTrace:
    positions = {layer: [index for index, call in enumerate(calls) if call.module is layer] for layer in layers}
    if any(len(indices) != 1 for indices in positions.values()):
        raise RecipeError("fine_tuning", "this network does not run each of its layers once; use `freeze` or `full`")
    first, last = positions[layers[0]][0], positions[layers[-1]][-1]
    trace = ShapeTrace()
    hidden = (
        first_tensor(calls[positions[layers[split_index]][0]].arguments)
        if split_index < len(layers)
        else first_tensor(calls[last].output)
    )
    if hidden.ndim < 3 or hidden.shape[0] != TRACE_BATCH:
        problem = "the layers of this network do not have the batch as first dimension; use `freeze` or `full`"
        raise RecipeError("fine_tuning", problem)
    trace.hidden_shape = tuple(hidden.shape[1:])
    trace.is_direct = split_index > 0 and hidden is first_tensor(calls[positions[layers[split_index - 1]][0]].output)
    if split_index > 0:
        for call in _outermost(calls[:first], layers):
            if any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in call.module.modules()):
                output_spec = _stub_output(call, None)
                if output_spec is not None:
                    trace.stub_outputs[call.name] = output_spec
    for layer in layers[:split_index]:
        call = calls[positions[layer][0]]
        later_calls = calls[_end(calls, positions[layer][0]) :]
        later = {id(tensor) for later_call in later_calls for tensor in _tensors(later_call.arguments)}
        output_spec = _stub_output(call, later)
        if output_spec is not None:
            trace.stub_outputs[call.name] = output_spec
    end = _end(calls, last)
    before = {call.module for call in calls[:end]}
    trace.output_modules = [call.name for call in _outermost(calls[end:], layers) if call.module not in before]
    return trace


def _outermost(calls: list[_Call], layers: list[nn.Module]) -> Iterator[_Call]:
    """The outermost calls of modules that do not contain the layers."""
    inside: int | None = None
    for call in calls:
        if inside is not None and call.depth > inside:
            continue
        inside = None
        if call.output is not None and not any(module is layers[0] for module in call.module.modules()):
            inside = call.depth
            yield call


def _end(calls: list[_Call], start: int) -> int:
    """The index of the first call after the call at `start` has returned."""
    return next(
        (index for index in range(start + 1, len(calls)) if calls[index].depth <= calls[start].depth), len(calls)
    )


def _stub_output(call: _Call, later: set[int] | None) -> Any:
    """The output of the stub of a module; None if other modules need a value that a stub cannot provide, so that the
    module must run.

    later: ids of the tensors that modules after a layer read; other outputs of the layer besides hidden states may have
        any value. The position bias that the first layer computes for all layers is in `later`.
    """
    first = first_tensor(call.output)

    def shape(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for key, argument in call.arguments.items():
            if argument is value:
                return TensorSpec(argument=key)
        if later is not None and value is first and value.shape == first_tensor(call.arguments).shape:
            return TensorSpec()
        if later is not None and value is not first:
            if id(value) in later:
                raise _NotBatched
            return TensorSpec()
        if value.ndim == 0 or value.shape[0] != TRACE_BATCH:
            raise _NotBatched
        return TensorSpec(tuple(value.shape[1:]))

    try:
        return map_leaves(call.output, shape)
    except _NotBatched:
        return None


class _NotBatched(Exception):
    pass


def arguments_by_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Any]:
    arguments: dict[int | str, Any] = dict(enumerate(args))
    arguments.update(kwargs)
    return arguments


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every leaf of nested tuples, lists and dicts (including model outputs of transformers).

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda value: value + 1)
        {'a': (2, [3])}
    """
    if isinstance(value, dict):
        changed = {key: map_leaves(inner, change) for key, inner in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        return type(value)(map_leaves(inner, change) for inner in value)
    return change(value)


def _tensors(value: Any) -> list[Tensor]:
    tensors: list[Tensor] = []

    def keep(inner: Any) -> Any:
        if isinstance(inner, Tensor):
            tensors.append(inner)
        return inner

    map_leaves(value, keep)
    return tensors


def first_tensor(value: Any) -> Tensor:
    """The first tensor of a nested structure: by the conventions of transformers, the hidden states."""
    return _tensors(value)[0]

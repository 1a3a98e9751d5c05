"""A device that exists in tests only: its tensors compute on the processor and keep the rules of an accelerator.

A tensor on this device cannot be combined with a tensor on the CPU, has no numpy array, and reading it costs a
synchronization, which is recorded with the function of the package that asks for it ("backward" where torch does in a
backward pass). Random numbers come from the generator
of the CPU, so every value equals that on the CPU to the bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (  # type: ignore[attr-defined]
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

import polymodal

NAME = "simulated"
PACKAGE = Path(polymodal.__file__).parent
aten = torch.ops.aten
#: Operations whose result is a number, or has a size, that the processor must know before it can go on.
READS = {
    *(aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default),
    *(aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_consecutive.default),
    *(aten.unique_dim.default, aten.bincount.default, aten._linalg_check_errors.default),
    aten.nonzero_numpy.default,
}
COPIES = {aten.copy_.default, aten._to_copy.default, aten._copy_from.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class MixedDevices(RuntimeError):
    """An operation got tensors of two devices."""


class _State:
    is_present = False
    synchronizations: list[str] | None = None


class _Backend(_DummyBackendModule):  # type: ignore[misc]
    """What torch asks a device for."""

    def is_available(self) -> bool:
        return _State.is_present

    def device_count(self) -> int:
        return int(_State.is_present)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = 0) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = 0) -> None:
        torch.set_rng_state(state)

    def synchronize(self, device: Any = None) -> None:
        return None


class _Hook(_DummyPrivateUse1Hook):  # type: ignore[misc]
    def is_available(self) -> bool:
        return _State.is_present


_setup_privateuseone_for_python_backend(NAME, _Backend(), _Hook())
_AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
_AUTOCAST.fallback(torch.library.fallthrough_kernel)
DEVICE = torch.device(NAME, 0)


class SimulatedTensor(Tensor):
    """A tensor on the simulated device; `inner` is the tensor that computes."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> SimulatedTensor:
        found: SimulatedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=requires_grad,
        )
        found.inner = inner
        return found

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.tolist:
                return args[0].cpu().tolist()
            if func is Tensor.numpy or func is Tensor.__array__:
                raise TypeError(f"a tensor on {DEVICE} has no numpy array: copy it to the CPU first")
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


@contextmanager
def simulated_device() -> Iterator[str]:
    """The device exists inside the block: `auto` selects it. Yields its name."""
    _State.is_present = True
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes a tensor on the CPU, then copies it
    try:
        with _Mode():
            yield f"{NAME}:0"
    finally:
        _State.is_present = False
        torch._C._set_only_lift_cpu_tensors(before)


@contextmanager
def recorded_synchronizations() -> Iterator[list[str]]:
    """The places in the package, each as `file::function line operation`, that wait for the device inside the block."""
    before, _State.synchronizations = _State.synchronizations, []
    try:
        yield _State.synchronizations
    finally:
        _State.synchronizations = before


def _dispatch(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad(), _Mode():
            found = func.decompose(*args, **kwargs)  # in inference mode torch leaves this to the last
            return _computed(func, args, kwargs) if found is NotImplemented else found
    return _computed(func, args, kwargs)


def _computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    flat, spec = pytree.tree_flatten((args, kwargs))
    device = kwargs.get("device")
    to_device = device is not None and torch.device(device).type == NAME
    has_own = any(isinstance(one, SimulatedTensor) for one in flat)
    if not has_own and not to_device:
        return func(*args, **kwargs)
    to_host = device is not None and not to_device
    _check(func, args, kwargs, flat, to_host)
    inner = [one.inner if isinstance(one, SimulatedTensor) else one for one in flat]
    own_args, own_kwargs = pytree.tree_unflatten(inner, spec)
    if to_device:
        own_kwargs["device"] = torch.device("cpu")
        if not has_own and func is aten._to_copy.default and not own_kwargs.get("dtype"):
            own_kwargs["dtype"] = args[0].dtype
    found = KERNELS.get(func, func)(*own_args, **own_kwargs)
    if to_host or (func is aten.copy_.default and not isinstance(args[0], SimulatedTensor)):
        return args[0] if func is aten.copy_.default else found
    known = {id(one.inner): one for one in flat if isinstance(one, SimulatedTensor)}
    return pytree.tree_map(lambda one: _on_device(one, known), found)


def _lstm_cell(
    of_input: Tensor, of_state: Tensor, memory: Tensor, bias: Tensor | None = None, other: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    gates = of_input + of_state + (0 if bias is None else bias) + (0 if other is None else other)
    into, forget, cell, out = gates.chunk(4, 1)
    work = torch.cat([into.sigmoid(), forget.sigmoid(), cell.tanh(), out.sigmoid()], 1)
    into, forget, cell, out = work.chunk(4, 1)
    after = forget * memory + into * cell
    return out * after.tanh(), after, work


def _lstm_cell_backward(
    of_state: Tensor | None, of_memory: Tensor | None, memory: Tensor, after: Tensor, work: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    into, forget, cell, out = work.chunk(4, 1)
    of_state = torch.zeros_like(after) if of_state is None else of_state
    inner = of_state * out * (1 - after.tanh() ** 2) + (0 if of_memory is None else of_memory)
    of_gates = torch.cat(
        [
            inner * cell * into * (1 - into),
            inner * memory * forget * (1 - forget),
            inner * into * (1 - cell**2),
            of_state * after.tanh() * out * (1 - out),
        ],
        1,
    )
    return of_gates, inner * forget, of_gates.sum(0) if has_bias else None


def _gru_cell(
    of_input: Tensor, of_state: Tensor, state: Tensor, bias: Tensor | None = None, other: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    of_input = of_input if bias is None else of_input + bias
    of_state = of_state if other is None else of_state + other
    (reset, update, new), (reset_state, update_state, candidate) = of_input.chunk(3, 1), of_state.chunk(3, 1)
    reset, update = (reset + reset_state).sigmoid(), (update + update_state).sigmoid()
    new = (new + reset * candidate).tanh()
    return (state - new) * update + new, torch.cat([reset, update, new, state, candidate], 1)


def _gru_cell_backward(of_after: Tensor, work: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    reset, update, new, state, candidate = work.chunk(5, 1)
    of_new = of_after * (1 - update) * (1 - new**2)
    of_update = of_after * (state - new) * update * (1 - update)
    of_reset = of_new * candidate * reset * (1 - reset)
    of_input = torch.cat([of_reset, of_update, of_new], 1)
    of_state = torch.cat([of_reset, of_update, of_new * reset], 1)
    sums = (of_input.sum(0), of_state.sum(0)) if has_bias else (None, None)
    return (of_input, of_state, of_after * update, *sums)


def _copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """A copy between two views of the same values does nothing."""
    same = to.data_ptr() == source.data_ptr() and to.numel() == source.numel()
    return to if same else to.copy_(source)


#: What an accelerator computes by a kernel that the processor does not have.
KERNELS = {
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _lstm_cell_backward,
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
    aten.copy_.default: _copy,
}


def _on_device(one: Any, known: Mapping[int, SimulatedTensor]) -> Any:
    if not isinstance(one, Tensor) or isinstance(one, SimulatedTensor):
        return one
    if id(one) in known:
        same = known[id(one)]
        if same.shape != one.shape:
            raise NotImplementedError("an operation that changes the shape of a tensor in place")
        return same
    return SimulatedTensor(one)


def _check(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], flat: Sequence[Any], to_host: bool) -> None:
    """Refuse tensors of two devices, and record what waits for the device."""
    blocking = not (kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2]))
    on_cpu = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, SimulatedTensor)]
    if func in COPIES:
        if (to_host or on_cpu) and blocking:
            source = args[1] if func is aten.copy_.default else args[0]
            _record(func, "to the host" if isinstance(source, SimulatedTensor) else "to the device")
        return
    if func in INDEXING:
        indices = [one for one in args[1] if one is not None]
        if any(one.dtype in (torch.bool, torch.uint8) for one in indices):
            _record(func, "by a mask")
        elif any(not isinstance(one, SimulatedTensor) for one in indices):
            _record(func, "by an index on the CPU")
        on_cpu = [one for one in on_cpu if not any(one is index for index in indices)]
    if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        _record(func, "")
    if func in READS:
        _record(func, "")
    scalars_allowed = torch.Tag.pointwise in func.tags or func in INDEXING
    wrong = [one for one in on_cpu if one.dim() > 0 or not scalars_allowed]
    if wrong:
        shapes = ", ".join(f"{tuple(one.shape)} {one.dtype}" for one in wrong)
        raise MixedDevices(f"{func} got tensors on {DEVICE} and on the CPU ({shapes}) at {_place()}")


def _record(func: Any, how: str) -> None:
    if _State.synchronizations is not None:
        _State.synchronizations.append(f"{_place()} {str(func).removeprefix('aten.')} {how}".rstrip())


def _place() -> str:
    """The innermost function of the package that is computing, and its line."""
    frame = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            names = [name for name in frame.f_code.co_qualname.split(".") if not name.startswith("<")]
            return f"{file.relative_to(PACKAGE).as_posix()}::{names[-1]} line {frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "backward"

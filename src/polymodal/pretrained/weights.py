"""Build the network of a checkpoint from its configuration, and load its weights from its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.pretrained.adapters import reset_dora_magnitudes, with_base_layers
from polymodal.pretrained.architecture import auto_class, select_part
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.quantized_linear import quantized_layers, with_quantized_layers
from polymodal.pretrained.quantized_loading import copy_weight, read_quantized
from polymodal.pretrained.resolve import weights_folder
from polymodal.runtime.random_state import isolated_random_state

#: Overrides of configuration values that only affect training or the outputs. LayerDrop and random masking of inputs
#: are disabled, since execution from cached hidden states requires that all layers run.
CONFIG_OVERRIDES = {
    "use_cache": False,
    "output_hidden_states": False,
    "output_attentions": False,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "apply_spec_augment": False,
}
#: Number of random values that are repeated to fill the weight matrices before the weights are loaded.
NOISE_SIZE = 2**16
#: Maximum number of bytes of weights that are cached in a process for further networks of the same checkpoint.
MAX_CACHE_BYTES = 2**31

_NOTHING: Mapping[str, Literal["int8", "nf4"]] = MappingProxyType({})
_weight_cache: dict[tuple[Any, ...], dict[str, Tensor]] = {}


class InitialValues:
    """The values of the parameters before the weights are loaded: small random numbers in matrices; norms are the
    identity.

    The regular initialization of 100 million weights takes seconds, and these values are never trained.

    Example:
        >>> layer = torch.nn.Linear(2, 3)
        >>> InitialValues().fill("bias", layer.bias)
        >>> layer.bias.tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(self) -> None:
        self._noise = torch.randn(NOISE_SIZE) * 0.02

    def fill(self, name: str, parameter: nn.Parameter) -> None:
        """Fill a parameter with this name."""
        with torch.no_grad():
            if parameter.ndim > 1:
                flat = parameter.view(-1)
                whole = len(flat) // NOISE_SIZE * NOISE_SIZE
                flat[:whole].view(-1, NOISE_SIZE).copy_(self._noise)
                flat[whole:].copy_(self._noise[: len(flat) - whole])
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def build_network(checkpoint: CheckpointConfig, part: str, attention: str | None) -> Any:
    """Build the network for a part of a checkpoint, whose parameters have no defined values.

    attention: the attention implementation, as named in transformers; None: the default of transformers

    Raises:
        MissingExtraError: transformers is not installed.
        RecipeError: transformers does not support the model type, or the network encodes another modality.
    """
    return select_part(_build_whole(checkpoint, part, attention), part, checkpoint)


def _build_whole(checkpoint: CheckpointConfig, part: str, attention: str | None) -> Any:
    """The network of all parts of a checkpoint."""
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig
        from transformers.initialization import no_init_weights

        from polymodal.pretrained.starter.efficientnet_lite import register_own_models
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "pretrained", f"the checkpoint {checkpoint.name}") from None
    register_own_models()
    values = checkpoint.config
    kind = values.pop("model_type", None)
    if values.pop("quantization_config", None) is not None:
        raise RecipeError("checkpoint", f"{checkpoint.name} has quantized weights; use the original checkpoint")
    try:
        config = AutoConfig.for_model(kind, **values)
        for name, value in CONFIG_OVERRIDES.items():
            if hasattr(config, name):
                setattr(config, name, value)
        with _quiet_transformers(), no_init_weights():
            return auto_class(part).from_config(config, dtype=torch.float32, attn_implementation=attention)
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise RecipeError(
            "checkpoint", f"transformers cannot build {checkpoint.name} (model type {kind}): {error}"
        ) from error


def load_weights(model: nn.Module, checkpoint: CheckpointConfig, part: str) -> None:
    """Load the weights of the checkpoint, unless the parameters have no memory.

    Frozen parameters share their memory with other networks of this process, so they must not be modified in place.
    Trainable parameters and all buffers are copies.

    Raises:
        RecipeError: the weights are not available, are not safetensors, or are incomplete.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return  # another process has them
    shares = any(not parameter.requires_grad for parameter in model.parameters())
    taken = checkpoint_state(checkpoint, part, keep=shares, quantized=quantized_layers(model))
    taken = with_base_layers(taken, model)
    state = {name: held for name, held in model.state_dict(keep_vars=True).items() if "lora_" not in name}
    if state.keys() != taken.keys():
        raise RuntimeError(f"the network and its weights differ in {sorted(state.keys() ^ taken.keys())}")
    still = {name for name, held in state.items() if isinstance(held, nn.Parameter) and not held.requires_grad}
    shared = {id(taken[name]): nn.Parameter(taken[name], requires_grad=False) for name in still}
    model.load_state_dict({name: shared[id(taken[name])] for name in still}, strict=False, assign=True)
    model.load_state_dict({name: taken[name] for name in taken.keys() - still}, strict=False)
    reset_dora_magnitudes(model)


def checkpoint_state(
    checkpoint: CheckpointConfig, part: str, *, keep: bool, quantized: Mapping[str, Literal["int8", "nf4"]] = _NOTHING
) -> dict[str, Tensor]:
    """The weights of a checkpoint for the network of `part`, by parameter name. They are shared and read-only.

    keep: cache them for the next network; the most recently used weights stay in memory, at most `MAX_CACHE_BYTES`, and
        are reused as long as the files and the tensors are unchanged
    quantized: the number format of layers that have codes and scales in place of weights

    Raises:
        RecipeError: as `load_weights`.
    """
    folder = weights_folder(checkpoint)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RecipeError("checkpoint", f"{checkpoint.name} has no safetensors weights, the only supported format")
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ino) for file in files]
    key = (part, str(folder), json.dumps(checkpoint.to_dict(), sort_keys=True), *facts, *quantized.items())
    found = _weight_cache.pop(key, None)
    if found is None or any(tensor._version for tensor in found.values()):
        found = _read_quantized(files, checkpoint, part, quantized) if quantized else None
        if found is None:
            found = with_quantized_layers(_load_from_folder(folder, checkpoint, part), quantized)
    if keep:
        _weight_cache[key] = found
    while (
        sum(tensor.nbytes for one in _weight_cache.values() for tensor in {id(t): t for t in one.values()}.values())
        > MAX_CACHE_BYTES
    ):
        del _weight_cache[next(iter(_weight_cache))]
    return found


def _read_quantized(
    files: list[Path], checkpoint: CheckpointConfig, part: str, quantized: Mapping[str, Literal["int8", "nf4"]]
) -> dict[str, Tensor] | None:
    """The weights of the files, read one by one; None if transformers has to convert them."""
    with torch.device("meta"), isolated_random_state():
        whole = _build_whole(checkpoint, part, None)
    named: dict[int, list[str]] = {}
    for name, held in [*whole.named_parameters(remove_duplicate=False), *whole.named_buffers(remove_duplicate=False)]:
        named.setdefault(id(held), []).append(name)
    own = select_part(whole, part, checkpoint).state_dict(keep_vars=True)
    with torch.inference_mode(False):
        names = {name: named[id(one)] for name, one in own.items()}
        return read_quantized(files, own, names, f"{whole.base_model_prefix}.", quantized)


def _load_from_folder(folder: Path, checkpoint: CheckpointConfig, part: str) -> dict[str, Tensor]:
    try:
        # Missing weights are drawn at random, hence the separate random state. The tensors may be used in training, so
        # they must not be inference tensors.
        with _quiet_transformers(), isolated_random_state(), torch.inference_mode(False):
            whole, found = auto_class(part).from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(
            "checkpoint", f"the weights of {checkpoint.name} do not match its configuration: {error}"
        ) from error
    by_name = dict(whole.named_parameters(remove_duplicate=False)) | dict(whole.named_buffers(remove_duplicate=False))
    unread = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]
    drawn = {id(by_name[name]): name for name in unread if name in by_name and not _is_computed(whole, name)}
    weights = select_part(whole, part, checkpoint).state_dict(keep_vars=True)
    missing = [drawn[id(tensor)] for tensor in weights.values() if id(tensor) in drawn]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise RecipeError("checkpoint", f"{checkpoint.name} has no weights for {', '.join(missing[:5])}{more}")
    with torch.inference_mode(False):
        own = {id(tensor): copy_weight(tensor) for tensor in weights.values()}
    return {name: own[id(tensor)] for name, tensor in weights.items()}


def _is_computed(network: nn.Module, name: str) -> bool:
    """Whether a parameter is computed from its shape, so that checkpoints do not contain it (positions of Marian)."""
    return "Sinusoidal" in type(network.get_submodule(name.rpartition(".")[0])).__name__


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Disable progress bars and log messages of transformers; missing weights raise an error."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

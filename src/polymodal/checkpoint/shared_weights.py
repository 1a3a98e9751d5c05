"""Weights that several parts of a network have in common: one tensor in memory and in the file.

Inputs with the same frozen checkpoint have equal weights. In the network they are one parameter under several names. In
the file, the first name has the tensor, and the metadata lists the other names (`aliases`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polymodal.core.checksum import content_checksum

#: The key of the aliases in the metadata of a weight file: a JSON object, name -> name of the tensor.
ALIASES = "aliases"
#: Smaller tensors are stored under each name: a reference would take about as much space.
MIN_SHARED_BYTES = 64


def shared_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network, in which all names of one parameter have the same tensor object."""
    held = network.state_dict(keep_vars=True)
    own = {id(tensor): tensor.detach() for tensor in held.values()}
    return {name: own[id(tensor)] for name, tensor in held.items()}


def num_bytes(weights: Mapping[str, Tensor]) -> int:
    """The bytes of the tensors of a state dict, of which each object counts once."""
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in weights.values()}.values())


def tie_frozen(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make frozen parameters of a network one parameter if `weights` has the same tensor object for their names."""
    held, first = network.state_dict(keep_vars=True), dict[int, nn.Parameter]()
    for name, parameter in held.items():
        if name not in weights or not isinstance(parameter, nn.Parameter) or parameter.requires_grad:
            continue
        known = first.setdefault(id(weights[name]), parameter)
        if known is not parameter and known.shape == parameter.shape and known.dtype == parameter.dtype:
            owner, _, key = name.rpartition(".")
            network.get_submodule(owner)._parameters[key] = known


def tie_same_memory(network: nn.Module) -> None:
    """Make frozen parameters that view the same memory in the same way one parameter.

    Networks of one checkpoint read its weights once (`pretrained.weights`), each as parameters of its own. As one
    parameter they remain shared when the network is copied or moved to another device.
    """
    views: dict[tuple[object, ...], Tensor] = {}
    weights = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.numel():
            place = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.storage_offset())
            weights[name] = views.setdefault((*place, tensor.dtype, tensor.shape, tensor.stride()), tensor)
    tie_frozen(network, weights)


def without_copies(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without those that are equal to an earlier one to the bit, and the name of that one by the names of
    the others.

    Example:
        >>> one = torch.arange(1000.0)
        >>> kept, aliases = without_copies({"a": one, "b": one.clone(), "c": one + 1})
        >>> list(kept), aliases
        (['a', 'c'], {'b': 'a'})
    """
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[tuple[object, ...], str] = {}
    checksums: dict[int, bytes] = {}
    for name, tensor in weights.items():
        if tensor.nbytes >= MIN_SHARED_BYTES:
            if id(tensor) not in checksums:
                checksums[id(tensor)] = _checksum(tensor)
            first = names.setdefault((tensor.dtype, tensor.shape, checksums[id(tensor)]), name)
            if first != name:
                aliases[name] = first
                continue
        kept[name] = tensor
    return kept, aliases


def _checksum(tensor: Tensor) -> bytes:
    """The checksum of the values of a tensor on any device."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return content_checksum([values.data])


def alias_metadata(aliases: Mapping[str, str]) -> dict[str, str] | None:
    """The metadata of a weight file with these aliases; None without any."""
    return {ALIASES: json.dumps(aliases)} if aliases else None


def with_aliases(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a weight file under all their names. The names of one tensor have the same object.

    Raises:
        KeyError, ValueError, TypeError: the metadata do not fit the tensors.
    """
    aliases: dict[str, str] = json.loads(metadata.get(ALIASES, "{}"))
    twice = sorted(aliases.keys() & tensors.keys())
    if twice:
        raise ValueError(f"{twice[0]} is a tensor and another name of one")
    return {**tensors, **{name: tensors[first] for name, first in aliases.items()}}

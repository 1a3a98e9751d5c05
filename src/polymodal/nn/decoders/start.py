"""A writer that starts from one that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.checkpoint.model_directory import check_artefact, read_weights
from polymodal.checkpoint.weight_format import Form
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.recipe.recipe import Recipe

if TYPE_CHECKING:
    from polymodal.nn.decoders.transformer import TransformerWriter


def take_over(writer: TransformerWriter, start: str) -> None:
    """Put the weights of the Transformer writer of the saved model in the folder `start` into `writer`.

    Where that model had no inputs, its blocks had nothing to attend to: there the writer's own attention to the memory
    stays as it was drawn, but for its last layer, which begins at zero with the bias that gives what the language model
    added. So the writer begins as that language model, and opens to its inputs as it learns.

    Raises:
        RecipeError: there is no such model, it has no such decoder, or one of another shape.
    """
    folder = Path(start)
    try:
        form = Form(**check_artefact(folder))
        recipe = Recipe.read(folder / "recipe.yaml")
        weights = form.unpacked(read_weights(folder))
    except PolymodalError as error:
        raise RecipeError("start", str(error)) from None
    outputs = list(recipe.outputs.values())
    places = [
        place for place, one in enumerate(outputs) if one.decoder is not None and one.decoder.name == "transformer"
    ]
    if not places:
        raise RecipeError("start", f"the model in {folder} has no transformer that writes; name a folder with one")
    options = outputs[places[0]].decoder
    prefix = f"decoders.{places[0]}.0."
    found = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    given = (writer.width, writer.options.layers, writer.options.heads, writer.text.vocabulary)
    saved = (recipe.width, options.layers, options.heads, len(found["embedding.weight"]))  # type: ignore[union-attr]
    for name, ours, theirs in zip(("width", "layers", "heads", "vocabulary"), given, saved, strict=True):
        if ours != theirs:
            problem = f"the decoder in {folder} has {name} {theirs}, and this one {ours}; set both alike"
            raise RecipeError("start", problem)
    own = writer.state_dict()
    taken = {name: tensor for name, tensor in found.items() if name in own and not name.startswith("frames.")}
    if not recipe.inputs:
        for layer in range(writer.options.layers):
            taken |= _opening(taken, f"blocks.{layer}.", weights["fusion.token"], own)
    writer.load_state_dict(own | taken)


def _opening(found: dict[str, Tensor], block: str, token: Tensor, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The attention to the memory of one block over a language model, which read the one `token`."""
    names = ("memory_norm", "memory_query", "memory_key_value")
    fresh = {f"{block}{name}.{kind}": own[f"{block}{name}.{kind}"] for name in names for kind in ("weight", "bias")}
    width = len(token)
    weight, bias = (found[f"{block}memory_key_value.{kind}"][width:] for kind in ("weight", "bias"))
    last = f"{block}memory_out."
    added = functional.linear(functional.linear(token, weight, bias), found[last + "weight"], found[last + "bias"])
    return fresh | {last + "weight": torch.zeros_like(own[last + "weight"]), last + "bias": added}

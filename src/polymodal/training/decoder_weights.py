"""The first weights of a decoder: those of a checkpoint, or those of a saved model's decoder."""

from __future__ import annotations

from pathlib import Path

from polymodal.checkpoint.model_directory import verify_model_files, read_weights
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.nn.decoders.base import Decoder, SavedDecoder
from polymodal.nn.layers.named_modules import key_of
from polymodal.recipe.recipe import Recipe


def initialise(decoder: Decoder) -> None:
    """Give a new decoder the pretrained weights that its options name, if they name any.

    Raises:
        RecipeError: a weight does not fit, or there is no such model.
    """
    if decoder.start is None:
        decoder.initialise()
    else:
        decoder.take_over(find_saved_decoder(Path(decoder.start), decoder.Options.model_fields["name"].default))


def find_saved_decoder(folder: Path, kind: str) -> SavedDecoder:
    """The first decoder of this kind in a saved model; of one that decides from several views, that of the first.

    Raises:
        RecipeError: there is no such model, or it has no such decoder.
    """
    try:
        weight_format = WeightFormat(**verify_model_files(folder))
        recipe = Recipe.read(folder / "recipe.yaml")
        weights = weight_format.unpacked(read_weights(folder))
    except PolymodalError as error:
        raise RecipeError("start", str(error)) from None
    for name, spec in recipe.outputs.items():
        if spec.decoder is None or spec.decoder.name != kind:
            continue
        for view in (*recipe.inputs, "joint"):  # the order of views, whatever the fusion
            prefix = f"decoders.{key_of(name)}.{key_of(view)}."
            found = {path.removeprefix(prefix): one for path, one in weights.items() if path.startswith(prefix)}
            if found:
                memory = None if recipe.inputs else weights["fusion.token"]
                return SavedDecoder(folder, recipe.hidden_size, spec.decoder, found, memory)
    raise RecipeError("start", f"the model in {folder} has no {kind} that writes; name a folder with one")

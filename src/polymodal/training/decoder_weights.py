"""Initial weights of a decoder: from a pretrained checkpoint, or from the decoder of a saved model."""

from __future__ import annotations

from pathlib import Path

from polymodal.checkpoint.model_directory import read_weights, verify_model_files
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.nn.decoders.base import Decoder, SavedDecoder
from polymodal.nn.layers.named_modules import module_key
from polymodal.recipe.recipe import Recipe


def load_initial_weights(decoder: Decoder) -> None:
    """Load the pretrained weights that the options of a new decoder name, if any.

    Raises:
        RecipeError: the model does not exist, or its weights do not fit.
    """
    if decoder.init_from is None:
        decoder.load_pretrained()
    else:
        decoder.load_from(find_saved_decoder(Path(decoder.init_from), decoder.Options.model_fields["name"].default))


def find_saved_decoder(folder: Path, kind: str) -> SavedDecoder:
    """The first decoder of this kind in a saved model. If the fusion has several branches, the decoder of the first
    branch.

    Raises:
        RecipeError: the model does not exist, or it has no such decoder.
    """
    try:
        weight_format = verify_model_files(folder)
        recipe = Recipe.read(folder / "recipe.yaml")
        weights = weight_format.from_file(read_weights(folder))
    except PolymodalError as error:
        raise RecipeError("init_from", str(error)) from None
    for name, spec in recipe.outputs.items():
        if spec.decoder is None or spec.decoder.name != kind:
            continue
        for branch in (*recipe.inputs, "joint"):  # the order of branches, whatever the fusion
            prefix = f"decoders.{module_key(name)}.{module_key(branch)}."
            found = {path.removeprefix(prefix): one for path, one in weights.items() if path.startswith(prefix)}
            if found:
                memory = None if recipe.inputs else weights["fusion.token"]
                return SavedDecoder(folder, recipe.hidden_size, spec.decoder, found, memory)
    raise RecipeError(
        "init_from", f"the model in {folder} has no text output with the decoder {kind}; set another folder"
    )

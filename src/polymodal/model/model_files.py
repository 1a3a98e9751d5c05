"""The files of a model directory, as the parts of a `Model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from polymodal.checkpoint.model_directory import read_json, read_weights, verify_model_files
from polymodal.checkpoint.reading import parsing
from polymodal.checkpoint.shared_weights import shared_state
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.record import read_record
from polymodal.model.make_network import saved_network
from polymodal.model.run_record import RunRecord
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.uncertainty.calibration_file import read_calibration
from polymodal.uncertainty.calibration_rows import CalibrationRows

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import FittedEnsemble


@dataclass(frozen=True)
class ModelParts:
    """The parts of a saved model, with the names of the arguments of `Model`."""

    recipe: Recipe
    preparation: Preparation
    network: Network | None
    metrics: dict[str, Any]
    run: RunRecord
    weight_format: WeightFormat
    ensemble: FittedEnsemble | None
    calibration: dict[str, CalibrationRows]


def read_model(folder: Path, device: str) -> ModelParts:
    """The parts of the model in a directory.

    Raises:
        ArtifactError: see `Model.load`.
    """
    weight_format = verify_model_files(folder)
    metrics = read_record(dict[str, Any], read_json(folder / "metrics.json"), folder / "metrics.json")
    run = RunRecord.read(folder)
    with parsing(folder):
        recipe = Recipe.read(folder / "recipe.yaml")
        preparation = Preparation(recipe)
        preparation.load(folder)
        weights = weight_format.from_file(read_weights(folder))
        networks: list[Network]
        if recipe.members:
            from polymodal.model.ensemble_files import read_ensemble  # its libraries are needed for members only

            networks, ensemble = read_ensemble(folder, recipe, preparation, weights)
        else:
            networks, ensemble = [saved_network(recipe, preparation, weights)], None
    calibration = read_calibration(folder, preparation.tasks, len(preparation.modalities))
    for network in networks:
        network.eval().to(device)
        weight_format.apply_to(network)
    first = networks[0] if networks else None
    return ModelParts(recipe, preparation, first, metrics, run, weight_format, ensemble, calibration)


def state_dict_of(network: Network | None, ensemble: FittedEnsemble | None) -> dict[str, Tensor]:
    """The weights of a model: of its network; of several, with the number of the network before each name; or of the
    frozen encoders that the estimators need, if there is no network."""
    if ensemble is None or len(ensemble.networks) == 1:
        return {} if network is None else shared_state(network)
    if not ensemble.networks:
        read = ensemble.read_inputs()
        return {
            f"encoders.{name}.{key}": tensor
            for name, encoder in ensemble.encoders.items()
            if name in read
            for key, tensor in shared_state(encoder).items()
        }
    return {
        f"{number}.{name}": tensor
        for number, one in enumerate(ensemble.networks)
        for name, tensor in shared_state(one).items()
    }

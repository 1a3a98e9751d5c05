"""Image generation for the rows of a batch."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from polymodal.core.types import Batch, FusionOutput
from polymodal.generation.image_sampling import ImageSamplingConfig, sample_image_tokens
from polymodal.nn.network import Network
from polymodal.tasks.image_generation import ImageGenerationTask


def generate_image_tokens(
    network: Network,
    name: str,
    task: ImageGenerationTask,
    branches: list[FusionOutput],
    batch: Batch,
    config: ImageSamplingConfig,
    row_numbers: np.ndarray,
) -> Tensor:
    """The tokens `[rows * num_return_sequences, num_tokens]` of the images of output `name` for each row of a batch.

    row_numbers: the numbers of the rows, which seed their random draws
    """
    count = task.tokenizer.num_tokens
    state = network.init_state(name, branches, batch, count)
    return sample_image_tokens(state, config, count, row_numbers.tolist())

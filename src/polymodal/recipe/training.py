"""Recipe section `training`: the schedule, the optimiser, and how the run protects itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polymodal.core.options import SizedModel, StrictModel, sized_field


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"there is no device {name!r}; write auto, cpu, cuda, cuda:1 or mps")
    return name


class PartOptions(StrictModel):
    """How one part of the model is trained, named by its recipe path (`inputs.image.encoder`, `fusion` ...)."""

    lr_multiplier: float = Field(default=1.0, gt=0)
    """Multiplies the learning rate of this part."""
    freeze: bool = False
    """Keep this part as it is."""


class DistillationOptions(StrictModel):
    """How a model learns from a teacher: the one that saw its privileged inputs, or a saved model."""

    teacher: str | None = None
    """Directory of a saved model or ensemble whose decisions this model learns from, beside the true targets."""

    weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that the teacher's decisions have; the true targets have the rest."""
    temperature: float = Field(default=2.0, gt=0)
    """Softens the teacher's probabilities; higher shows more of what it thinks of the other classes."""


class PseudoLabelOptions(StrictModel):
    """How a classifier learns from rows without a label: it labels those that it is sure of, and is trained again."""

    rounds: int = Field(default=0, ge=0, le=10)
    """How often labels are given and the model is trained again from the same start; 0: never."""
    min_precision: float = Field(default=0.9, gt=0, lt=1)
    """Share of the given labels that shall be right. Rows are taken down to the calibrated probability at which the
    validation rows show it (the lower bound of 95 % confidence, one-sided); none are taken where they do not."""
    class_balanced: bool = True
    """No class may give more than its share, among the labelled rows, of the rows that are taken."""
    weight: float = Field(default=0.5, gt=0)
    """How much a given label counts beside a true one."""


class FeatureOptions(StrictModel):
    """The feature cache: what lies below the lowest trainable layer of an encoder runs once for each item."""

    enabled: bool = True
    """Keep what those layers make of each item, for all epochs, folds and runs. Without it they run in every step."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """Number format in which those layers run (bf16 only where the processor computes in it) and are kept."""
    augmented_copies: int = Field(default=4, ge=1, le=64)
    """Randomly changed copies of each training item that are kept, where the input's modality has random changes; each
    step draws one of them."""


class InputBalanceOptions(StrictModel):
    """What keeps an input that learns fast from leaving the others behind."""

    method: Literal["none", "ogm", "ogm_ge", "blend"] = "none"
    """`ogm`: the gradient of an input's encoder is made smaller while the input alone tells more than the others do;
    `ogm_ge`: and noise of its own size is added (Peng et al., 2022). `blend`: with the fusions `late` and `hybrid`, the
    decisions of single inputs and of all together weigh as much as they generalise (Wang et al., 2020)."""
    alpha: float = Field(default=0.5, gt=0)
    """How strongly `ogm` and `ogm_ge` hold an input back (alpha of the paper)."""
    interval_epochs: int = Field(default=3, ge=1)
    """Epochs between two estimates of `blend`."""


class TrainingOptions(SizedModel):
    """The training run. `epochs` and `batch` follow from the number of rows when they are silent."""

    init_from: str | None = None
    """Directory of a saved model to go on from. Each input that has the name and the modality of one there keeps its
    options, its preparation and its weights; so do the fusion, the decoders and the objectives that are the same."""
    epochs: int | None = Field(default=None, ge=0)
    """Passes over the training rows at most; silent: about 1,500 steps, between 10 and 200 epochs. 0 trains nothing: a
    pretrained model is taken as it is."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows in a step; silent: a thirtieth of the training rows, between 16 and 256."""
    grad_cache_chunk_size: int | None = Field(default=None, ge=1)
    """Items that an encoder reads at once in a step; what it computed within a chunk is computed again on the way back
    (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021). So a contrastive
    objective keeps every row of a large batch as a candidate in the memory of a small one. Silent: all at once."""
    learning_rate: float = sized_field(2e-3, 1e-3, 3e-4, gt=0)
    """Peak learning rate of AdamW (Loshchilov & Hutter, 2019)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices; vectors (biases, norms, embeddings of one row) have none."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps in which the rate rises linearly from 0; then it falls to 0 along a cosine."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; a larger one is scaled down to it."""
    modality_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Chance that an input of a row is hidden in a step, so that the model learns to do without; never all of them."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better validation score; silent: half of the epochs, at least 5,
    since the end of the cosine often gains most."""
    average_top_k: int = Field(default=3, ge=1)
    """Average the weights of so many best epochs, and keep the average if it validates at least as well."""
    loss_balancing: Literal["fixed", "uncertainty", "gradnorm", "pcgrad"] = "fixed"
    """Weights of several outputs and objectives: as the recipe says; learned (Kendall et al., 2018); so that all train
    at similar rates (GradNorm, Chen et al., 2018); or as the recipe says, without the parts of their gradients that
    conflict (PCGrad, Yu et al., 2020)."""
    modality_balancing: InputBalanceOptions = InputBalanceOptions()
    """What keeps an input that learns fast from leaving the others behind."""
    group_by_item: bool = True
    """Keep rows that share an item (ten questions to one image) in one batch, so that it is encoded once."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """Where the network is trained: `cpu`, `cuda` (or `cuda:1`, ...), `mps`; `auto` takes an accelerator if there is
    one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of matrix work; `auto` times both on the first batch and writes down the faster."""
    num_threads: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Threads inside one operation; `auto` is timed together with `precision`."""
    save_steps: int = Field(default=500, ge=1)
    """Write a checkpoint, from which a killed run resumes exactly, after so many steps and after each epoch."""
    logging_steps: int = Field(default=50, ge=1)
    """Steps between two lines of the training log."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    feature_cache: FeatureOptions = FeatureOptions()
    """The feature cache."""
    distillation: DistillationOptions = DistillationOptions()
    """Learning from a teacher, where there is one: privileged inputs, or a saved model."""
    pseudo_labels: PseudoLabelOptions = PseudoLabelOptions()
    """Learning from rows without a label."""
    param_groups: dict[str, PartOptions] = {}
    """Rates and freezing of parts of the model, by recipe path."""

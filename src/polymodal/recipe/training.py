"""Recipe section `training`: schedule, optimizer, regularization, compute and checkpoints."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polymodal.core.needs import Needs, needs_above, needs_value
from polymodal.core.options import SizedModel, StrictModel, sized_field

#: More threads per operation never help, and processes of many thousand threads crash.
MAX_THREADS = 512


_DIRECTORY = Needs("a model directory (`out`)", lambda _, run: run.writes_files)
_OUTPUTS = Needs("outputs", lambda _, run: bool(run.outputs))
_SEVERAL_INPUTS = Needs("several inputs", lambda _, run: len(run.recipe.inputs) > 1)
_OTHER_INPUTS = Needs("several inputs", lambda own, run: len(run.recipe.inputs) > 1 or own.modality_dropout == 0)
_SEVERAL_LOSSES = Needs("several outputs or objectives", lambda _, run: run.num_losses > 1)
_TEACHER = Needs("a teacher, or an input with privileged: true", lambda _, run: run.has_teacher)
_NETWORK = Needs("a network", lambda _, run: run.recipe.network is not False)
_CLASSES = Needs("an output of classes or labels", lambda _, run: run.has_probabilities)
_FROZEN = Needs("an encoder with frozen layers", lambda _, run: run.has_frozen_part)
_AUGMENTED = Needs("an input with random augmentation", lambda _, run: run.has_augmented_input)


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", name):
        raise ValueError(f"there is no device {name!r}; choose from auto, cpu, cuda, cuda:1, mps or xpu")
    return name


LossBalancing = Literal["fixed", "uncertainty", "gradnorm", "pcgrad"]


class ParamGroupOptions(StrictModel):
    """Training of one part of the model, given by its recipe path (`inputs.image.encoder`, `fusion`, ...)."""

    lr_multiplier: Annotated[float, needs_value("freeze", False)] = Field(default=1.0, gt=0)
    """Factor of the learning rate of this part."""
    freeze: bool = False
    """Do not train this part."""


class DistillationOptions(StrictModel):
    """Knowledge distillation from a teacher: a model with the privileged inputs, or a saved model."""

    teacher: str | None = None
    """Directory of a saved model or ensemble whose predictions are targets in addition to the true targets."""

    weight: Annotated[float, _TEACHER] = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation loss; the loss of the true targets has the weight 1 - `weight`."""
    temperature: Annotated[float, _TEACHER, _CLASSES, _NETWORK] = Field(default=2.0, gt=0)
    """Temperature of the softmax of teacher and student. Higher values soften the probabilities."""


class PseudoLabelOptions(StrictModel):
    """Self-training on unlabeled rows: the classifier labels rows with high confidence, and is trained again."""

    rounds: int = Field(default=0, ge=0, le=10)
    """Rounds of labeling and training from the same initial weights; 0 for no self-training."""
    min_precision: Annotated[float, needs_above("rounds", 0)] = Field(default=0.9, gt=0, lt=1)
    """Smallest precision of the pseudo-labels. The threshold is the lowest calibrated probability at which the
    validation rows have this precision (one-sided 95% lower bound). Without such a threshold no row is labeled."""
    class_balanced: Annotated[bool, needs_above("rounds", 0)] = True
    """Limit the pseudo-labels of each class to its fraction among the labeled rows."""
    weight: Annotated[float, needs_above("rounds", 0)] = Field(default=0.5, gt=0)
    """Weight of a pseudo-labeled row; labeled rows have the weight 1."""


class FeatureCacheOptions(StrictModel):
    """Cache of frozen features: the layers below the lowest trainable layer of an encoder run once per item."""

    enabled: bool = True
    """Store the output of the frozen layers for all epochs, folds and runs. If false, they run in each step."""
    dtype: Annotated[Literal["bf16", "fp32"], _FROZEN] = "bf16"
    """Number format of the frozen layers and of the stored features. Both are fp32 on a processor without
    bf16 instructions."""
    augmented_copies: Annotated[int, needs_value("enabled", True), _FROZEN, _AUGMENTED] = Field(default=4, ge=1, le=64)
    """Number of augmented copies of each training item, for modalities with augmentation. Each step draws one copy."""


class ModalityBalancingOptions(StrictModel):
    """Balancing of inputs that learn at different speeds."""

    method: Annotated[Literal["none", "ogm", "ogm_ge", "gradient_blending"], _SEVERAL_INPUTS, _OUTPUTS] = "none"
    """`ogm`: the gradient of an encoder is scaled down while its input predicts better than the other inputs;
    `ogm_ge`: noise of the size of the gradient is added as well (Peng et al., 2022). `gradient_blending`: the losses
    of single inputs and of the fusion are weighted by their generalization; for the fusions `late` and `hybrid` (Wang
    et al., 2020)."""
    alpha: Annotated[float, needs_value("method", "ogm", "ogm_ge")] = Field(default=0.5, gt=0)
    """Strength of `ogm` and `ogm_ge` (alpha of the paper)."""
    interval_epochs: Annotated[int, needs_value("method", "gradient_blending")] = Field(default=3, ge=1)
    """Epochs between two estimates of `gradient_blending`."""


class TrainingOptions(SizedModel):
    """The training run. The defaults of `epochs` and `batch_size` depend on the number of rows."""

    init_from: str | None = None
    """Directory of a saved model to start from. An input with the same name and modality gets its options,
    preprocessing and weights from there; so do the fusion, the decoders and the objectives that are the same."""
    epochs: int | None = Field(default=None, ge=0)
    """Largest number of passes over the training rows; 0 uses pretrained weights without training. Default: about 1,500
    steps, between 10 and 200 epochs."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows per step. Default: a thirtieth of the training rows, between 16 and 256."""
    grad_cache_chunk_size: int | None = Field(default=None, ge=1)
    """Items that an encoder processes at once; activations are recomputed in the backward pass (gradient cache, Gao et
    al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021). A contrastive objective then
    has all rows of a large batch as candidates with the memory of a small batch. Default: all at once."""
    learning_rate: float = sized_field(2e-3, 1e-3, 3e-4, gt=0)
    """Peak learning rate of AdamW (Loshchilov & Hutter, 2019)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices; vectors (biases, norms, embeddings of one row) have none."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Fraction of all steps with a linear warmup from 0; a cosine decay to 0 follows."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; a larger gradient is scaled down."""
    modality_dropout: Annotated[float, _OTHER_INPUTS] = Field(default=0.2, ge=0, lt=1)
    """Probability that an input of a row is masked in a step, so that the model tolerates missing inputs. At least one
    input remains."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better validation score. The weights of the best epoch are then annealed:
    the learning rate decays to 0 within a tenth of the epochs. Default: 0.4 of the epochs, at least 5, because the end
    of the schedule often improves most. Training also stops after three epochs without an error on at least 1,000
    validation rows; models of one input (`unimodal_scores`) after a quarter of the epochs."""
    average_top_k: int = Field(default=3, ge=1)
    """Average the weights of this many best epochs; the average is kept if its validation score is at least as good.
    Only epochs at the end of the schedule are kept, where the learning rate is low."""
    loss_balancing: Annotated[LossBalancing, _SEVERAL_LOSSES] = "fixed"
    """Weights of several outputs and objectives. `fixed`: those of the recipe. `uncertainty`: learned (Kendall et al.,
    2018). `gradnorm`: for similar training rates (GradNorm, Chen et al., 2018). `pcgrad`: those of the recipe, with
    conflicting gradients projected (PCGrad, Yu et al., 2020)."""
    modality_balancing: ModalityBalancingOptions = ModalityBalancingOptions()
    """Balancing of inputs that learn at different speeds."""
    group_by_item: bool = True
    """Put rows that share an item (ten questions about one image) into one batch, so that it is encoded once."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """Device for training: `cpu`, `cuda` (or `cuda:1`, ...), `mps` or `xpu`; `auto` is the environment variable
    `POLYMODAL_DEVICE`, or else an accelerator if there is one."""
    sharding: Literal["auto", "none", "full"] = "auto"
    """What several processes hold of the network. `none`: each holds all of it. `full`: each holds a part of the
    trainable parameters, gradients and optimizer state (FSDP, Zhao et al., 2023). `auto`: `full` if the whole would not
    fit into memory. One process holds all of it."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of matrix products; `auto` measures fp32 and bf16 on the first batch and uses the faster. A
    processor without bf16 instructions computes in fp32. `fp16` needs a CUDA or XPU device; `auto` tries it there if
    the device has no bf16 instructions."""
    num_threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] | Literal["auto"] = "auto"
    """Threads per operation; `auto` is measured together with `precision`. `OMP_NUM_THREADS` is the upper limit."""
    save_steps: Annotated[int, _DIRECTORY] = Field(default=500, ge=1)
    """Steps between two checkpoints, in addition to one after each epoch. An interrupted run resumes exactly."""
    logging_steps: Annotated[int, _DIRECTORY] = Field(default=50, ge=1)
    """Steps between two lines of the training log."""
    tensorboard: Annotated[bool, _DIRECTORY] = False
    """Also write TensorBoard event files."""
    feature_cache: FeatureCacheOptions = FeatureCacheOptions()
    """Cache of the output of frozen layers."""
    distillation: DistillationOptions = DistillationOptions()
    """Knowledge distillation, for privileged inputs or from a saved model."""
    pseudo_labels: PseudoLabelOptions = PseudoLabelOptions()
    """Self-training on unlabeled rows."""
    param_groups: dict[str, ParamGroupOptions] = {}
    """Learning rates and freezing of parts of the model, by recipe path."""

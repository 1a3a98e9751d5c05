"""Where the source waits for a device, the functions that may, and why each may."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import polymodal

PACKAGE = Path(polymodal.__file__).parent
#: What runs for each batch or for each generated token.
HOT = ("nn", "generation", "training")
READS = {"item", "tolist", "cpu", "numpy", "nonzero"}
REDUCTIONS = {"any", "all", "sum", "max", "min", "amax", "amin", "mean", "isfinite", "detach", "std", "dot"}


def waiting_calls() -> dict[str, list[str]]:
    """By `file::function`, the lines of hot code that read a value from a tensor, without those of functions that ask
    `can_read` first."""
    found: dict[str, list[str]] = {}
    for folder in HOT:
        for file in sorted((PACKAGE / folder).rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            for name, function in _functions(ast.parse(source)):
                lines = [node.lineno for node in _own_nodes(function) if _waits(node)]
                asks = any(isinstance(n, ast.Name) and n.id == "can_read" for n in _own_nodes(function))
                if lines and not asks:
                    place = f"{file.relative_to(PACKAGE).as_posix()}::{name}"
                    found.setdefault(place, []).extend(str(line) for line in lines)
    return found


def _functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        todo += [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.FunctionDef)]


def _waits(node: ast.AST) -> bool:
    """Whether a call reads a tensor: a method of `READS`, or a number made of a reduction."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in READS and not node.keywords and not (node.func.attr == "numpy" and node.args)
    if isinstance(node.func, ast.Name) and node.func.id in ("bool", "int", "float") and node.args:
        inner = node.args[0]
        return isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in REDUCTIONS
    return False


_HOST = "runs on the CPU"
_ONCE = "runs once, not for each batch"
_PACKED = "leaves the frames of padding out, so it needs their number"
_STEP = "one read for each generated token tells which texts go on"
_RESULT = "the results go to the CPU"
_DRAWN = "random numbers are drawn on the CPU, so that they are the same on every device"
_LIBRARY = "transformers reads the mask"
_WINDOWS = "the lengths of the items decide the number of windows"

_PAIRED = "the rows that have the inputs decide the size of the loss, and whether there is one"
_MASKED = "the parts that are masked decide how much is decoded, and the baseline is a number"
_STATISTICS = "whether there are statistics, and of how many rows, decides what is computed"

#: Folders of which every function may.
ALLOWED_FOLDERS = {
    "modalities/": _DRAWN,
}
#: The functions that may wait for a device, as `file::function`, and why.
ALLOWED: dict[str, str] = {
    "nn/decoders/ctc.py::frame_features": "the CTC loss of torch reads the lengths itself",
    "nn/decoders/ctc.py::nll": "the CTC loss of torch reads the lengths itself",
    "nn/decoders/ctc.py::training_warning": _ONCE,
    "nn/decoders/ctc_prefix_state.py::step": _STEP,
    "nn/decoders/ctc_prefix_state.py::_next_token_scores": _STEP,
    "nn/decoders/encoder_decoder.py::init_state": "rows with prompts of one length are generated together",
    "nn/decoders/encoder_decoder.py::group_state": "rows with prompts of one length are generated together",
    "nn/decoders/encoder_decoder.py::_encoder_output": "the rows that have the input are encoded",
    "nn/decoders/encoder_decoder_state.py::__init__": _HOST,
    "nn/decoders/encoder_decoder_state.py::reorder": _STEP,
    "nn/encoders/logmel.py::__init__": _HOST,
    "nn/encoders/cnn3d.py::__init__": _PACKED,
    "nn/encoders/pixels.py::pack_frames": _PACKED,
    "nn/encoders/pixels.py::unpack_frames": _PACKED,
    "nn/encoders/pretrained.py::_placeholder_items": _HOST,
    "nn/encoders/pretrained_audio.py::run_by_length": "items of one length are encoded together",
    "nn/encoders/pretrained_audio.py::compute_times": "items of one length are encoded together",
    "nn/encoders/pretrained_audio.py::run_frozen": "items of one length are encoded together",
    "nn/encoders/rocket_transform.py::_sum_channels": "features that are computed once for each item",
    "nn/encoders/rocket_transform.py::dilations": _HOST,
    "nn/encoders/rocket_transform.py::fit": _ONCE,
    "nn/encoders/rocket_transform.py::_dilations": "features that are computed once for each item",
    "nn/encoders/rocket_transform.py::_by_dilation": "features that are computed once for each item",
    "nn/fusion/combiner.py::calibrate": _ONCE,
    **{
        f"nn/objectives/{name}": _PAIRED
        for name in (
            *("alignment.py::forward", "barlow_twins.py::forward", "contrastive.py::contrastive_loss"),
            *("cross_modal_distillation.py::forward", "denoising.py::forward", "dino.py::_terms"),
            *("matching.py::forward", "next_token.py::forward", "augmented_views.py::input_batch"),
        )
    },
    **{
        f"nn/objectives/{name}": _MASKED
        for name in (
            *("masked_modeling.py::forward", "masking/baseline_losses.py::forward"),
            *("masking/reconstruction.py::decode_masked", "masking/text_tokens.py::apply_mask"),
        )
    },
    **{
        f"nn/objectives/{name}": _STATISTICS
        for name in (
            *("barlow_twins.py::record_batch", "cca.py::_statistics", "cca.py::_whiten", "cca.py::after_step"),
            *("cca.py::record_batch", "linear_cca.py::_root", "linear_cca.py::after_step"),
            *("linear_cca.py::record_batch", "linear_cca.py::solve_heads", "linear_cca.py::update"),
        )
    },
    **{
        f"nn/objectives/augmented_views.py::{name}": _DRAWN
        for name in ("_random_resized_crop", "augment_cells", "augment_texts")
    },
    "nn/objectives/denoising.py::swap_cells": _DRAWN,
    "nn/objectives/dino.py::forward": "whether the teachers were initialized",
    "nn/objectives/masking/decoder.py::__init__": _HOST,
    "nn/objectives/masking/image_patches.py::token_coordinates": "a constant is copied to the device",
    "nn/objectives/masking/mask_units.py::sample_mask": _DRAWN,
    "nn/objectives/masking/table_cells.py::__init__": _HOST,
    "inference/predictions.py::cpu": _RESULT,
    **{f"nn/layers/windows.py::{name}": _WINDOWS for name in ("split", "of_runs", "number", "take", "join", "average")},
    "nn/layers/causal.py::__init__": "once for each batch of texts that are generated",
    "nn/layers/causal.py::reorder": _STEP,
    "generation/beam_search.py::_log_probabilities": "the constraint is computed on the CPU",
    "generation/beam_search.py::_end": _STEP,
    "generation/beam_search.py::_may_end": _STEP,
    "generation/beam_search.py::_continue": _STEP,
    "generation/beam_search.py::_constrained_candidates": _STEP,
    "generation/beam_search.py::_unfinished": _STEP,
    "generation/beam_search.py::_finish_all": _STEP,
    "generation/beam_search.py::search": _STEP,
    "generation/image_tokenizer.py::encode": "the autoencoder runs on the CPU",
    "generation/image_tokenizer.py::decode": "the autoencoder runs on the CPU",
    "generation/output.py::build_outputs": _RESULT,
    "generation/sampling_distribution.py::_most_likely": "is asked for the k most likely of each row",
    "generation/sampling_distribution.py::uniform": _DRAWN,
    "generation/sampling_search.py::_select": _STEP,
    "generation/sampling_search.py::_constrain": _STEP,
    "generation/sampling_search.py::_append": _STEP,
    "generation/sampling_search.py::generate": _STEP,
    "generation/sampling_search.py::results": _RESULT,
    "training/distillation.py::from_predictions": _ONCE,
    "training/distillation.py::loss": "the predictions of the teacher stay on the CPU",
    "training/fingerprint.py::_to_bytes": _ONCE,
    "training/gradient_blending.py::blending_weights": _HOST,
    "training/gradient_blending.py::branch_losses": _RESULT,
    "training/loss_balancing.py::backward": "a loss at 0 has no rate; the method compares numbers",
    "training/loss_balancing.py::_without_conflicts": "the sign of each product decides the next",
    "training/modality_balancing.py::unimodal_scores": "the scores of the inputs decide the factors",
    "training/modality_balancing.py::modulate_gradients": "the scores of the inputs decide the factors",
    "nn/towers.py::mark_items": "the processes agree on the encoders that run",
    "training/monitor.py::find_non_finite": "training stops",
    "training/monitor.py::check_finite": "only at steps that are logged",
    "training/monitor.py::gradient_norms": "only at steps that are logged",
    "training/monitor.py::add_hook": "training stops",
    "training/monitor.py::hook": "training stops",
    "training/loss_meter.py::read": "only at steps that are logged",
    "training/trainer.py::run": _ONCE,
    "training/trainer.py::_step": "only at steps that are logged",
    "experiments/train_network.py::trainer": _ONCE,
    "training/validation.py::validate": _RESULT,
    "training/validation.py::calibrated_loss": _RESULT,
    "pretrained/backbone.py::forward_full": _LIBRARY,
    "pretrained/seq2seq_decoder.py::forward": _LIBRARY,
    "pretrained/seq2seq_decoder.py::suppress_logits": "the tokens that a checkpoint never generates",
    "distributed/world.py::total": "the number of rows that have the inputs decides which losses there are",
    "core/types.py::to": "a batch is copied to the device",
    "nn/layers/transformer.py::_copied_positions": "a constant is copied to the device once",
    "nn/decoders/transformer.py::_positions": "a constant is copied to the device once",
    "runtime/host_reads.py::_copied": "a constant is copied to the device once",
    "runtime/host_reads.py::copy_on": "a constant is copied to the device once",
}


def may_wait(place: str) -> bool:
    """Whether a function, given as `file::function`, may wait for a device."""
    return place in ALLOWED or place.startswith(tuple(ALLOWED_FOLDERS))

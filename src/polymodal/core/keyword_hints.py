"""Keyword arguments of other libraries, and their names here."""

from __future__ import annotations

from collections.abc import Collection

from polymodal.core.errors import did_you_mean

#: By word: arguments, and recipe keys for `settings`; the first that a function has is named.
_WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("label", "labels", "y", "target_column", "target_col", "label_column", "targets"), ("target",)),
    **dict.fromkeys(("X", "df", "train_data", "train_dataset", "dataset", "table", "frame"), ("data",)),
    **dict.fromkeys(("presets", "preset", "effort"), ("quality",)),
    **dict.fromkeys(("eval_dataset", "eval_set", "validation_data", "tuning_data", "valid", "val"), ("validation",)),
    **dict.fromkeys(("test_data", "test_dataset"), ("test",)),
    **dict.fromkeys(("output_dir", "output_directory", "save_path", "path", "folder"), ("out",)),
    **dict.fromkeys(("resume_from_checkpoint",), ("resume",)),
    **dict.fromkeys(("verbose", "verbosity", "show_progress"), ("progress",)),
    **dict.fromkeys(("config", "hyperparameters", "hparams", "options"), ("recipe", "settings")),
    **dict.fromkeys(("timeout", "max_time", "time"), ("time_limit",)),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "num_train_epochs", "max_epochs"), ("training.epochs",)),
    **dict.fromkeys(("batch_size", "per_device_train_batch_size"), ("training.batch_size",)),
    **dict.fromkeys(("lr", "learning_rate"), ("training.learning_rate",)),
    **dict.fromkeys(("weight_decay",), ("training.weight_decay",)),
    **dict.fromkeys(("early_stopping_patience", "patience"), ("training.early_stopping_patience",)),
    **dict.fromkeys(("device", "gpus", "num_gpus"), ("device", "training.device")),
    **dict.fromkeys(("num_threads", "n_jobs", "nthreads"), ("training.num_threads",)),
    **dict.fromkeys(("bf16", "fp16", "precision"), ("training.precision",)),
    **dict.fromkeys(("seed", "random_state", "random_seed"), ("seed",)),
    **dict.fromkeys(("hidden_size", "d_model", "embed_dim"), ("hidden_size",)),
    **dict.fromkeys(("validation_size", "val_size", "holdout_frac"), ("data.split.validation_size",)),
    **dict.fromkeys(("test_size",), ("data.split.test_size",)),
    **dict.fromkeys(("group", "groups", "group_column"), ("data.split.group_column",)),
    **dict.fromkeys(("sample_weight", "weights", "weight_column"), ("data.weight_column",)),
}
#: Recipe keys without a dot.
_TOP_KEYS = frozenset({"seed", "hidden_size"})


def keyword_hint(word: str, parameters: Collection[str]) -> str:
    """How to give what the keyword `word` means to a function with these parameters.

    Example:
        >>> keyword_hint("label", ["data", "target"])
        "its name here is 'target'"
        >>> keyword_hint("epochs", ["data", "settings"])
        "give settings={'training.epochs': ...}"
    """
    for found in _WORDS.get(word, ()):
        if found in parameters:
            return f"its name here is {found!r}"
        if "settings" in parameters and ("." in found or found in _TOP_KEYS):
            return f"give settings={{{found!r}: ...}}"
    return did_you_mean(word, parameters)

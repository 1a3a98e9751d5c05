"""Benchmarks: ratios of Polymodal to a reference that does the same work, measured in one run."""

import polymodal  # noqa: F401  # before torch, so that its setting for waiting threads holds for every contestant

BENCHMARKS = (
    "training_loop",
    "batch_prediction",
    "one_row",
    "startup",
    "memory",
    "machine_choice",
    "frame_sampling",
    "log_mel",
    "epochs",
    "feature_cache",
    "last_layers",
    "transformers_trainer",
    "language_model_training",
    "ludwig_library",
    "decoding",
)
#: Measurements that are run by themselves, since they need data or long: `python -m benchmarks.NAME`.
STUDIES = (
    "emoji_retrieval",
    "vqa_written",
    "dialogue",
    "series_archive",
    "planted_senses",
    "real_clips",
    "fuzz_media",
    "stamps",
    "stamps_senses",
    "stamps_tune",
    "caption_gemma",
    "write_code_screenshot",
    "write_code_repair",
    "speech",
    "whisper",
    "preprocessing",
    "preprocessing_clips",
    "captioning_scenes",
    "captioning_stamps",
    "multilingual_captions",
    "translation",
    "translation_with_image",
    "vector_search",
)

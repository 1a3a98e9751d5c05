"""The topics of the results pages, and the rows of the summary for each record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One page of results.

    slug: the name of the page
    records: the names of its records, in the order of the page
    """

    slug: str
    title: str
    records: tuple[str, ...]


TOPICS = (
    Topic(
        "libraries",
        "Compared with other libraries",
        (
            "transformers_trainer",
            "ludwig_library",
            "language_model_training",
            "decoding",
            "log_mel",
            "pretraining_step",
        ),
    ),
    Topic(
        "tables", "Small and mixed tables", ("tables_development", "tables_final", "tables_planted", "tables_effort")
    ),
    Topic(
        "speed",
        "Speed and memory",
        (
            "training_loop",
            "batch_prediction",
            "one_row",
            "contributions",
            "serving",
            "startup",
            "memory",
            "machine_choice",
            "several_processes",
            "prepared_rows",
            "epochs",
            "feature_cache",
            "last_layers",
        ),
    ),
    Topic(
        "media",
        "Media files",
        ("frame_sampling", "real_clips", "fuzz_media", "preprocessing", "preprocessing_clips"),
    ),
    Topic(
        "multimodal",
        "Accuracy with several inputs",
        ("stamps_tune", "stamps", "stamps_senses", "planted_senses", "many_tasks", "series_archive"),
    ),
    Topic(
        "pretraining",
        "Pretraining without labels",
        (
            "pretraining_pays_vqa_images",
            "pretraining_pays_vqa",
            "pretraining_pays_vowels_lstm",
            "pretraining_pays_vowels",
        ),
    ),
    Topic(
        "retrieval",
        "Retrieval and zero-shot classification",
        (
            "stamps_retrieval",
            "stamps_retrieval_speech",
            "emoji_retrieval",
            "stamps_zero_shot",
            "vector_search",
        ),
    ),
    Topic(
        "text",
        "Text targets",
        (
            "vqa_written",
            "dialogue",
            "captioning_scenes",
            "captioning_stamps",
            "multilingual_captions",
            "caption_gemma",
            "translation",
            "translation_with_image",
            "speech",
            "whisper",
            "write_code_repair",
            "write_code_screenshot",
        ),
    ),
    Topic("intervals", "Intervals of scores", ("interval_coverage",)),
    Topic("interruptions", "Interrupted commands", ("kills",)),
)

#: For a record without ratios: the pairs of contestants in the summary, ours and then the reference, by their
#: positions in the record. None: no reference. Default: the first contestant, without a reference.
SUMMARIZED: dict[str, tuple[tuple[int, int | None], ...]] = {
    "captioning_scenes": ((0, 1),),
    "captioning_stamps": ((0, 1),),
    "dialogue": ((0, 1),),
    "interval_coverage": ((0, 1), (26, 27), (38, 39)),
    "many_tasks": ((0, 1),),
    "multilingual_captions": ((21, 22),),
    "planted_senses": ((0, 2), (5, 6)),
    "pretraining_pays_vowels": ((1, 0), (2, 0)),
    "pretraining_pays_vowels_lstm": ((1, 0), (2, 0)),
    "pretraining_pays_vqa": ((1, 0), (2, 0)),
    "pretraining_pays_vqa_images": ((1, 0),),
    "speech": ((0, None), (1, None)),
    "stamps": ((3, 2),),
    "stamps_retrieval": ((0, 2), (1, 3)),
    "stamps_senses": ((0, 1),),
    "stamps_tune": ((2, 1), (3, 1)),
    "tables_development": ((1, -1),),
    "tables_final": ((1, -1),),
    "translation": ((0, 1),),
    "write_code_repair": ((0, 1),),
    "write_code_screenshot": ((6, 7),),
}
#: For a record with ratios: the positions of the ratios in the summary. Default: the first ratio.
SUMMARIZED_RATIOS = {"training_loop": (0, 2), "batch_prediction": (1, 2), "log_mel": (0, 2), "feature_cache": (1,)}

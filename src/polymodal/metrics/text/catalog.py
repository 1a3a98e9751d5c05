"""The metrics of written texts by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.metrics.base import Metric
from polymodal.metrics.text.answer_matching import exact_match, normalized_exact_match, token_f1
from polymodal.metrics.text.bleu import bleu
from polymodal.metrics.text.chrf import chrf
from polymodal.metrics.text.cider import cider
from polymodal.metrics.text.error_rates import cer, wer, wer_english
from polymodal.metrics.text.fact_scores import Reader, fact_f1
from polymodal.metrics.text.meteor import meteor
from polymodal.metrics.text.page_scores import element_f1, page_similarity, page_validity
from polymodal.metrics.text.program_scores import mutation_score, pass_at_1, syntax_validity, suite_validity
from polymodal.metrics.text.rouge import rouge
from polymodal.metrics.text.vqa import vqa_accuracy

#: What each metric is, and how far it goes.
TEXT_METRICS = {
    "bleu": "BLEU, tokenizer 13a (0 to 100; extra text)",
    "bleu_zh": "BLEU, tokenizer for Chinese (0 to 100; extra text)",
    "bleu_char": "BLEU of characters (0 to 100; extra text)",
    "chrf": "chrF2 of 1 to 6 characters (0 to 100; extra text)",
    "rouge1": "ROUGE-1 F1, Latin letters and digits (0 to 1; extra text)",
    "rouge2": "ROUGE-2 F1, Latin letters and digits (0 to 1; extra text)",
    "rougeL": "ROUGE-L F1, Latin letters and digits (0 to 1; extra text)",
    "rouge1_multilingual": "ROUGE-1 F1, any script (0 to 1; extra text)",
    "rouge2_multilingual": "ROUGE-2 F1, any script (0 to 1; extra text)",
    "rougeL_multilingual": "ROUGE-L F1, any script (0 to 1; extra text)",
    "meteor": "METEOR, exact and stem matches (0 to 1; extra text)",
    "cider": "CIDEr-D (0 to 10)",
    "exact_match": "share of texts equal to a reference (0 to 1)",
    "normalized_exact_match": "share of texts equal to a reference but for case, punctuation, articles (0 to 1)",
    "token_f1": "F1 of words shared with the best reference (0 to 1)",
    "vqa_accuracy": "share of annotators who agree, three being enough (0 to 1)",
    "wer": "word error rate (0 is best; extra text)",
    "wer_english": "word error rate, English in Whisper's normal form (0 is best; extras text, pretrained)",
    "cer": "character error rate (0 is best; extra text)",
    "fact_f1": "F1 of stated facts (0 to 1)",
    "page_validity": "share of pages that can be drawn (0 to 1)",
    "page_similarity": "similarity of a page's picture to the wanted one (0 to 1)",
    "element_f1": "F1 of a page's elements (0 to 1)",
    "syntax_validity": "share of texts that are Python by their syntax (0 to 1)",
    "pass@1": "share of programs that pass the tests of their cell (0 to 1)",
    "suite_validity": "share of written tests that the right program passes (0 to 1)",
    "mutation_score": "share of planted mistakes that written tests catch (0 to 1)",
}
#: Those that score code: their references must be pages, or hold tests or programs (`metrics.code_eval.program_cells`).
CODE_METRICS = ("page_validity", "page_similarity", "element_f1", "syntax_validity", "pass@1", "suite_validity", "mutation_score")

_PLAIN: dict[str, Callable[[], Metric]] = {
    "bleu": bleu,
    "bleu_zh": partial(bleu, "zh"),
    "bleu_char": partial(bleu, "char"),
    "chrf": chrf,
    "rouge1": partial(rouge, "rouge1"),
    "rouge2": partial(rouge, "rouge2"),
    "rougeL": partial(rouge, "rougeL"),
    "rouge1_multilingual": partial(rouge, "rouge1", any_script=True),
    "rouge2_multilingual": partial(rouge, "rouge2", any_script=True),
    "rougeL_multilingual": partial(rouge, "rougeL", any_script=True),
    "meteor": meteor,
    "exact_match": exact_match,
    "normalized_exact_match": normalized_exact_match,
    "token_f1": token_f1,
    "vqa_accuracy": vqa_accuracy,
    "wer": wer,
    "wer_english": wer_english,
    "cer": cer,
    "page_validity": page_validity,
    "page_similarity": page_similarity,
    "element_f1": element_f1,
    "syntax_validity": syntax_validity,
    "pass@1": pass_at_1,
    "suite_validity": suite_validity,
    "mutation_score": mutation_score,
}


def text_metrics(
    names: Iterable[str],
    *,
    documents: Iterable[Sequence[str]] | None = None,
    read: Reader | None = None,
) -> list[Metric]:
    """The metrics of these names, in this order. All of them score an object array `[rows]` of str (None: no answer,
    scored as the empty text) against an object array `[rows]` of tuples of references.

    documents: references by row from which `cider` counts how telling an n-gram is; None: those of the scored rows
    read: text -> its set of facts, for `fact_f1`

    Raises:
        RecipeError: a name is unknown, or `fact_f1` is asked for without `read`.
        MissingExtraError: a metric needs a package that is not installed.
    """
    return [_metric(name, documents, read) for name in names]


def _metric(name: str, documents: Iterable[Sequence[str]] | None, read: Reader | None) -> Metric:
    if name == "cider":
        return cider(documents)
    if name == "fact_f1":
        if read is None:
            raise RecipeError("metrics", "fact_f1 needs a function that reads the facts of a text")
        return fact_f1(read)
    if name not in _PLAIN:
        raise RecipeError("metrics", f"there is no metric {name!r} of texts: {did_you_mean(name, TEXT_METRICS)}")
    return _PLAIN[name]()

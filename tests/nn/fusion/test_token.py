"""Token fusions: padding, any subset, live parameters, the graph mask, gates, options and their errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.core.types import Tokens
from polymodal.nn.fusion.base import Fusion

torch.set_num_threads(1)

METHODS = ["attention", "coattention", "mult", "bottleneck", "perceiver", "qformer"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in METHODS],
    ("attention", {"graph": [["image", "text"]]}),
    ("coattention", {"gated": True}),
    ("mult", {"num_memory_layers": 0}),
    ("bottleneck", {"num_layers": 4, "fusion_layer": 2}),
    ("perceiver", {"num_iterations": 2}),
    ("qformer", {"text_input": None}),
    ("qformer", {"text_input": "image", "num_layers": 3}),
]
INPUTS = ["image", "text", "sound.left"]
WIDTH = 16


def make(name: str, inputs: list[str] = INPUTS, **options: Any) -> Fusion:
    torch.manual_seed(0)
    cls = find("fusion", name)
    fusion = cls(cls.Options.model_validate({"name": name, **options}), inputs=inputs, width=WIDTH)
    return fusion.eval()


def batch(rows: int = 8, inputs: list[str] = INPUTS, present: Tensor | None = None) -> dict[str, Tokens]:
    """Random tokens; row r has input m where bit m of r is set, unless `present [rows, inputs]` is given."""
    torch.manual_seed(1)
    tokens = {}
    for m, name in enumerate(inputs):
        length = 3 + m
        has = torch.tensor([bool(row >> m & 1) for row in range(rows)]) if present is None else present[:, m]
        real = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
        first = (torch.arange(length) == 0).expand(rows, -1)
        tokens[name] = Tokens(torch.randn(rows, length, WIDTH), torch.where(has[:, None], real, first), has)
    return tokens


def everything(rows: int, inputs: list[str] = INPUTS) -> dict[str, Tokens]:
    return batch(rows, inputs, torch.ones(rows, len(inputs), dtype=torch.bool))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_masked_tokens_change_nothing(name: str, options: dict[str, Any]) -> None:
    fusion, tokens = make(name, **options), batch()
    padded = {}
    for key, part in tokens.items():
        garbage = torch.where(part.mask.unsqueeze(-1), part.features, 50.0)
        features = torch.cat([garbage, torch.full((8, 4, WIDTH), -50.0)], dim=1)
        mask = torch.cat([part.mask, torch.zeros(8, 4, dtype=torch.bool)], dim=1)
        padded[key] = Tokens(features, mask, part.present)
    (plain,), (long,) = fusion(tokens), fusion(padded)
    assert (plain.pooled - long.pooled).abs().max() < 1e-5
    assert (plain.tokens.pooled() - long.tokens.pooled()).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_any_subset_is_finite_with_finite_gradients(name: str, options: dict[str, Any]) -> None:
    fusion, tokens = make(name, **options), batch()
    (view,) = fusion(tokens)
    assert view.pooled.shape == (8, WIDTH)
    assert view.tokens.features.shape[2] == WIDTH
    assert view.tokens.mask.any(1).all()
    assert torch.isfinite(view.pooled).all()
    assert view.weight.tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    view.pooled.square().sum().backward()
    for key, parameter in fusion.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_rows_do_not_depend_on_each_other(name: str, options: dict[str, Any]) -> None:
    fusion, tokens = make(name, **options), batch()
    (together,) = fusion(tokens)
    for row in range(8):
        one = slice(row, row + 1)
        (alone,) = fusion({k: Tokens(t.features[one], t.mask[one], t.present[one]) for k, t in tokens.items()})
        assert (alone.pooled - together.pooled[one]).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("inputs", [INPUTS, INPUTS[:2], INPUTS[:1]], ids=len)
def test_every_parameter_gets_a_gradient(name: str, options: dict[str, Any], inputs: list[str]) -> None:
    if name == "qformer" and options.get("text_input") == "image" and len(inputs) == 1:
        pytest.skip("rejected: the text is the only input")
    if "graph" in options and len(inputs) == 1:
        pytest.skip("rejected: the graph names an unknown input")
    fusion = make(name, inputs, **options)
    with torch.no_grad():
        for key, parameter in fusion.named_parameters():
            if key.endswith("alpha"):
                parameter.add_(0.5)
    (view,) = fusion(everything(4, inputs))
    (view.pooled * torch.randn(WIDTH)).sum().backward()
    for key, parameter in fusion.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", METHODS)
def test_a_missing_input_has_no_influence_but_its_missing_token(name: str) -> None:
    present = torch.tensor([[True, True, False]])
    fusion, tokens = make(name), batch(1, present=present)
    features = tokens["sound.left"].features.clone()
    features[:, 1:] = 9.0
    changed = {**tokens, "sound.left": tokens["sound.left"].with_features(features)}
    (a,), (b,) = fusion(tokens), fusion(changed)
    assert torch.equal(a.pooled, b.pooled)


@pytest.mark.parametrize("name", ["attention", "bottleneck", "perceiver", "qformer"])
def test_methods_that_leave_out_missing_inputs_do_not_read_the_missing_token(name: str) -> None:
    fusion, tokens = make(name), batch()
    changed = {
        key: part.with_features(torch.where(part.present[:, None, None], part.features, 7.0))
        for key, part in tokens.items()
    }
    assert torch.equal(fusion(tokens)[0].pooled, fusion(changed)[0].pooled)


@pytest.mark.parametrize("name", ["coattention", "mult"])
def test_stream_methods_read_the_missing_token_in_its_own_stream_only(name: str) -> None:
    fusion, tokens = make(name, INPUTS[:2]), batch(1, INPUTS[:2], torch.tensor([[True, False]]))
    missing = tokens["text"].features.clone().requires_grad_(True)
    image = tokens["image"].features.clone().requires_grad_(True)
    tokens = {"image": tokens["image"].with_features(image), "text": tokens["text"].with_features(missing)}
    (view,) = fusion(tokens)
    lengths = [part.features.shape[1] for part in tokens.values()]
    own, other = view.tokens.features.split(lengths, dim=1)
    (grad,) = torch.autograd.grad(own.square().sum(), missing, retain_graph=True)
    assert (grad == 0).all()
    grads = torch.autograd.grad(other[:, 0].square().sum(), [missing, image])
    assert all((grad != 0).any() for grad in grads)


@pytest.mark.parametrize("name", METHODS)
def test_inputs_meet(name: str) -> None:
    """The mixed second derivative of the result by two inputs is not zero: it holds an interaction."""
    fusion, tokens = make(name, INPUTS[:2]), everything(1, INPUTS[:2])
    image, text = (part.features.clone().requires_grad_(True) for part in tokens.values())
    (view,) = fusion({"image": tokens["image"].with_features(image), "text": tokens["text"].with_features(text)})
    (slope,) = torch.autograd.grad((view.pooled * torch.randn(WIDTH)).sum(), image, create_graph=True)
    (mixed,) = torch.autograd.grad((slope * torch.randn_like(slope)).sum(), text)
    assert mixed.abs().max() > 1e-6
    assert fusion.models_interactions


def test_graph_blocks_unconnected_inputs() -> None:
    fusion = make("attention", graph=[["image", "text"]], num_layers=1)
    tokens = everything(2)
    leaves = {key: part.features.clone().requires_grad_(True) for key, part in tokens.items()}
    (view,) = fusion({key: part.with_features(leaves[key]) for key, part in tokens.items()})
    parts = view.tokens.features.split([1, *(leaf.shape[1] for leaf in leaves.values())], dim=1)
    reads = []
    for part in parts:
        grads = torch.autograd.grad(part.square().sum(), list(leaves.values()), retain_graph=True)
        reads.append([bool((grad != 0).any()) for grad in grads])
    assert reads == [[True, True, True], [True, True, False], [True, True, False], [False, False, True]]


def test_graph_stays_closed_over_layers() -> None:
    """Nothing leaks between unconnected inputs through the class token, however deep."""
    fusion, tokens = make("attention", graph=[["image", "text"]], num_layers=3), everything(2)
    sound = tokens["sound.left"].features.clone().requires_grad_(True)
    (view,) = fusion({**tokens, "sound.left": tokens["sound.left"].with_features(sound)})
    (grad,) = torch.autograd.grad(view.tokens.features[:, 1:8].square().sum(), sound)
    assert (grad == 0).all()


def test_graph_with_an_unknown_input_is_rejected() -> None:
    with pytest.raises(RecipeError, match=r"graph\.0: unknown input 'txt'; did you mean 'text'") as caught:
        make("attention", graph=[["image", "txt"]])
    assert caught.value.path == "graph.0"


def test_closed_gate_keeps_inputs_apart() -> None:
    fusion, tokens = make("coattention", gated=True), everything(2)
    text = tokens["text"].features.clone().requires_grad_(True)
    (view,) = fusion({**tokens, "text": tokens["text"].with_features(text)})
    (grad,) = torch.autograd.grad(view.tokens.features[:, :3].square().sum(), text)
    assert (grad == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_heads_must_divide_the_width(name: str) -> None:
    with pytest.raises(RecipeError, match=r"num_heads: 3 heads do not divide the hidden size 16; use one of 1, 2, 4"):
        make(name, num_heads=3)


def test_bottleneck_needs_a_layer_that_reads() -> None:
    with pytest.raises(RecipeError, match=r"fusion_layer: with 3 layers it is at most 1, not 2"):
        make("bottleneck", num_layers=3, fusion_layer=2)


def test_bottleneck_is_the_only_way_between_inputs() -> None:
    fusion, tokens = make("bottleneck", num_layers=3, fusion_layer=1), everything(2)
    text = tokens["text"].features.clone().requires_grad_(True)
    tokens = {**tokens, "text": tokens["text"].with_features(text)}

    def influence() -> float:
        (view,) = fusion(tokens)
        image = view.tokens.features[:, 5:8]  # 4 shared tokens, the image's class token, then its tokens
        return float(torch.autograd.grad(image.square().sum(), text)[0].abs().max())

    assert influence() > 0
    for blocks in fusion.layers[1]:
        blocks.register_forward_hook(lambda module, args, out: torch.cat([out[:, :-4], args[0][:, -4:]], dim=1))
    assert influence() == 0


@pytest.mark.parametrize(
    ("text", "inputs", "chosen"),
    [
        ("auto", INPUTS, "sound.left"),
        ("auto", INPUTS[:1], None),
        ("image", INPUTS, "image"),
        (None, INPUTS, None),
    ],
)
def test_qformer_chooses_its_text(text: str | None, inputs: list[str], chosen: str | None) -> None:
    assert make("qformer", inputs, text_input=text).text == chosen


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [("texd", INPUTS, "did you mean 'text'"), ("image", INPUTS[:1], "the only input")],
)
def test_qformer_refuses_a_wrong_text(text: str, inputs: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make("qformer", inputs, text_input=text)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        *[(name, "num_layers", [2, 3]) for name in METHODS],
        *[(name, "num_heads", [1, 2]) for name in METHODS],
        *[(name, "dropout", [0.0, 0.5]) for name in METHODS],
        ("attention", "graph", [None, []]),
        ("coattention", "gated", [False, True]),
        ("mult", "num_memory_layers", [1, 2]),
        ("bottleneck", "num_bottlenecks", [2, 4]),
        ("bottleneck", "fusion_layer", [0, 1]),
        ("perceiver", "num_latents", [4, 8]),
        ("perceiver", "num_iterations", [1, 2]),
        ("qformer", "num_queries", [4, 8]),
        ("qformer", "text_input", ["auto", None]),
    ],
)
def test_every_option_changes_the_result(name: str, option: str, values: list[Any]) -> None:
    tokens, results = everything(2), []
    for value in values:
        fusion = make(name, **({"num_layers": 3} if option == "fusion_layer" else {}), **{option: value}).train()
        torch.manual_seed(3)
        results.append(fusion(tokens)[0].pooled)
    assert not torch.allclose(*results)


@pytest.mark.parametrize("name", METHODS)
def test_size_sets_unset_options(name: str) -> None:
    options = find("fusion", name).Options
    assert options(num_heads=2).at_size("base").num_heads == 2
    assert options().at_size("base").num_layers > options().at_size("tiny").num_layers

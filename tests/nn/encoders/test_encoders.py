"""All encoders: shapes, masks, gradients of all parameters, and independence of the batch."""

import pytest
import torch

from polymodal.core.errors import RecipeError
from polymodal.core.registry import components

torch.set_num_threads(1)

WIDTH = 16
SHAPES = {
    "text": {"vocabulary": 60, "length": 12, "ngrams": 40},
    "image": {"height": 32, "width": 32, "channels": 3},
    "number": {"columns": 3, "quantiles": [[-1.0, 0.0, 0.5, 2.0], [0.0, 0.0, 1.0], []]},
    "category": {"sizes": [4, 5]},
    "datetime": {"columns": 3, "groups": [2, 1]},
}
#: Those with a checkpoint are in tests/pretrained.
OF = {
    name: found.modality
    for name, found in components("encoder").items()
    if found.modality in SHAPES and not name.startswith("pretrained_")
}
#: Encoders of text that read its tokens.
TEXT = [name for name, modality in OF.items() if modality == "text" and name != "ngrams"]
IMAGE = [name for name, modality in OF.items() if modality == "image"]


def build(name, shape=None, **options):
    torch.manual_seed(0)
    component = components("encoder")[name]
    if name == "vgg16":
        options.setdefault("width_multiplier", 0.0625)
    return component(component.Options(**options), shape=shape or SHAPES[OF[name]], width=WIDTH)


def items(modality, count=6):
    torch.manual_seed(1)
    if modality == "text":
        length = torch.tensor([12, 3, 1, 7, 9, 5][:count])
        values = torch.randint(1, 60, (count, 12), dtype=torch.int32)
        ids = torch.randint(0, 41, (count, 15))
        ngrams = {"ngram_ids": ids, "ngram_weights": torch.rand(count, 15) * (ids > 0)}
        return {"values": values * (torch.arange(12) < length[:, None]), "length": length, **ngrams}
    if modality == "image":
        return {"pixels": torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8).permute(0, 3, 1, 2)}
    if modality in ("number", "datetime"):
        known = torch.tensor([[True, False, True], [True, True, False]]).repeat(3, 1)[:count]
        return {"values": torch.randn(count, 3), "known": known}
    return {"ids": torch.stack([torch.arange(count) % 4, torch.arange(count) % 5], dim=1).int()}


@pytest.mark.parametrize("name", OF)
def test_shapes_and_masks(name):
    encoder, data = build(name), items(OF[name])
    features, mask = encoder(data)
    assert features.shape == (6, mask.shape[1], encoder.width)
    assert mask.dtype == torch.bool
    assert mask.any(1).all()
    assert features.dtype == torch.float32
    assert features[mask].isfinite().all()


@pytest.mark.parametrize("name", OF)
def test_every_parameter_gets_a_gradient(name):
    encoder = build(name, **({"dropout": 0.0} if "dropout" in components("encoder")[name].Options.model_fields else {}))
    features, mask = encoder(items(OF[name]))
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (features * probe)[mask].sum().backward()
    dead = [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", OF)
def test_an_item_does_not_depend_on_its_batch(name):
    encoder, data = build(name).eval(), items(OF[name])
    with torch.no_grad():
        together, mask = encoder(data)
        for at in range(6):
            alone, own = encoder({key: value[at : at + 1] for key, value in data.items()})
            assert torch.equal(own[0], mask[at])
            assert torch.allclose(alone[0][own[0]], together[at][mask[at]], atol=1e-5)


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(name, training):
    options = {"num_layers": 2, "dropout": 0.0} | ({"token_dropout": 0.0} if name == "embedding_bag" else {})
    encoder = build(name, **options).train(training)
    data = items("text")
    length = data["length"]
    wide, mask = encoder(data)
    for at in range(6):
        kept = int(length[at])
        features, own = encoder({"values": data["values"][at : at + 1, :kept], "length": length[at : at + 1]})
        assert own.all()
        assert torch.allclose(features[0], wide[at][mask[at]], atol=1e-5)
    rubbish = data["values"].masked_fill(data["values"] == 0, 7)
    again, _ = encoder({"values": rubbish, "length": length})
    assert torch.allclose(again[mask], wide[mask], atol=1e-5)


@pytest.mark.parametrize("name", OF)
def test_the_input_is_not_modified_and_bfloat16_weights_work(name):
    encoder, data = build(name).eval(), items(OF[name])
    before = {key: value.clone() for key, value in data.items()}
    full, mask = encoder(data)
    half, _ = encoder.to(torch.bfloat16)(data)
    assert all(torch.equal(before[key], data[key]) for key in data)
    assert half.dtype == torch.bfloat16
    distance = (half.float() - full)[mask].norm() / full[mask].norm()
    assert distance < 0.1


CHANGES = {
    "embedding_bag": [
        {"embedding_dim": 8},
        {"num_layers": 0},
        {"pooling": "sum"},
        {"token_dropout": 0.6},
        {"dropout": 0.5},
    ],
    "ngrams": [{"embedding_dim": 8}, {"num_layers": 1}, {"ngram_dropout": 0.5}, {"dropout": 0.5}],
    "lstm": [{"embedding_dim": 8}, {"hidden_size": 8}, {"num_layers": 2}, {"bidirectional": False}, {"dropout": 0.5}],
    "transformer": [{"num_layers": 1}, {"num_heads": 2}, {"position_embedding": "learned"}, {"dropout": 0.5}],
    "resnet": [{"channels": 8}, {"num_blocks": 2}, {"dropout": 0.5}],
    "vgg16": [{"width_multiplier": 0.125}, {"dropout": 0.1}],
    "vit": [
        {"patch_size": 16},
        {"num_layers": 1},
        {"num_heads": 2},
        {"position_embedding": "learned"},
        {"dropout": 0.5},
    ],
    "column_mlp": [{"hidden_size": 8}],
    "periodic": [{"num_frequencies": 8}, {"frequency_init_scale": 1.0}],
    "piecewise_linear": [{"num_bins": 1}],
    "realmlp": [
        {"hidden_size": 8},
        {"num_layers": 1},
        {"activation": "selu"},
        {"embedding": "none"},
        {"embedding": "piecewise_linear"},
        {"dropout": 0.5},
    ],
    "entity_embedding": [{"max_embedding_dim": 2}, {"dropout": 0.5}],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in CHANGES for change in CHANGES[name]], ids=str)
def test_every_option_changes_the_result(name, change):
    def result(**options):
        encoder = build(name, **options)
        torch.manual_seed(3)
        for parameter in encoder.parameters():
            if not parameter.any():  # an option of a part that starts at 0 has its effect once the part has learned
                torch.nn.init.normal_(parameter)
        torch.manual_seed(3)
        return encoder(items(OF[name]))[0]

    before, after = result(), result(**change)
    assert torch.equal(before, result())
    assert before.shape != after.shape or not torch.allclose(before, after)
    fields = set(components("encoder")[name].Options.model_fields) - {"name"}
    fields -= {"ngrams"} if name == "ngrams" else set()  # it changes what the modality prepares
    assert fields == {key for changes in CHANGES[name] for key in changes}


@pytest.mark.parametrize("training", [True, False])
def test_padding_of_ngrams_changes_nothing(training):
    """Neither more padding nor an n-gram without weight, and no n-gram at all is a text too."""
    encoder = build("ngrams", dropout=0.0, ngram_dropout=0.0, num_layers=1).train(training)
    data = items("text")
    wide, mask = encoder(data)
    assert mask.all()
    for at in range(6):
        real = data["ngram_ids"][at] > 0
        own = {name: data[name][at : at + 1, real] for name in ("ngram_ids", "ngram_weights")}
        assert torch.allclose(encoder(own)[0][0], wide[at], atol=1e-6)
    nothing = {"ngram_ids": torch.zeros(2, 0, dtype=torch.int64), "ngram_weights": torch.zeros(2, 0)}
    zeros = {"ngram_ids": torch.zeros(2, 3, dtype=torch.int64), "ngram_weights": torch.zeros(2, 3)}
    assert torch.equal(encoder(nothing)[0], encoder(zeros)[0])
    assert encoder(zeros)[0].isfinite().all()


def test_an_ngram_encoder_is_the_weighted_sum_of_embeddings():
    encoder, data = build("ngrams").eval(), items("text")
    summed = (encoder.embedding[data["ngram_ids"]] * data["ngram_weights"].unsqueeze(-1)).sum(1)
    assert torch.allclose(encoder(data)[0][:, 0], encoder.linear(summed), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "side", "tokens"),
    [
        ("resnet", 64, 16),
        ("resnet", 96, 36),
        ("resnet", 50, 16),
        ("vit", 64, 64),
        ("vit", 96, 144),
        ("vgg16", 96, 1),
    ],
)
def test_tokens_of_other_image_sizes(name, side, tokens):
    encoder = build(name, {"height": side, "width": side, "channels": 3})
    pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    assert encoder(data={"pixels": pixels})[0].shape[:2] == (2, tokens)


def test_vgg16_at_full_scale_is_the_published_network():
    with torch.device("meta"):
        component = components("encoder")["vgg16"]
        encoder = component(
            component.Options(width_multiplier=1.0), shape={"height": 224, "width": 224, "channels": 3}, width=WIDTH
        )
    weights = {name: value.numel() for name, value in encoder.named_parameters() if value.ndim > 1}
    convolutions = sum(size for name, size in weights.items() if name.startswith("convolutions"))
    assert len(weights) == 13 + 2
    assert convolutions == 14_710_464
    assert sum(weights.values()) - convolutions == 25_088 * 4096 + 4096 * 4096
    assert encoder.width == 4096


def test_patches_are_in_row_major_order():
    from polymodal.nn.encoders.vit import patchify

    pixels = torch.arange(2 * 3 * 8 * 12).view(2, 3, 8, 12)
    patches = patchify(pixels, 4)
    assert torch.equal(patches[1, 4].view(4, 4, 3), pixels[1, :, 4:8, 4:8].permute(1, 2, 0))


@pytest.mark.parametrize("name", ["vit", "transformer"])
def test_heads_must_divide_the_width(name):
    with pytest.raises(RecipeError, match="heads"):
        build(name, num_heads=3)


def test_patches_must_divide_the_image():
    with pytest.raises(RecipeError, match=r"patch_size: 5 does not divide an image of 32 x 32 .*; \[4, 8, 16, 32\]"):
        build("vit", patch_size=5)


def test_vgg16_rejects_small_images():
    with pytest.raises(RecipeError, match="32 pixels or more"):
        build("vgg16", {"height": 16, "width": 16, "channels": 3})


def test_missing_numbers_use_the_learned_vector_of_their_column():
    for name in ("linear", "periodic"):
        encoder = build(name)
        torch.nn.init.normal_(encoder.missing)
        data = {"values": torch.full((1, 3), 9.0), "known": torch.tensor([[True, False, True]])}
        features, _ = encoder(data)
        assert torch.equal(features[0, 1], encoder.missing[1])
        assert not torch.equal(features[0, 0], encoder.missing[0])

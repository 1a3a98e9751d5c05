"""Every encoder learns a signal planted in its modality."""

import pytest
import torch
from torch import nn

from polymodal.core.registry import components

torch.set_num_threads(1)


def words(generator):
    length = torch.randint(4, 11, (256,), generator=generator)
    values = torch.randint(4, 30, (256, 10), generator=generator)
    label = torch.randint(0, 2, (256,), generator=generator)
    return values, length, label


def order(generator):
    """Which of two tokens comes first in a text of random other tokens."""
    values, length, label = words(generator)
    values[:, 0], values[:, 2] = 2 + label, 3 - label
    return {"values": values * (torch.arange(10) < length[:, None]), "length": length}, label


def presence(generator):
    """Which of two tokens is in the text."""
    values, length, label = words(generator)
    values[:, 1] = 2 + label
    return {"values": values * (torch.arange(10) < length[:, None]), "length": length}, label


def weighted_presence(generator):
    """Which of two n-grams is in the text, among random others."""
    data, label = presence(generator)
    ids = data["values"].long()
    return {"ngram_ids": ids, "ngram_weights": (ids > 0) / data["length"].sqrt().unsqueeze(1)}, label


def quarters(generator):
    """A bright spot in the upper left or the lower right of noise."""
    pixels = torch.randint(0, 120, (256, 32, 32, 3), generator=generator, dtype=torch.uint8)
    label = torch.randint(0, 2, (256,), generator=generator)
    for at, lower in enumerate(label.tolist()):
        row, column = (torch.randint(0, 10, (2,), generator=generator) + 16 * lower).tolist()
        pixels[at, row : row + 6, column : column + 6, 0] = 255
    return {"pixels": pixels.permute(0, 3, 1, 2)}, label


def threshold(generator):
    values = torch.randn(256, 3, generator=generator)
    return {"values": values, "known": torch.ones(256, 3, dtype=torch.bool)}, (values[:, 1] > 0).long()


def wave(generator):
    """Inside or outside a band: not linearly separable."""
    values = torch.randn(256, 3, generator=generator)
    return {"values": values, "known": torch.ones(256, 3, dtype=torch.bool)}, (values[:, 1].abs() > 0.67).long()


def product(generator):
    """Whether two numbers have the same sign: no sum of functions of single columns tells it."""
    values = torch.randn(256, 3, generator=generator)
    values[:, :2] += 0.5 * values[:, :2].sign()
    return {"values": values, "known": torch.ones(256, 3, dtype=torch.bool)}, (values[:, 0] * values[:, 1] > 0).long()


def gap(generator):
    """Whether a number is missing."""
    known = torch.rand(256, 3, generator=generator) < 0.5
    return {"values": torch.zeros(256, 3), "known": known}, known[:, 2].long()


def label_of_a_column(generator):
    ids = torch.stack([torch.randint(0, size, (256,), generator=generator) for size in (4, 6)], dim=1)
    return {"ids": ids}, (ids[:, 1] % 2)


PLANTED = [
    ("embedding_bag", presence, {}, 0.01, 60),
    ("ngrams", weighted_presence, {}, 0.01, 60),
    ("lstm", order, {"dropout": 0.0}, 0.01, 60),
    ("transformer", order, {"num_layers": 1, "dropout": 0.0}, 0.005, 60),
    ("resnet", quarters, {"channels": 16}, 0.005, 15),
    ("vgg16", quarters, {"width_multiplier": 0.0625, "dropout": 0.1}, 0.003, 25),
    ("vit", quarters, {"num_layers": 1, "dropout": 0.0}, 0.001, 80),
    ("vit", quarters, {"num_layers": 1, "dropout": 0.0, "position_embedding": "learned"}, 0.001, 80),
    ("linear", threshold, {}, 0.02, 60),
    ("linear", gap, {}, 0.02, 60),
    ("periodic", wave, {}, 0.02, 60),
    ("periodic", gap, {}, 0.02, 60),
    ("column_mlp", wave, {}, 0.02, 60),
    ("column_mlp", gap, {}, 0.02, 60),
    ("piecewise_linear", wave, {}, 0.02, 60),
    ("piecewise_linear", gap, {}, 0.02, 60),
    ("realmlp", wave, {}, 0.005, 60),
    ("realmlp", wave, {"embedding": "piecewise_linear"}, 0.005, 60),
    ("realmlp", gap, {}, 0.005, 60),
    ("realmlp", product, {}, 0.005, 100),
    ("embedding", label_of_a_column, {}, 0.02, 60),
    ("entity_embedding", label_of_a_column, {}, 0.02, 60),
]
SHAPES = {
    "text": {"vocabulary": 30, "length": 10, "ngrams": 30},
    "image": {"height": 32, "width": 32, "channels": 3},
    "number": {"columns": 3, "quantiles": [torch.linspace(-2.5, 2.5, 65).tolist()] * 3},
    "category": {"sizes": [4, 6]},
    "datetime": {"columns": 3, "groups": [1, 2]},
}


def pooled(encoder, data):
    features, mask = encoder(data)
    weight = mask.unsqueeze(-1).float()
    return (features * weight).sum(1) / weight.sum(1)


def accuracy(name, plant, options, rate, steps):
    torch.manual_seed(0)
    component = components("encoder")[name]
    encoder = component(component.Options(**options), shape=SHAPES[component.modality], width=32)
    head = nn.Linear(encoder.width, 2)
    model = nn.ModuleList([encoder, head])
    optimiser = torch.optim.AdamW(model.parameters(), rate)
    data, label = plant(torch.Generator().manual_seed(1))
    shuffle = torch.Generator().manual_seed(3)
    for _ in range(steps):
        chosen = torch.randperm(256, generator=shuffle)[:96]
        batch = {key: value[chosen] for key, value in data.items()}
        loss = nn.functional.cross_entropy(head(pooled(encoder, batch)), label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    fresh, truth = plant(torch.Generator().manual_seed(2))
    with torch.no_grad():
        return (head(pooled(encoder, fresh)).argmax(1) == truth).float().mean().item()


@pytest.mark.parametrize(("name", "plant", "options", "rate", "steps"), PLANTED)
def test_learns_its_planted_signal(name, plant, options, rate, steps):
    assert accuracy(name, plant, options, rate, steps) > 0.9


def test_every_encoder_of_these_modalities_is_tested():
    """Pretrained encoders are tested in tests/pretrained/test_planted_signals.py."""
    of = {name for name, found in components("encoder").items() if found.modality in SHAPES}
    of = {name for name in of if not name.startswith("pretrained_")}
    assert of == {name for name, *_ in PLANTED}


def test_an_encoder_does_not_learn_what_its_input_lacks():
    assert accuracy("embedding_bag", order, {}, 0.01, 60) < 0.7
    assert accuracy("linear", wave, {}, 0.02, 60) < 0.75
    assert accuracy("piecewise_linear", product, {}, 0.02, 60) < 0.75, "a sum over columns has no interaction"

"""The discrete autoencoder and its quantizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polymodal.datasets import make_captioned_figures
from polymodal.generation.image_tokenizer import AutoencoderConfig, ImageTokenizer
from polymodal.nn.layers.image_autoencoder import FiniteScalarQuantizer

CONFIG = AutoencoderConfig(32, 8, 24, (8, 6, 5))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([np.asarray(image) for image in make_captioned_figures(60)["image"]])


@pytest.fixture(scope="module")
def tokenizer(images: np.ndarray) -> ImageTokenizer:
    return ImageTokenizer.train(images, CONFIG, steps=120)


@pytest.mark.parametrize("levels", [[8, 6, 5], [2], [3, 4]])
def test_every_token_has_a_code_and_the_code_has_the_token(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    tokens = torch.arange(quantizer.vocab_size)
    codes = quantizer.codes(tokens)
    assert len(codes.unique(dim=0)) == quantizer.vocab_size == int(np.prod(levels))
    assert codes.abs().max() <= 1
    assert quantizer.tokens(codes).tolist() == tokens.tolist()


@pytest.mark.parametrize("levels", [[8, 6, 5], [2], [3, 4]])
def test_the_quantizer_gives_codes_with_the_gradient_of_tanh(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    z = torch.linspace(-9, 9, 500).unsqueeze(1).repeat(1, len(levels)).requires_grad_()
    codes = quantizer(z)
    assert torch.allclose(quantizer.codes(quantizer.tokens(codes)), codes)
    assert [len(column.unique()) for column in codes.detach().T] == levels
    codes.sum().backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert (z.grad[200:300] > 0).all()


def test_training_reconstructs_better_than_the_mean_image(tokenizer: ImageTokenizer, images: np.ndarray) -> None:
    decoded = tokenizer.decode(tokenizer.encode(images)).astype(np.float64)
    mean = images.mean(0)
    assert np.abs(decoded - images).mean() < 0.8 * np.abs(mean - images).mean()


def test_the_same_images_give_the_same_tokenizer(images: np.ndarray) -> None:
    one, other = (ImageTokenizer.train(images, CONFIG, steps=2) for _ in range(2))
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def test_a_loaded_tokenizer_is_the_saved_one(tokenizer: ImageTokenizer, images: np.ndarray) -> None:
    again = ImageTokenizer.load(tokenizer.state_dict(), CONFIG)
    tokens = again.encode(images[:5])
    assert (tokens == tokenizer.encode(images[:5])).all()
    assert (again.decode(tokens) == tokenizer.decode(tokens)).all()


def test_the_tokens_of_an_image_do_not_depend_on_the_others(tokenizer: ImageTokenizer, images: np.ndarray) -> None:
    together = tokenizer.encode(images)
    assert all((tokenizer.encode(images[row : row + 1])[0] == together[row]).mean() > 0.9 for row in range(5))


def test_no_images_have_no_tokens(tokenizer: ImageTokenizer) -> None:
    none = np.zeros((0, 32, 32, 3), np.uint8)
    assert tokenizer.encode(none).shape == (0, 16)
    assert tokenizer.decode(tokenizer.encode(none)).shape == none.shape

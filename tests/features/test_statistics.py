"""Statistics of media: what they measure, on items whose statistics are known."""

from __future__ import annotations

import numpy as np
import pytest

from polymodal.features.image_statistics import color_histogram, image_statistics, mean_colors, oriented_gradients
from polymodal.features.media_statistics import video_statistics
from polymodal.features.series_statistics import BANDS, LAGS, SEGMENTS, num_series_statistics, series_statistics
from polymodal.features.standardization import Standardization


def stripes(period: int, size: int = 48) -> np.ndarray:
    """An image with vertical stripes."""
    row = (np.arange(size) // period % 2 * 255).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (size, size, 3)).copy()


def test_colors_are_counted_and_averaged() -> None:
    image = np.zeros((1, 33, 40, 3), np.uint8)
    image[0, :, 20:] = (255, 0, 0)
    assert color_histogram(image)[0, [0, 48]].tolist() == [0.5, 0.5]
    cells = mean_colors(image, 4)[0]
    assert cells[:, :2].max() == 0
    assert (cells[:, 2:] == (1, 0, 0)).all()


def test_edges_are_measured_by_direction() -> None:
    upright, flat = stripes(6), stripes(6).transpose(1, 0, 2)
    first, second = oriented_gradients(np.stack([upright, flat])).reshape(2, 9, 4, 8).sum((1, 2))
    assert first.argmax() == 0  # the brightness changes from left to right
    assert second.argmax() == 4
    np.testing.assert_allclose(first[[0, 4]], second[[4, 0]], atol=1e-9)
    plain = np.full((1, 48, 48, 3), 90, np.uint8)
    assert not oriented_gradients(plain).any()


@pytest.mark.parametrize("size", [32, 47, 64, 224])
def test_images_of_any_size_have_the_same_number_of_statistics(size: int) -> None:
    assert image_statistics(stripes(4, size)[None]).shape == (1, 400)


def test_a_reversed_video_differs_in_its_course_only() -> None:
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    for time in range(6):
        frames[time, :, 5 * time : 5 * time + 5] = 255
    forward, backward = video_statistics(frames), video_statistics(frames[::-1])
    np.testing.assert_allclose(forward[:496], backward[:496], atol=1e-9)
    assert np.abs(forward[496:] - backward[496:]).max() > 0.2


def test_statistics_of_a_series_are_those_of_its_known_values() -> None:
    time = np.arange(64.0)
    wave = np.sin(2 * np.pi * time / 8)
    (found,) = series_statistics(wave[None, :, None])
    assert len(found) == num_series_statistics(1)
    lags = found[14 + SEGMENTS : 14 + SEGMENTS + len(LAGS)]
    assert lags[3] > 0.8  # a lag of one period
    assert lags[2] < -0.8
    bands = found[-1 - BANDS : -1]
    assert bands.argmax() == 2  # a quarter of the highest frequency
    with_gaps = wave.copy()
    with_gaps[5::16] = np.nan
    (other,) = series_statistics(with_gaps[None, :, None])
    known = with_gaps[~np.isnan(with_gaps)]
    np.testing.assert_allclose(other[:4], [known.mean(), known.std(), known.min(), known.max()])
    assert other[11] == 4 / 64


def test_statistics_of_odd_series_are_finite() -> None:
    for series in (np.zeros((1, 1)), np.full((3, 2), np.nan), np.full((9, 20), 7.0), np.array([[np.nan], [2.0]])):
        (found,) = series_statistics(series[None])
        assert found.shape == (num_series_statistics(series.shape[1]),)
        assert np.isfinite(found).all()


def test_statistics_of_a_series_do_not_depend_on_the_others() -> None:
    draw = np.random.default_rng(0)
    for steps, channels in ((1, 1), (2, 3), (7, 1), (24, 1), (150, 2), (1000, 5), (33, 20)):
        series = draw.normal(size=(9, steps, channels)).astype(np.float32)
        series[3:5, ::4] = np.nan
        single = np.concatenate([series_statistics(one[None]) for one in series])
        np.testing.assert_array_equal(series_statistics(series), single)


def test_channels_that_move_together_are_correlated() -> None:
    one = np.random.default_rng(0).normal(size=50)
    (found,) = series_statistics(np.stack([one, 2 * one + 1, -one], axis=1)[None])
    np.testing.assert_allclose(found[-4:-1], [1, -1, -1])


def test_standardization_ignores_constant_columns_and_clips() -> None:
    scaling = Standardization(3)
    draw = np.random.default_rng(0).normal(5, 2, (100, 3)).astype(np.float32)
    draw[:, 1] = 4
    scaling.fit(draw)
    found = scaling(draw)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), [1, 0, 1], atol=1e-5)
    assert scaling(np.full((1, 3), 1e9, np.float32)).tolist() == [[10, 0, 10]]

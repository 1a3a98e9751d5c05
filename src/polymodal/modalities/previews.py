"""Preview images of prepared items for reports: a strip of frames, a spectrogram, a line plot."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

#: Frames in a strip; height and maximum width of a spectrogram or a line plot, in pixels.
MAX_FRAMES, HEIGHT, WIDTH = 4, 72, 288
_COLORS = ((37, 99, 201), (180, 86, 10), (40, 140, 80), (150, 60, 160), (90, 90, 90), (200, 60, 60))


def frame_strip(pixels: np.ndarray) -> Image.Image:
    """Up to `MAX_FRAMES` frames of a video `[frames, side, side, 3]` uint8, from its first to its last, side by
    side."""
    chosen = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(MAX_FRAMES, len(pixels))).round().astype(int))]
    small = [Image.fromarray(np.ascontiguousarray(frame)).resize((HEIGHT, HEIGHT)) for frame in chosen]
    canvas = Image.new("RGB", (len(small) * (HEIGHT + 2) - 2, HEIGHT), "white")
    for position, frame in enumerate(small):
        canvas.paste(frame, (position * (HEIGHT + 2), 0))
    return canvas


def spectrogram_image(samples: np.ndarray) -> Image.Image:
    """A spectrogram of audio `[samples]`, time to the right and frequency upwards. Dark is loud, over a range of 60
    dB."""
    window = 512
    samples = np.pad(samples.astype(np.float32), (0, max(0, window - len(samples))))
    starts = np.linspace(0, len(samples) - window, min(WIDTH, max(1, len(samples) // 64))).astype(int)
    frames = samples[starts[:, None] + np.arange(window)] * np.hanning(window).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bands = power[:, 1:].reshape(len(starts), 64, -1).mean(2)
    level = 10 * np.log10(np.maximum(bands, 1e-12))
    shade = np.clip((level - (level.max() - 60)) / 60, 0, 1) if power.max() > 0 else np.zeros_like(level)
    gray = (255 * (1 - shade.T[::-1])).astype(np.uint8)
    return Image.fromarray(gray).resize((min(WIDTH, 2 * len(starts)), HEIGHT)).convert("RGB")


def line_plot(values: np.ndarray) -> Image.Image:
    """A line plot of a time series `[steps, channels]`: each of the first channels as a line between its minimum and
    maximum. A gap interrupts the line."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    x = np.linspace(2, WIDTH - 3, max(2, len(values)))
    for channel, ink in zip(values.T[: len(_COLORS)], _COLORS, strict=False):
        known = channel[np.isfinite(channel)]
        if not len(known):
            continue
        low, span = known.min(), max(float(np.ptp(known)), 1e-12)
        points = [(x[i], HEIGHT - 4 - (HEIGHT - 8) * (y - low) / span) for i, y in enumerate(channel)]
        run: list[tuple[float, float]] = []
        for point in [*points, (0.0, float("nan"))]:
            if np.isfinite(point[1]):
                run.append(point)
                continue
            if len(run) > 1:
                draw.line(run, fill=ink, width=1)
            elif run:
                draw.point(run, fill=ink)
            run = []
    return canvas

"""Augmentation, as pure functions on arrays."""

from __future__ import annotations

import numpy as np


def flip_and_shift(
    images: np.ndarray, rng: np.random.Generator, *, flip: bool = True, shift: int = 4
) -> np.ndarray:
    """Mirror half of the images and move each by up to `shift` pixels, the edge repeated.

    Args:
        images: uint8 (N, H, W, C).
        rng: where the draws come from; the same state gives the same images.
        flip: mirror left and right with probability 1/2.
        shift: largest move in pixels along each axis; 0 moves nothing.

    Returns:
        uint8 (N, H, W, C), a new array.
    """
    count, height, width, _ = images.shape
    images = images.copy()
    if flip:
        mirrored = rng.random(count) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if shift:
        down, right = rng.integers(0, 2 * shift + 1, (2, count))
        padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        images = windows[np.arange(count), down, right].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images)

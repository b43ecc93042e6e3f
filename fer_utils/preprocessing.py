"""Augmentation, as pure functions on arrays."""

from __future__ import annotations

import cv2
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


def crop_and_flip(
    images: np.ndarray, rng: np.random.Generator, *, size: int = 40, padding: int = 4
) -> np.ndarray:
    """Cut a square out of each image at random, and mirror half of them.

    Args:
        images: uint8 (N, H, W, C).
        rng: where the draws come from; the same state gives the same images.
        size: of the square in pixels; at most the image's with its padding.
        padding: black pixels added on every side beforehand.

    Returns:
        uint8 (N, size, size, C), a new array.

    Raises:
        ValueError: it is larger.

    Source:
        rahman2021, sections 4.2.1.4 and 4.2.1.5: torchvision's RandomCrop and
        RandomHorizontalFlip.
    """
    sides = (padding, padding)
    padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
    count, height, width, _ = padded.shape
    down = rng.integers(0, height - size + 1, count)
    right = rng.integers(0, width - size + 1, count)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    images = windows[np.arange(count), down, right].transpose(0, 2, 3, 1)
    mirrored = rng.random(count) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    return np.ascontiguousarray(images)


def ten_crops(images: np.ndarray, size: int = 40) -> np.ndarray:
    """The four corners and the centre of each image, then those of its mirror image.

    Args:
        images: uint8 (N, H, W, C).
        size: of the square crops in pixels.

    Returns:
        uint8 (N, 10, size, size, C).

    Source:
        rahman2021, section 4.2.1.8: torchvision's TenCrop, which rounds where the margin of the
        centre is odd; here the smaller half comes first.
    """
    bottom, right = images.shape[1] - size, images.shape[2] - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [
        seen[:, top : top + size, left : left + size]
        for seen in (images, images[:, :, ::-1])
        for top, left in corners
    ]
    return np.stack(crops, axis=1)


def shift_rotate_zoom(
    images: np.ndarray,
    rng: np.random.Generator,
    *,
    shift: float = 0.05,
    rotation: float = 10.0,
    zoom: float = 0.3,
) -> np.ndarray:
    """Move, turn and stretch each image at random, as Keras' ImageDataGenerator does.

    Args:
        images: uint8 (N, H, W, C).
        rng: where the draws come from; the same state gives the same images.
        shift: largest move along each axis, as a share of the image's side (width_shift_range and
            height_shift_range).
        rotation: largest angle in degrees, to either side (rotation_range).
        zoom: each axis is stretched by 1 / (1 - zoom) at most and shrunk by 1 / (1 + zoom), both
            axes drawn apart (zoom_range).

    Returns:
        uint8 (N, H, W, C), a new array.

    Source:
        wang2023, section 3.1: 5 % shift, rotation by 10 degrees, "scale of 0.3".
    """
    count, height, width, _ = images.shape
    degrees = rng.uniform(-rotation, rotation, count)
    shifts = rng.uniform(-shift, shift, (count, 2)) * (width, height)
    zooms = rng.uniform(1 - zoom, 1 + zoom, (count, 2))
    return transform(images, degrees, shifts, zooms)


def transform(
    images: np.ndarray, degrees: np.ndarray, shifts: np.ndarray, zooms: np.ndarray
) -> np.ndarray:
    """Where a pixel of each result comes from: its place zoomed, shifted, then rotated.

    All three are about the centre; what comes from outside repeats the edge; between pixels the
    values are interpolated linearly.

    Args:
        images: uint8 (N, H, W, C).
        degrees: float (N,); positive turns the picture counter-clockwise.
        shifts: float (N, 2), pixels along x and y; positive moves the picture left and up.
        zooms: float (N, 2), along x and y; below 1 magnifies.

    Returns:
        uint8 (N, H, W, C), a new array.
    """
    _, height, width, _ = images.shape
    cosines, sines = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    rotations = np.array([[cosines, -sines], [sines, cosines]]).transpose(2, 0, 1)  # (N, 2, 2)
    linear = rotations * zooms[:, None, :]
    centre = (np.array([width, height]) - 1) / 2
    offsets = centre + np.einsum("nij,nj->ni", rotations, shifts) - linear @ centre
    matrices = np.concatenate([linear, offsets[:, :, None]], axis=2)  # (N, 2, 3)
    result = np.empty_like(images)
    for image, matrix, target in zip(images, matrices, result, strict=True):
        target[:] = cv2.warpAffine(
            image,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(target.shape)
    return result

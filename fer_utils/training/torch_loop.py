"""The training loop for the chapters in PyTorch: the names and the ways of `keras_loop`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fer_utils import complexity
from fer_utils.datasets import FaceDataset
from fer_utils.training.checkpoints import history_of, load_state, save_state

FRAMEWORK = "PyTorch"
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Schedule = Callable[[dict[str, list[float]]], float | None]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class Trainable:
    """A network with what trains it, as a compiled model in Keras.

    Args:
        network: from images (N, 1, H, W), 0-255, to logits (N, K).
        optimizer: over the network's weights; None where nothing is to be trained.
        precision: of products; "tf32" differs from "float32" on a GPU alone. Weights are float32.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer | None
    precision: Precision = "float32"


@dataclass(frozen=True)
class Fit:
    """A finished training.

    Args:
        history: loss, accuracy, val_loss, val_accuracy (fractions), learning_rate and seconds of
            every epoch.
        best_epoch: 1-based; the epoch whose weights the model now has.
        selection: the rule that chose it, in words for the record.
    """

    history: dict[str, list[float]]
    best_epoch: int
    selection: str


def prepare(seed: int, threads: int = 0) -> None:
    """Fix what can vary before a model is built: seeds, and the operations' own order.

    Args:
        seed: of the first weights; epochs draw from (seed, epoch), see `fit`.
        threads: cores to use, 0 for all. Another number adds up in another order: results then
            agree to rounding errors only.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads or os.cpu_count())
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's condition for one order
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # no operation here reads it


def fit(
    model: Trainable,
    train: FaceDataset,
    val: FaceDataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    folder: Path,
    augment: Augment | None = None,
    select: str = "val_accuracy",
    learning_rate: Schedule | None = None,
) -> Fit:
    """Train, keep the chosen epoch's weights, and carry on where an earlier call was cut off.

    Everything an epoch draws (order, augmentation, dropout) depends on (seed, epoch) alone, so a
    run that was killed and started again ends with the numbers of an undisturbed one. Runs on the
    GPU where there is one.

    Args:
        model: network and optimizer; the loss is cross-entropy.
        train: images to learn from; `targets` where the set has them, else one-hot labels.
        val: images that choose the epoch; the test part only where that is what is to be shown.
        epochs: how many in all, those of an earlier call included; at least 1.
        batch_size: images a step.
        seed: of order, augmentation and dropout.
        folder: where the checkpoints are and go.
        augment: from uint8 (N, H, W, 1) and a generator to uint8 (N, h, w, 1); None for none.
        select: "val_accuracy" keeps the earliest epoch with the highest, "last" the last one.
        learning_rate: from the history so far (empty lists before the first epoch) to the next
            epoch's rate, or to None, which ends the training; left out, the optimizer's own.

    Returns:
        The history and the chosen epoch; the network has its weights.

    Raises:
        CheckpointError: `folder` belongs to a run with other settings, or is damaged.
        ValueError: `select` is neither rule, or images without a label.
    """
    if select not in ("val_accuracy", "last"):
        raise ValueError(f"select {select!r}: one of val_accuracy, last")
    run = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "select": select,
        "images": len(train),
    }
    state = load_state(folder, run) or {"run": run, "epoch": 0, "history": {}, "best": None}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.network.to(device, memory_format=torch.channels_last)  # see bench_torch.py
    if state["epoch"]:
        restore(model, folder / state["last"])
    targets, val_targets = one_hot(train), one_hot(val)
    groups = model.optimizer.param_groups if model.optimizer else []

    batches = -(-len(train) // batch_size)
    bar = tqdm(
        total=epochs * batches, initial=state["epoch"] * batches, unit="batch", mininterval=2
    )
    for epoch in range(state["epoch"], epochs):
        started = time.perf_counter()
        if learning_rate is not None:
            if (rate := learning_rate(history_of(state))) is None:
                break
            for group in groups:
                group["lr"] = rate
        bar.set_description(f"epoch {epoch + 1}/{epochs}")
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(train))
        images = train.images[order]
        images = images if augment is None else augment(images, rng)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        loss, accuracy = _epoch(model, images, targets[order], batch_size, bar)
        val_loss, val_accuracy = _score(model, val.images, val_targets)
        figures = {
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": groups[0]["lr"] if groups else 0.0,
            "seconds": time.perf_counter() - started,
        }
        history = history_of(state)
        earlier = history["val_accuracy"]
        state["history"] = {key: [*history[key], float(value)] for key, value in figures.items()}
        state["epoch"] = epoch + 1
        best = select == "last" or not earlier or val_accuracy > max(earlier)
        state = save_state(
            folder, state, lambda path: save(model, path), best=best, suffix=".safetensors"
        )
        highest = max([*earlier, val_accuracy])
        bar.set_postfix(val_accuracy=f"{val_accuracy:.4f}", best=f"{highest:.4f}")
    bar.close()

    restore(model, folder / state["best"])
    best_epoch = int(state["best"].removeprefix("epoch-").removesuffix(".safetensors"))
    rules = {"val_accuracy": "highest accuracy on the validation part", "last": "last epoch"}
    return Fit(state["history"], best_epoch, rules[select])


def _epoch(model: Trainable, images, targets, batch_size: int, bar) -> tuple[float, float]:
    """One pass over the training part in the order given; loss and accuracy on the way."""
    model.network.train()
    losses, right = [], []
    for start in range(0, len(images), batch_size):
        logits = _logits(model, images[start : start + batch_size])
        aims = torch.from_numpy(targets[start : start + batch_size]).to(logits.device)
        loss = functional.cross_entropy(logits, aims)
        if model.optimizer:
            model.optimizer.zero_grad()
            loss.backward()
            model.optimizer.step()
        losses.append(loss.detach() * len(aims))
        right.append((logits.argmax(1) == aims.argmax(1)).sum())
        bar.update()
    count = len(images)
    return torch.stack(losses).sum().item() / count, torch.stack(right).sum().item() / count


@torch.inference_mode()
def _score(model: Trainable, images, targets) -> tuple[float, float]:
    """Loss and accuracy of the network as it predicts."""
    model.network.eval()
    logits = torch.cat([_logits(model, images[n : n + 256]) for n in range(0, len(images), 256)])
    aims = torch.from_numpy(targets).to(logits.device)
    right = (logits.argmax(1) == aims.argmax(1)).float().mean()
    return functional.cross_entropy(logits, aims).item(), right.item()


def _logits(model: Trainable, images: np.ndarray) -> Tensor:
    """Logits float32 (N, K) of images uint8 (N, H, W, 1), on the network's device."""
    device = next(model.network.parameters()).device
    torch.backends.cuda.matmul.allow_tf32 = model.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = model.precision == "tf32"
    batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    with torch.autocast(device.type, torch.bfloat16, enabled=model.precision == "bfloat16"):
        return model.network(batch).float()


def in_software(precision: Precision) -> bool:
    """Whether the processor that would train has no instructions for products of this precision.

    It then takes many times as long as in float32 (tests/benchmarks/bench_torch.py). bfloat16 needs
    AVX-512 on x86; a GPU is taken to have what it needs.
    """
    if precision != "bfloat16" or torch.cuda.is_available():
        return False
    mkldnn = torch.backends.mkldnn.is_available()
    return not (mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def size(model: Trainable, images: np.ndarray) -> tuple[int, int]:
    """Weights of a network, running averages left out, and its multiply-accumulates for one image.

    Raises:
        ValueError: a layer whose multiply-accumulates are not known.
    """
    weights = sum(weight.numel() for weight in model.network.parameters())
    return weights, complexity.torch_multiply_accumulates(model.network, images[0])


@torch.inference_mode()
def predict(
    model: Trainable,
    images: np.ndarray,
    batch_size: int = 64,
    views: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Probabilities float32 (N, K) of images uint8 (N, H, W, 1).

    Args:
        model: trained; wherever its network is.
        images: uint8 (N, H, W, 1).
        batch_size: images at once.
        views: from uint8 (N, H, W, 1) to V pictures of each, uint8 (N, V, h, w, 1), whose
            probabilities are averaged; None for the image itself.
    """
    model.network.eval()
    found = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        seen = batch[:, None] if views is None else views(batch)
        probabilities = _logits(model, seen.reshape(-1, *seen.shape[2:])).softmax(1)
        found.append(probabilities.unflatten(0, seen.shape[:2]).mean(1).cpu().numpy())
    return np.concatenate(found)


def one_hot(data: FaceDataset) -> np.ndarray:
    """Targets float32 (N, K): the set's own distributions, or its labels as 0 and 1.

    Raises:
        ValueError: an image has neither.
    """
    if data.targets is not None:
        return data.targets
    if data.labels.min(initial=0) < 0:
        raise ValueError(f"{data.name}: images without a label cannot be trained on")
    return np.eye(len(data.class_names), dtype=np.float32)[data.labels]


def save(model: Trainable, path: Path) -> None:
    """Write weights and optimizer state as one safetensors file, which holds no code."""
    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    if model.optimizer:
        for number, state in model.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def restore(model: Trainable, path: Path) -> None:
    """Put the weights and the optimizer state of a file of `save` into a model."""
    network, states = {}, {}
    groups = model.optimizer.param_groups if model.optimizer else []
    weights = [weight for group in groups for weight in group["params"]]
    for key, value in load_file(path).items():
        owner, _, name = key.partition(".")
        if owner == "network":
            network[name] = value
        else:
            number, _, name = name.partition(".")
            weight = weights[int(number)]
            if value.shape == weight.shape:  # in its order in memory: sums then round alike
                value = torch.empty_like(weight).copy_(value)
            states.setdefault(int(number), {})[name] = value
    model.network.load_state_dict(network)
    if model.optimizer:
        model.optimizer.load_state_dict({**model.optimizer.state_dict(), "state": states})

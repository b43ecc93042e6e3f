"""A network in PyTorch, small and quick, and what the tests of both loops see of it."""

import torch
from torch import nn

from fer_utils.preprocessing import crop_and_flip
from fer_utils.training import torch_loop as loop

augment = crop_and_flip
SUFFIX = ".safetensors"
# Of the plain network, by hand: 10 x 10 means, to 8 maps of 8 x 8, to 8 of 3 x 3, to 3 logits.
SIZE = (
    (9 * 8 + 8) + (9 * 8 * 8 + 8) + (72 * 3 + 3),
    8 * 8 * (9 * 8) + 3 * 3 * (9 * 8 * 8) + 72 * 3,
)


class Centre(nn.Module):
    def forward(self, images):
        return images[:, :, -40:, -40:].float() / 255


def network(seed=0, *, plain=False, precision="float32", optimizer=torch.optim.SGD):
    """With what a run must not lose: batch statistics, dropout, momentum; plain: without both."""
    loop.prepare(seed, threads=1)
    layers = nn.Sequential(
        Centre(),
        nn.AvgPool2d(4),
        nn.Conv2d(1, 8, 3),
        nn.Identity() if plain else nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Flatten(),
        nn.Identity() if plain else nn.Dropout(0.3),
        nn.Linear(72, 3),
    )
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    return loop.Trainable(layers, optimizer(layers.parameters(), 0.02, **momentum), precision)


def weights(model):
    """All that prediction needs; the first is a kernel."""
    return [value.cpu().numpy().copy() for value in model.network.state_dict().values()]


def trainable(model):
    return [weight.detach().cpu().numpy().copy() for weight in model.network.parameters()]


def rate(model):
    return model.optimizer.param_groups[0]["lr"]


def watch_dropout(model):
    """A list that gets, at each step, what dropout lets through."""
    kept = []

    def watch(layer, inputs, output):
        if layer.training:
            kept.append((output == 0).cpu().numpy())

    model.network[7].register_forward_hook(watch)
    return kept


def replace_validation(monkeypatch, model, accuracy):
    """Let `accuracy()` say what each validation finds."""
    monkeypatch.setattr(loop, "_score", lambda *arguments: (1.0, accuracy()))

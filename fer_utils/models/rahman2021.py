"""ResNet18, VGG19 and their fusion (rahman2021), in PyTorch.

Reference:
    S. M. A. Rahman, K. Mahato: Face Emotion Recognition Using Fusion Models. Bachelor's thesis,
    Mawlana Bhashani Science and Technology University, 2021.

The thesis names two published networks and says little of what joins them. Both are built here as
published: for colour pictures of 224x224 and 1000 classes they have the well-known numbers of
weights. Choices marked OPEN are listed with their reasons in the chapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Model = Literal["resnet18", "vgg19", "vgg19_bn", "fusion_vote", "fusion_layer", "fusion_joint"]

SIDE = 40  # section 4.2.1.1: pictures of 40x40
STAGES = (64, 128, 256, 512)  # ResNet18: channels of each two blocks
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # VGG19: channels, convolutions
HIDDEN = 4096  # VGG19, section 3.3: "two fully connected layers with a size of 4096"; its 1000 is K
MEMBERS = ("resnet18", "vgg19_bn")  # of a fusion

# The models by name, as arguments of `build`, and the weights of each with 7 classes, running means
# and variances not counted. The thesis prints no count.
VARIANTS = {
    "resnet18": {"model": "resnet18"},
    "vgg19": {"model": "vgg19"},
    "vgg19_bn": {"model": "vgg19_bn"},
    "fusion_vote": {"model": "fusion_vote"},
    "fusion_layer": {"model": "fusion_layer"},
    "fusion_joint": {"model": "fusion_joint"},
}
PARAMETERS = {
    "resnet18": 11_173_831,
    "vgg19": 38_934_471,
    "vgg19_bn": 38_945_479,
    "fusion_vote": 50_119_310,
    "fusion_layer": 50_119_415,
    "fusion_joint": 50_119_415,
}


def build(
    num_classes: int = 7, *, model: Model = "resnet18", side: int = SIDE, channels: int = 1
) -> nn.Module:
    """One of the thesis's models, untrained.

    Args:
        num_classes: K, the expressions told apart.
        model: "resnet18", "vgg19", "vgg19_bn" (with batch normalization), or a fusion of a
            resnet18 and a vgg19_bn: "fusion_vote" averages their probabilities, "fusion_layer"
            trains one layer on their frozen outputs, "fusion_joint" trains all three.
        side: of the square pictures in pixels; larger ones are cropped to their centre.
        channels: 1 for grey, 3 for colour.

    Returns:
        A network from images (N, channels, H, W), 0-255, to logits (N, K). Parameters by default:
        PARAMETERS[model].

    Raises:
        ValueError: no such model.
    """
    if model == "resnet18":
        return ResNet18(num_classes, side, channels)
    if model in ("vgg19", "vgg19_bn"):
        return VGG19(num_classes, side, channels, normalize=model == "vgg19_bn")
    if model not in VARIANTS:
        raise ValueError(f"model {model!r}: one of {', '.join(VARIANTS)}")
    members = [build(num_classes, model=name, side=side, channels=channels) for name in MEMBERS]
    if model == "fusion_vote":
        return Vote(members)
    return Fusion(members, num_classes, frozen=model == "fusion_layer")


class ResNet18(nn.Module):
    """Residual network of 18 layers; the shapes are those of a 40x40 picture."""

    def __init__(self, num_classes: int, side: int, channels: int):
        super().__init__()
        self.side = side
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),  # 20x20x64
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),  # 10x10x64
        )
        stages, before = [], 64
        for width in STAGES:  # 10x10x64, 5x5x128, 3x3x256, 2x2x512
            stages += [ResidualBlock(before, width), ResidualBlock(width, width)]
            before = width
        self.stages = nn.Sequential(*stages)
        self.logits = nn.Linear(before, num_classes)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages(self.stem(_to_unit_range(images, self.side)))
        return self.logits(x.mean((2, 3)))  # average pooling to 512, then K


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them; a wider block halves the picture.

    Three of ResNet18's eight are wider: their shortcut is a 1x1 convolution, not the identity.
    """

    def __init__(self, before: int, width: int):
        super().__init__()
        stride = 1 if before == width else 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Identity()
        if before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convolutions(x) + self.shortcut(x))


class VGG19(nn.Module):
    """16 convolutions and a perceptron; the shapes are those of a 40x40 picture.

    OPEN: the perceptron is the published one with both its dropout layers. At 224x224 it sees
    7x7x512 features, at 40x40 the five poolings leave 512.
    """

    def __init__(self, num_classes: int, side: int, channels: int, normalize: bool):
        super().__init__()
        self.side = side
        layers, before = [], channels
        for width, convolutions in BLOCKS:  # 20x20x64, 10x10x128, 5x5x256, 2x2x512, 1x1x512
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1)]
                layers += [nn.BatchNorm2d(width)] if normalize else []
                layers += [nn.ReLU(inplace=True)]
                before = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.perceptron = nn.Sequential(
            nn.Linear(before * (side // 2 ** len(BLOCKS)) ** 2, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.logits = nn.Linear(HIDDEN, num_classes)
        _initialize(self)
        for layer in (self.perceptron[0], self.perceptron[3], self.logits):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(_to_unit_range(images, self.side))
        return self.logits(self.perceptron(x.flatten(1)))


class Vote(nn.Module):
    """The average of the members' probabilities, as logits; nothing is trained."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Vote:
        """Members stay as they are in prediction: no dropout, no new running means."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        probabilities = [member(images).float().softmax(1) for member in self.members]
        return torch.stack(probabilities).mean(0).clamp_min(1e-12).log()


class Fusion(nn.Module):
    """One layer on the outputs of both members.

    OPEN: "the trained data set that was obtained from the output of ResNet18 and VGG19 was used"
    (section 3.3) is read as trained members that stay frozen; Figure 3.8 is a picture. Read are the
    logits of both, though the text ends VGG19 in a softmax.
    """

    def __init__(self, members: Sequence[nn.Module], num_classes: int, frozen: bool):
        super().__init__()
        self.members = nn.ModuleList(members).requires_grad_(not frozen)
        self.frozen = frozen
        self.logits = nn.Linear(len(members) * num_classes, num_classes)

    def train(self, mode: bool = True) -> Fusion:
        """Frozen members stay as they are in prediction: no dropout, no new running means."""
        super().train(mode)
        if self.frozen:
            self.members.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        outputs = [member(images) for member in self.members]  # K each
        return self.logits(torch.cat(outputs, 1))


def _to_unit_range(images: Tensor, side: int) -> Tensor:
    """The centre of the pictures, 0..255 to 0..1 (section 4.2.1.2)."""
    top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
    return images[:, :, top : top + side, left : left + side].float() / 255


def _initialize(network: nn.Module) -> None:
    """He's first weights for convolutions followed by ReLU; biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def join(fusion: nn.Module, members: Sequence[nn.Module]) -> nn.Module:
    """Give a fusion the weights of trained members, in the order of MEMBERS; returns `fusion`."""
    for own, trained in zip(fusion.members, members, strict=True):
        own.load_state_dict(trained.state_dict())
    return fusion


def optimizer(network: nn.Module, learning_rate: float = 0.01) -> torch.optim.SGD | None:
    """Stochastic gradient descent (section 3.3); None where nothing is to be trained.

    OPEN: learning rate, momentum and weight decay are those of the public PyTorch recipe for
    FER2013 with two networks of these names, the same batch size and list of transforms; its
    clipping of gradients and its falling rate are left out.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not weights:
        return None
    return torch.optim.SGD(weights, lr=learning_rate, momentum=0.9, weight_decay=5e-4)


def layout() -> tuple[list, list]:
    """Columns and arrows for `drawings.blocks`, on 40x40 crops: the members, and their layer."""
    columns = [
        [("image", "40x40x1")],
        [("stem", "10x10x64"), ("block 1", "20x20x64")],
        [("stage 1", "10x10x64"), ("block 2", "10x10x128")],
        [("stage 2", "5x5x128"), ("block 3", "5x5x256")],
        [("stage 3", "3x3x256"), ("block 4", "2x2x512")],
        [("stage 4", "2x2x512"), ("block 5", "1x1x512")],
        [("average", "512"), ("perceptron", "4096, 4096")],
        [("ResNet18", "7"), ("VGG19", "7")],
        [("layer", "7")],
    ]
    rows = [[column[k][0] for column in columns[1:-1]] for k in (0, 1)]
    arrows = [("image", row[0]) for row in rows] + [(row[-1], "layer") for row in rows]
    arrows += [pair for row in rows for pair in pairwise(row)]
    return columns, arrows

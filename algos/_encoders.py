"""Image encoders with a replica axis, networks for vectors or images, and random shifts.

An encoder turns the images of R replicas, uint8 (R, B, stack · channels, height, width), into vectors
(R, B, size); it divides pixels by 255 itself. Convolutions are 3×3, followed by ReLU.

On the CPU the replicas are computed one after the other: that is faster than one grouped convolution, and
gives each replica the numbers that it has alone, to the last bit. On a GPU they are one grouped convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqeval.algorithm import Image, Noise, Spec, UserError, Vector, stream
from seqeval.training.matmul import aligned

from ._networks import MLP, Init, matmul_flops

EncoderName = Literal["auto", "minatar", "drq", "impala"]
AUTO_DRQ = 32  # pixels: from this height and width on, `auto` is `drq`, below it is `minatar`
NORM_EPSILON = 1e-5  # added to the variance in layer normalisation, torch's default


class Layer(NamedTuple):
    """A convolution and the size of its output."""

    inputs: int  # channels
    outputs: int
    height: int
    width: int
    stride: int = 1
    padding: int = 0

    def flops(self, batch_size: int) -> int:
        return 2 * batch_size * self.inputs * self.outputs * 9 * self.height * self.width


class Convolutions(nn.Module):
    """Convolutions of R replicas: images -> (R, B, size). Subclasses say which."""

    name: ClassVar[str]  # of the encoder
    init: ClassVar[Init] = "uniform"
    offset: ClassVar[float] = 0.0  # added to the pixels, which are within [0, 1]

    def __init__(self, image: Image, name: str, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.layers = self.layers_for(image)
        if min(self.layers[-1].height, self.layers[-1].width) < 1:
            size = f"{image.height}×{image.width}"
            raise UserError(f"images of {size} pixels are too small for the convolutions of {self.name}")
        dtype, weights, biases = torch.get_default_dtype(), [], []
        for place, layer in enumerate(self.layers):
            weight, bias = _initial(layer, self.init, f"{name}.{place}", seeds)
            weights.append(weight.to(device, dtype))
            biases.append(bias.to(device, dtype))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)

    @classmethod
    def layers_for(cls, image: Image) -> list[Layer]:
        raise NotImplementedError

    @classmethod
    def map_size(cls, image: Image) -> int:
        """Numbers that the convolutions give for an image."""
        last = cls.layers_for(image)[-1]
        return last.outputs * last.height * last.width

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (R, B, stack · channels, height, width) -> (R, B, map_size)."""
        if images.is_cpu:
            by_layer = [[p.unbind() for p in group] for group in (self.weights, self.biases)]
            maps = []
            for replica, values in enumerate(images):
                weights, biases = ([aligned(p[replica]) for p in group] for group in by_layer)
                maps.append(self._compute(self._pixels(values), weights, biases, 1))
            return torch.stack(maps).flatten(2)
        weights, biases = ([p.flatten(0, 1) for p in group] for group in (self.weights, self.biases))
        side_by_side = self._pixels(images.transpose(0, 1).flatten(1, 2))
        joined = self._compute(side_by_side, weights, biases, len(images))
        return joined.unflatten(1, (len(images), -1)).transpose(0, 1).flatten(2)

    def _pixels(self, images: Tensor) -> Tensor:
        return images.to(self.weights[0].dtype) / 255 + self.offset

    def _compute(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], groups: int) -> Tensor:
        """All layers, of `groups` replicas side by side: (B, groups · channels, height, width), weights
        (groups · out, in, 3, 3), biases (groups · out) -> (B, groups · outputs, height, width)."""
        for layer, weight, bias in zip(self.layers, weights, biases, strict=True):
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding, groups=groups).relu()
        return x


def _unpadded(image: Image, outputs: Sequence[int], strides: Sequence[int]) -> list[Layer]:
    """Convolutions one after the other, without padding."""
    layers, inputs, height, width = [], image.stack * image.channels, image.height, image.width
    for channels, stride in zip(outputs, strides, strict=True):
        height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
        layers.append(Layer(inputs, channels, height, width, stride))
        inputs = channels
    return layers


def _initial(layer: Layer, init: Init, name: str, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Initial weights (R, out, in, 3, 3) and biases (R, out), float64, as those of an `MLP`."""
    shape, fan_in = (layer.outputs, layer.inputs, 3, 3), layer.inputs * 9
    weights, biases = [], []
    for seed in seeds:
        rng = stream(seed, "weights", name)
        if init == "uniform":
            bound = 1 / math.sqrt(fan_in)
            weights.append(torch.from_numpy(rng.uniform(-bound, bound, shape)))
            biases.append(torch.from_numpy(rng.uniform(-bound, bound, layer.outputs)))
        else:
            flat = _orthogonal(rng, layer.outputs, fan_in) if init == "orthogonal" else _xavier(rng, layer)
            weights.append(flat.reshape(shape))
            biases.append(torch.zeros(layer.outputs, dtype=torch.float64))
    return torch.stack(weights), torch.stack(biases)


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Tensor:
    """√2 times a random matrix with orthonormal rows, or columns if those are fewer."""
    tall = torch.from_numpy(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q, r = torch.linalg.qr(tall)
    q *= r.diag().sign()
    return math.sqrt(2) * (q if rows >= columns else q.T)


def _xavier(rng: np.random.Generator, layer: Layer) -> Tensor:
    bound = math.sqrt(6 / (9 * (layer.inputs + layer.outputs)))
    return torch.from_numpy(rng.uniform(-bound, bound, (layer.outputs, layer.inputs * 9)))


class MinAtarConvolutions(Convolutions):
    """One convolution: Young, Tian, *MinAtar* (arXiv 1903.03176)."""

    name = "minatar"

    @classmethod
    def layers_for(cls, image: Image) -> list[Layer]:
        return _unpadded(image, (16,), (1,))


class DrQConvolutions(Convolutions):
    """Four convolutions: Yarats et al., *Mastering Visual Continuous Control* (DrQ-v2, arXiv 2107.09645)."""

    name = "drq"
    init = "orthogonal"
    offset = -0.5

    @classmethod
    def layers_for(cls, image: Image) -> list[Layer]:
        return _unpadded(image, (32, 32, 32, 32), (2, 1, 1, 1))


class ImpalaConvolutions(Convolutions):
    """Three stages of a convolution, a 3×3 maximum with stride 2 and one residual block: Espeholt et al.,
    *IMPALA* (arXiv 1802.01561), with one block a stage as `impala_small` of OGBench (arXiv 2410.20092)."""

    name = "impala"
    init = "xavier"

    @classmethod
    def layers_for(cls, image: Image) -> list[Layer]:
        layers, inputs, height, width = [], image.stack * image.channels, image.height, image.width
        for channels in (16, 32, 32):
            layers.append(Layer(inputs, channels, height, width, padding=1))
            height, width = (height + 1) // 2, (width + 1) // 2
            layers += [Layer(channels, channels, height, width, padding=1)] * 2
            inputs = channels
        return layers

    def _compute(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], groups: int) -> Tensor:
        def convolved(x: Tensor, place: int) -> Tensor:
            return functional.conv2d(x, weights[place], biases[place], padding=1, groups=groups)

        for place in range(0, len(weights), 3):
            x = functional.max_pool2d(convolved(x, place), 3, stride=2, padding=1)
            x = x + convolved(convolved(x.relu(), place + 1).relu(), place + 2)
        return x.relu()


class Projection(MLP):
    """Linear to `size`, layer normalisation, tanh: what follows the convolutions of DrQ-v2."""

    def __init__(self, name: str, inputs: int, size: int, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(name, [inputs, size], seeds, device, "orthogonal", last_gain=1.0)
        self.scale = nn.Parameter(torch.ones(len(seeds), 1, size, device=device))
        self.shift = nn.Parameter(torch.zeros(len(seeds), 1, size, device=device))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(R, B, inputs) -> (R, B, size), within (-1, 1)."""
        normal = functional.layer_norm(super().forward(x), self.scale.shape[-1:], eps=NORM_EPSILON)
        return (normal * self.scale + self.shift).tanh()


class Encoder(nn.Module):
    """Convolutions and a layer that makes their output a vector: images -> (R, B, size).

    `minatar`: linear 128 and ReLU. `drq`: a `Projection` to 50. `impala`: linear 512 and ReLU. `auto` is
    `minatar` for images below 32 pixels and `drq` for others. Raises UserError if images are too small.
    """

    def __init__(
        self, image: Image, encoder: EncoderName, name: str, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__()
        found = encoder_name(image, encoder)
        kind, self.size = KINDS[found]
        self.convolutions = kind(image, f"{name}.convolutions", seeds, device)
        inputs = kind.map_size(image)
        self.last = (
            Projection(f"{name}.last", inputs, self.size, seeds, device)
            if found == "drq"
            else MLP(f"{name}.last", [inputs, self.size], seeds, device, kind.init, last_gain=1.0)
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (R, B, stack · channels, height, width) -> (R, B, size)."""
        features = self.last(self.convolutions(images))
        return features if isinstance(self.last, Projection) else features.relu()


KINDS: dict[str, tuple[type[Convolutions], int]] = {  # and the size of the vectors
    "minatar": (MinAtarConvolutions, 128),
    "drq": (DrQConvolutions, 50),
    "impala": (ImpalaConvolutions, 512),
}


def encoder_name(image: Image, encoder: EncoderName) -> str:
    """The encoder that `auto` stands for; any other as it is."""
    if encoder != "auto":
        return encoder
    return "drq" if min(image.height, image.width) >= AUTO_DRQ else "minatar"


class ObservationMLP(MLP):
    """An `MLP` on observations, behind an `Encoder` of its own where they are images.

    (R, B, observation) -> (R, B, outputs), or (R, copies, B, outputs): the copies of a replica share the
    encoder. `network` are further arguments of the `MLP`.
    """

    def __init__(
        self,
        name: str,
        spec: Spec,
        hidden: Sequence[int],
        outputs: int,
        seeds: Sequence[int],
        device: torch.device,
        init: Init,
        encoder: EncoderName = "auto",
        copies: int | None = None,
        **network: Any,
    ) -> None:
        image, found = spec.observation, None
        if isinstance(image, Image):
            found = Encoder(image, encoder, f"{name}.encoder", seeds, device)
        inputs = spec.observation_size if found is None else found.size
        super().__init__(name, [inputs, *hidden, outputs], seeds, device, init, copies, **network)
        self.encoder, self.copies = found, copies

    def forward(self, observations: Tensor, masks: Sequence[Tensor] = (), gain: float = 1.0) -> Tensor:
        x = observations if self.encoder is None else self.encoder(observations)
        return super().forward(x if self.copies is None else x.unsqueeze(1), masks, gain)


def convolution_flops(kind: type[Convolutions], image: Image, batch_size: int) -> tuple[int, int]:
    """As `matmul_flops`, of convolutions."""
    layers = [layer.flops(batch_size) for layer in kind.layers_for(image)]
    return sum(layers), sum(layers[1:])


def network_flops(
    spec: Spec,
    encoder: EncoderName,
    batch_size: int,
    hidden: Sequence[int],
    outputs: int,
    copies: int = 1,
) -> tuple[int, int]:
    """As `matmul_flops`, of an `ObservationMLP`; images need no gradients."""
    image = spec.observation
    if isinstance(image, Vector):
        total, inner = matmul_flops(batch_size, image.size, *hidden, outputs)
        return copies * total, copies * inner
    kind, size = KINDS[encoder_name(image, encoder)]
    convolutions, inner = convolution_flops(kind, image, batch_size)
    last, _ = matmul_flops(batch_size, kind.map_size(image), size)
    heads, _ = matmul_flops(batch_size, size, *hidden, outputs)
    return convolutions + last + copies * heads, inner + last + copies * heads


def shift_noise(batch_size: int) -> Noise:
    """The random numbers of `random_shift` for a minibatch."""
    return Noise("uniform", (batch_size, 2))


def random_shift(images: Tensor, noise: Tensor, pixels: int) -> Tensor:
    """Each image shifted by -pixels to pixels in both directions; pixels at the edge are repeated.

    Images (R, B, channels, height, width), noise (R, B, 2) from U[0, 1). Yarats, Kostrikov, Fergus, *Image
    Augmentation Is All You Need* (DrQ, arXiv 2004.13649).
    """
    shifts = (noise * (2 * pixels + 1)).long() - pixels  # (R, B, 2)
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) + shifts[..., :1]
    columns = torch.arange(width, device=images.device) + shifts[..., 1:]
    rows = rows.clamp(0, height - 1)[:, :, None, :, None].expand(images.shape)
    columns = columns.clamp(0, width - 1)[:, :, None, None, :].expand(images.shape)
    return images.gather(-2, rows).gather(-1, columns)

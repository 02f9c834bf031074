"""Algorithms for discrete actions and images against independent implementations; encoders and shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_images
import torch
from seqeval.algos.networks import Encoder, EncoderName, ObservationMLP, random_shift

from seqeval import plugins
from seqeval.algorithm import Algorithm, select_replica
from seqeval.check.subject import Subject
from seqeval.errors import UserError
from seqeval.types import Batch, Image, Spec, Vector

SEEDS = [0, 7]
CPU = torch.device("cpu")
VECTOR = Spec(Vector(5), 3, discrete=True)
TINY = Spec(Image(2, 10, 11, stack=2), 3, discrete=True)  # encoder minatar
LARGER = Spec(Image(1, 17, 18, stack=3), 3, discrete=True)  # for the encoder drq
PIXELS = Spec(Image(1, 17, 18, stack=3), 2)


def make(name: str, spec: Spec, seeds: list[int] = SEEDS, **settings) -> Algorithm:
    found = plugins.find(name)
    config = replace(found.Config(), **{"batch_size": 16, "hidden": (24, 20), **settings})
    return found(spec, config, seeds, 100, CPU)


def batches(algorithm: Algorithm, count: int) -> list[Batch]:
    config = algorithm.config
    space = "discrete" if algorithm.spec.discrete else "continuous"
    subject = Subject(type(algorithm), config, space, isinstance(algorithm.spec.observation, Image))
    return [subject.batch(algorithm, update) for update in range(count)]


def of_replica(batch: Batch, replica: int) -> dict[str, torch.Tensor]:
    values = {name: value for name, value in vars(batch).items() if name != "noise" and value is not None}
    return {name: value[replica] for name, value in (values | batch.noise).items()}


@pytest.mark.parametrize(
    ("name", "reference", "spec"),
    [
        *(("cql", reference_images.DiscreteCQL, spec) for spec in (VECTOR, TINY, LARGER)),
        *(("bcq", reference_images.BCQ, spec) for spec in (VECTOR, TINY, LARGER)),
        *(("iql", reference_images.DiscreteIQL, spec) for spec in (VECTOR, TINY, LARGER)),
        ("bc", reference_images.ImageBC, LARGER),
    ],
)
def test_updates_equal_those_in_plain_torch(name: str, reference: type, spec: Spec, float64: None) -> None:
    algorithm = make(name, spec, encoder="drq" if spec == LARGER else "auto")
    agents = [reference(algorithm, replica) for replica in range(len(SEEDS))]
    for update, batch in enumerate(batches(algorithm, 20), 1):
        metrics = algorithm.update(batch)
        tolerance = 1e-9 if update == 1 else 1e-6
        for replica, agent in enumerate(agents):
            expected = agent.update(of_replica(batch, replica))
            assert metrics.keys() == expected.keys()
            for key, value in expected.items():
                assert metrics[key][replica].item() == pytest.approx(value.item(), abs=tolerance), key
            for path, network in agent.networks().items():
                module = algorithm
                for part in path.split("."):
                    module = getattr(module, part)
                with torch.no_grad():
                    actual = ObservationMLP.forward(module, batch.observations)[replica]
                    expected_outputs = torch.stack(network(batch.observations[replica]))
                torch.testing.assert_close(
                    actual.view(expected_outputs.shape), expected_outputs, rtol=0, atol=tolerance
                )


def test_drq_bc_equals_its_implementation_in_plain_torch(float64: None) -> None:
    algorithm = make("drq_bc", PIXELS)
    agents = [reference_images.DrQBC(algorithm, replica) for replica in range(len(SEEDS))]
    steps = batches(algorithm, 20)
    assert len(steps[0].steps.unique()) == 3  # one to three rewards are summed
    for update, batch in enumerate(steps, 1):
        error = algorithm.td_error(batch)
        metrics = algorithm.update(batch)
        tolerance = 1e-9 if update == 1 else 1e-6
        for replica, agent in enumerate(agents):
            expected = agent.update(of_replica(batch, replica))
            assert metrics.keys() == expected.keys()
            for key, value in expected.items():
                assert metrics[key][replica].item() == pytest.approx(value.item(), abs=tolerance), key
            squares = error[replica].square().mean(-1).sum().item()
            assert squares == pytest.approx(expected["critic_loss"].item(), abs=tolerance)
            images = batch.observations[replica]
            with torch.no_grad():
                action = algorithm.act(batch.observations)[replica]
                value = algorithm.q_value(batch.observations, batch.actions)[replica]
                encoded = agent.encoder(images)
                expected_q = torch.minimum(*agent.q(agent.critic, encoded, batch.actions[replica]))
                torch.testing.assert_close(action, agent.pi(encoded).tanh(), rtol=0, atol=tolerance)
                torch.testing.assert_close(value, expected_q, rtol=0, atol=tolerance)


def test_the_noise_of_drq_bc_falls_linearly_and_not_below_its_end() -> None:
    algorithm = make("drq_bc", PIXELS, noise_updates=4, noise_start=1.0, noise_end=0.2)
    found = []
    for batch in batches(algorithm, 6):
        found.append(algorithm._noise_std().item())
        algorithm.update(batch)
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_only_the_critics_train_the_encoder_of_drq_bc() -> None:
    algorithm = make("drq_bc", PIXELS, learning_rate=1e-2)
    (batch,) = batches(algorithm, 1)
    algorithm.critic_optimizer.minimize = lambda losses: None  # type: ignore[method-assign]
    before = [p.clone() for p in algorithm.encoder.parameters()]
    actor = [p.clone() for p in algorithm.actor.parameters()]
    algorithm.update(batch)
    assert all(map(torch.equal, before, algorithm.encoder.parameters()))
    assert not any(map(torch.equal, actor, algorithm.actor.parameters()))


@pytest.mark.parametrize("encoder", ["minatar", "drq", "impala"])
@pytest.mark.parametrize("image", [Image(3, 15, 17), Image(1, 33, 32, stack=3)])
def test_encoders_of_several_replicas_equal_those_of_each_and_the_grouped_convolution(
    encoder: EncoderName, image: Image
) -> None:
    several = Encoder(image, encoder, "test", SEEDS, CPU)
    shape = (2, 5, image.stack * image.channels, image.height, image.width)
    images = torch.from_numpy(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))
    found = several(images)
    assert found.shape == (2, 5, several.size)
    for replica, seed in enumerate(SEEDS):
        alone = Encoder(image, encoder, "test", [seed], CPU)
        assert torch.equal(alone(images[replica : replica + 1])[0], found[replica])
    maps = several.convolutions
    weights, biases = ([p.flatten(0, 1) for p in group] for group in (maps.weights, maps.biases))
    pixels = maps._pixels(images.transpose(0, 1).flatten(1, 2))
    grouped = maps._compute(pixels, weights, biases, 2).unflatten(1, (2, -1)).transpose(0, 1).flatten(2)
    torch.testing.assert_close(grouped, maps(images), rtol=1e-4, atol=1e-5)


def test_pixels_are_divided_by_255() -> None:
    encoder = Encoder(Image(1, 3, 3), "minatar", "test", [0], CPU)
    pixels = encoder.convolutions._pixels(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(pixels, torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize(
    ("image", "encoder", "size"),
    [(Image(4, 10, 10), "minatar", 128), (Image(3, 32, 40), "drq", 50), (Image(3, 31, 84), "minatar", 128)],
)
def test_the_encoder_fits_the_size_of_the_images(image: Image, encoder: str, size: int) -> None:
    found = Encoder(image, "auto", "test", [0], CPU)
    assert found.convolutions.name == encoder
    assert found.size == size


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="images of 10×14 pixels are too small for the convolutions of drq"):
        Encoder(Image(4, 10, 14), "drq", "test", [0], CPU)


def test_a_random_shift_repeats_the_pixels_at_the_edge() -> None:
    image = torch.arange(9, dtype=torch.uint8).view(1, 1, 1, 3, 3)
    # Of 3 places in each direction: the first, the middle and the last.
    up_left, same, down = (
        random_shift(image, torch.tensor([[noise]]), 1)[0, 0, 0].tolist()
        for noise in ([0.0, 0.3], [0.34, 0.66], [0.99, 0.5])
    )
    assert up_left == [[0, 0, 1], [0, 0, 1], [3, 3, 4]]
    assert same == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert down == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]


def test_a_random_shift_equals_padding_and_cutting() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(256, size=(2, 6, 3, 12, 9), dtype=np.uint8))
    noise = torch.from_numpy(rng.random((2, 6, 2), dtype=np.float32))
    found = random_shift(images, noise, 4)
    assert found.dtype == torch.uint8
    expected = [reference_images.shifted(*values) for values in zip(images, noise, strict=True)]
    assert torch.equal(found.double(), torch.stack(expected))


def test_replicas_from_images_equal_solo_runs_to_the_last_bit() -> None:
    """With the large encoders and sizes that are not multiples of 16."""
    for name, spec, settings in (
        ("iql", Spec(Image(3, 17, 19), 3, discrete=True), {"encoder": "impala"}),
        ("bcq", Spec(Image(3, 17, 19), 3, discrete=True), {"encoder": "drq"}),
        ("bc", replace(LARGER, action_size=5), {"encoder": "drq"}),
        ("drq_bc", replace(PIXELS, action_size=1), {}),
    ):
        together = make(name, spec, batch_size=13, **settings)
        for batch in batches(together, 4):
            together.update(batch)
        for replica, seed in enumerate(SEEDS):
            solo = make(name, spec, [seed], batch_size=13, **settings)
            for batch in batches(solo, 4):
                solo.update(batch)
            one, other = select_replica(together.state_dict(), replica), solo.state_dict()
            pairs = list(zip(leaves(one), leaves(other), strict=True))
            assert len(pairs) > 10
            assert all(torch.equal(*pair) for pair in pairs), name


def leaves(state) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for value in values for tensor in leaves(value)]

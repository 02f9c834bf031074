"""The matmul backend of a study: chosen by a fixed rule, recorded, and kept on resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import seqeval
from seqeval import Evaluation, Execution, Protocol, Study, UserError
from seqeval.execution import storage
from seqeval.training import matmul
from seqeval.training.matmul import MatmulBackend

needs_bfloat16 = pytest.mark.skipif(
    not matmul.has_bfloat16(), reason="this processor has no bfloat16 products"
)
needs_onednn = pytest.mark.skipif(not matmul.HAS_ONEDNN, reason="this torch has no oneDNN")
STUDY = Study(
    datasets=("pendulum-replay",),
    algorithms=("bc:batch_size=8,hidden=(40,40)",),
    seeds=(0,),
    protocol=Protocol(start=19_000, grow_by=100),
    evaluation=Evaluation(points=2, episodes=1),
    device="cpu",
)


def with_precision(precision: str, **others: object) -> Study:
    return Study(**{**vars(STUDY), "precision": precision, **others})


def recorded(out: Path) -> dict:
    return json.loads((out / "study.json").read_text())


@needs_onednn
@pytest.mark.parametrize(
    ("processor", "kernels"),
    [
        (("AuthenticAMD", 26), "onednn"),
        (("AuthenticAMD", 25), "narrow-onednn"),
        (("GenuineIntel", 6), "blas"),
        (("", 0), "blas"),
    ],
)
def test_processor_determines_the_kernels(processor: tuple, kernels: str, monkeypatch) -> None:
    monkeypatch.setattr(matmul, "processor_family", lambda: processor)
    assert matmul.default_backend("cpu") == MatmulBackend(kernels, "float32")


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n", ("AuthenticAMD", 26)),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n", ("GenuineIntel", 6)),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", ("", 0)),
        ("AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD", ("AuthenticAMD", 25)),  # Windows
        ("arm", ("", 0)),
    ],
)
def test_processor_family_is_parsed_from_the_system_description(text: str, family: tuple) -> None:
    assert matmul.parse_processor_family(text) == family


def test_fast_precision_rounds_only_where_the_processor_supports_it(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "has_bfloat16", lambda: True)
    assert matmul.default_backend("cpu", "fast").operands == "bfloat16"
    monkeypatch.setattr(matmul, "has_bfloat16", lambda: False)
    assert matmul.default_backend("cpu", "fast").operands == "float32"
    assert matmul.default_backend("cuda", "fast").operands == "tf32"
    assert matmul.default_backend("cuda", "full").operands == "float32"


def test_using_restores_the_previous_backend() -> None:
    before, cuda = matmul.current(), torch.backends.cuda.matmul.fp32_precision

    def fail() -> None:
        assert matmul.current() == MatmulBackend("blas", "tf32")
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        raise RuntimeError

    with pytest.raises(RuntimeError), matmul.using(MatmulBackend("blas", "tf32")):
        fail()
    assert matmul.current() == before
    assert torch.backends.cuda.matmul.fp32_precision == cuda


def test_backend_that_the_machine_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "HAS_ONEDNN", False)
    for kernels, operands in (("onednn", "float32"), ("narrow-onednn", "float32"), ("blas", "bfloat16")):
        backend = MatmulBackend(kernels, operands)
        with pytest.raises(UserError, match="resume it on the machine where it started"):
            with matmul.using(backend):
                pass


@needs_bfloat16
def test_fast_precision_changes_the_numbers_and_is_required_to_resume(tmp_path: Path) -> None:
    seqeval.run(with_precision("fast"), tmp_path / "fast", Execution(jobs=1))
    assert recorded(tmp_path / "fast")["precision"] == "fast"
    assert recorded(tmp_path / "fast")["matmul"]["cpu"]["operands"] == "bfloat16"
    with pytest.raises(UserError, match="fast: precision is 'fast' there and 'full' now"):
        seqeval.run(STUDY, tmp_path / "fast", Execution(jobs=1))
    seqeval.run(STUDY, tmp_path / "full", Execution(jobs=1))
    assert recorded(tmp_path / "full")["matmul"]["cpu"]["operands"] == "float32"
    fast, full = (storage.frame([tmp_path / name])["train/loss"].iloc[-1] for name in ("fast", "full"))
    assert fast != full
    assert fast == pytest.approx(full, rel=0.02)


@needs_bfloat16
def test_subprocess_evaluator_uses_the_backend_of_training(tmp_path: Path) -> None:
    returns = [
        seqeval.run(with_precision("fast"), tmp_path / overlap, Execution(jobs=1, overlap=overlap))[
            "return_mean"
        ].tolist()
        for overlap in ("off", "on")
    ]
    assert returns[0] == returns[1]


def test_fast_precision_without_bfloat16_is_noted(tmp_path: Path, monkeypatch) -> None:
    from seqeval.execution.jobs import resolve

    monkeypatch.setattr(matmul, "has_bfloat16", lambda: False)
    assert any("no products of bfloat16" in note for note in resolve(with_precision("fast")).notes)
    assert not any("bfloat16" in note for note in resolve(STUDY).notes)


@needs_onednn
def test_resumed_study_keeps_its_kernels(tmp_path: Path, monkeypatch) -> None:
    used = []
    using = matmul.using

    def spy(backend: MatmulBackend):
        used.append(backend)
        return using(backend)

    monkeypatch.setattr(matmul, "using", spy)
    monkeypatch.setattr(matmul, "processor_family", lambda: ("GenuineIntel", 6))
    seqeval.run(STUDY, tmp_path / "run", Execution(jobs=1))
    monkeypatch.setattr(matmul, "processor_family", lambda: ("AuthenticAMD", 26))
    seqeval.run(with_precision("full", seeds=(0, 1)), tmp_path / "run", Execution(jobs=1))
    assert used == [MatmulBackend("blas")] * 2
    assert recorded(tmp_path / "run")["matmul"] == {"cpu": {"kernels": "blas", "operands": "float32"}}

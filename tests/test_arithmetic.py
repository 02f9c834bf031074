"""Whose kernels make a study's products, and of which numbers: by rule, recorded, and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seqeval import Evaluation, Protocol, Study, UserError
from seqeval.execution import storage
from seqeval.training import matmul
from seqeval.training.matmul import Arithmetic

needs_bfloat16 = pytest.mark.skipif(
    not matmul.has_bfloat16(), reason="this processor has no products of bfloat16"
)
needs_onednn = pytest.mark.skipif(not matmul.ONEDNN, reason="this torch has no oneDNN")
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
def test_the_processor_decides_on_the_kernels(processor: tuple, kernels: str, monkeypatch) -> None:
    monkeypatch.setattr(matmul, "processor_family", lambda: processor)
    assert matmul.of_this_machine("cpu") == Arithmetic(kernels, "float32")


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
def test_the_processor_is_read_from_what_the_system_tells(text: str, family: tuple) -> None:
    assert matmul.family_in(text) == family


def test_fast_rounds_where_the_processor_gains_by_it(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "has_bfloat16", lambda: True)
    assert matmul.of_this_machine("cpu", "fast").operands == "bfloat16"
    monkeypatch.setattr(matmul, "has_bfloat16", lambda: False)
    assert matmul.of_this_machine("cpu", "fast").operands == "float32"
    assert matmul.of_this_machine("cuda", "fast").operands == "tf32"
    assert matmul.of_this_machine("cuda", "full").operands == "float32"


def test_it_holds_for_a_while_and_then_no_longer() -> None:
    before, of_cuda = matmul.current(), torch.backends.cuda.matmul.fp32_precision

    def fail() -> None:
        assert matmul.current() == Arithmetic("blas", "tf32")
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        raise RuntimeError

    with pytest.raises(RuntimeError), matmul.using(Arithmetic("blas", "tf32")):
        fail()
    assert matmul.current() == before
    assert torch.backends.cuda.matmul.fp32_precision == of_cuda


def test_what_the_machine_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "ONEDNN", False)
    for lacking in (Arithmetic("onednn"), Arithmetic("narrow-onednn"), Arithmetic("blas", "bfloat16")):
        with pytest.raises(UserError, match="go on where it was begun"), matmul.using(lacking):
            pass


@needs_bfloat16
def test_fast_gives_other_numbers_and_its_folder_goes_on_with_it_alone(tmp_path: Path) -> None:
    with_precision("fast").run(tmp_path / "fast", jobs=1)
    assert recorded(tmp_path / "fast")["precision"] == "fast"
    assert recorded(tmp_path / "fast")["arithmetic"]["cpu"]["operands"] == "bfloat16"
    with pytest.raises(UserError, match="fast: precision is 'fast' there and 'full' now"):
        STUDY.run(tmp_path / "fast", jobs=1)
    STUDY.run(tmp_path / "full", jobs=1)
    assert recorded(tmp_path / "full")["arithmetic"]["cpu"]["operands"] == "float32"
    fast, full = (storage.frame([tmp_path / name])["train/loss"].iloc[-1] for name in ("fast", "full"))
    assert fast != full
    assert fast == pytest.approx(full, rel=0.02)


@needs_bfloat16
def test_a_process_that_evaluates_beside_training_computes_so_too(tmp_path: Path) -> None:
    returns = [
        with_precision("fast").run(tmp_path / overlap, jobs=1, overlap=overlap)["return_mean"].tolist()
        for overlap in ("off", "on")
    ]
    assert returns[0] == returns[1]


def test_where_fast_gains_nothing_it_says_so(tmp_path: Path, monkeypatch) -> None:
    from seqeval.execution.jobs import resolve

    monkeypatch.setattr(matmul, "has_bfloat16", lambda: False)
    assert any("no products of bfloat16" in note for note in resolve(with_precision("fast")).notes)
    assert not any("bfloat16" in note for note in resolve(STUDY).notes)


@needs_onednn
def test_a_study_goes_on_with_the_kernels_that_it_was_begun_with(tmp_path: Path, monkeypatch) -> None:
    used = []
    before = matmul.using

    def spy(wanted: Arithmetic):
        used.append(wanted)
        return before(wanted)

    monkeypatch.setattr(matmul, "using", spy)
    monkeypatch.setattr(matmul, "processor_family", lambda: ("GenuineIntel", 6))
    STUDY.run(tmp_path / "run", jobs=1)
    monkeypatch.setattr(matmul, "processor_family", lambda: ("AuthenticAMD", 26))
    with_precision("full", seeds=(0, 1)).run(tmp_path / "run", jobs=1)
    assert used == [Arithmetic("blas")] * 2
    assert recorded(tmp_path / "run")["arithmetic"] == {"cpu": {"kernels": "blas", "operands": "float32"}}

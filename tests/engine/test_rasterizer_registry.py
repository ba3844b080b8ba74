"""A rasterizer from outside the engine registers itself and can be chosen, trained with and taken away again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine import messages as m
from engine.errors import InputError
from engine.kernels.threads import threads_now
from engine.render import RasterInfo, RasterSettings, Registration, choose, choose_device, register, registry
from engine.render.torch_reference import TorchRasterizer
from engine.steps import fit_scene
from tests.scenes import capture_of, moving_scene


class ToyRasterizer:
    """The reference, and a count of its calls and of the threads it may use."""

    name = "toy"
    uses_own_threads = True

    def __init__(self) -> None:
        self.threads: list[tuple[int, int]] = []
        made.append(self)

    def render(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        world_to_camera: Tensor,
        K: Tensor,
        width: int,
        height: int,
        background: Tensor | None = None,
        settings: RasterSettings = RasterSettings(),
    ) -> tuple[Tensor, Tensor, RasterInfo]:
        self.threads.append((torch.get_num_threads(), threads_now()))
        return TorchRasterizer().render(
            means, quats, scales, opacities, features, world_to_camera, K, width, height, background, settings
        )


made: list[ToyRasterizer] = []
missing: list[str] = []


@pytest.fixture
def toy() -> Iterator[None]:
    """A rasterizer called "toy", faster than any other on the CPU and on nothing else."""
    made.clear()
    missing.clear()
    register(Registration("toy", {"cpu": 1000}, ToyRasterizer, lambda: missing[0] if missing else None))
    try:
        yield
    finally:
        registry.unregister("toy")


def test_the_built_in_rasterizers_come_in_the_order_of_the_options() -> None:
    assert registry.NAMES == ["auto", "gsplat", "numba", "torch", "warp"]


@pytest.mark.usefixtures("toy")
def test_a_registered_rasterizer_is_chosen_by_name_and_by_auto() -> None:
    assert isinstance(choose("toy"), ToyRasterizer)
    assert isinstance(choose("auto", "cpu"), ToyRasterizer)
    assert choose_device("auto") == choose_device("toy") == "cpu", "it draws on the CPU alone"
    assert choose("torch").name == "torch"
    assert registry.NAMES[-1] == "toy"


@pytest.mark.usefixtures("toy")
def test_a_rasterizer_that_cannot_run_says_why_and_auto_passes_it_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing.append("it needs the package toys: pip install toys")
    with pytest.raises(InputError, match="toy rasterizer cannot run here: it needs the package toys"):
        choose("toy")
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose("auto", "cpu").name != "toy"
    assert "pip install toys" in caplog.text


@pytest.mark.usefixtures("toy")
def test_a_name_is_given_once() -> None:
    for name in ("toy", "torch", "auto"):
        with pytest.raises(ValueError, match=name):
            register(Registration(name, {"cpu": 1}, ToyRasterizer))


def test_a_rasterizer_that_was_taken_away_is_refused_by_name(toy: None) -> None:
    registry.unregister("toy")
    try:
        with pytest.raises(InputError, match="auto, gsplat, numba, torch or warp"):
            choose("toy")
        with pytest.raises(InputError, match="rasterizer is 'toy'"):
            fit_scene.Config(rasterizer="toy")
    finally:
        register(Registration("toy", {"cpu": 1000}, ToyRasterizer))


def test_a_device_that_nothing_draws_on_is_refused() -> None:
    with pytest.raises(InputError, match="No rasterizer works on meta"):
        choose("auto", "meta")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["toy", "auto"])
def test_a_scene_trains_with_a_registered_rasterizer(name: str) -> None:
    video = capture_of(moving_scene(count=30, views=4, moments=3))
    config = fit_scene.Config(iterations=3, budget=40, initial_count=30, preview_every=0, rasterizer=name)
    before = torch.get_num_threads()
    scene = m.result(fit_scene.run(video, config))
    assert len(scene.canonical) > 0 and made[0].threads
    # few Gaussians: torch is held to one thread, the rasterizer is not
    assert made[0].threads[0] == (1, before)

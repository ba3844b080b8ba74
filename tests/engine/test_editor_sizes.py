"""Images of a scene at the sizes of today's image editors, and what may come back from them."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.diffusion.editor_sizes import KONTEXT_SIZES, SIZES_FOR, editor_size, qwen_size, qwen_sizes
from engine.errors import InputError
from engine.messages import Preview, result
from engine.render import choose, render_gaussians
from engine.scene import Scene4D, ViewSet
from engine.scene.framing import edge_shift, fitting_sizes, framed, is_whole
from engine.scene.view_set import one_batch
from engine.steps import fit_edits, scene_views
from engine.steps.scene_views import Config
from tests.scenes import capture_of, moving_scene, ring

COMFY = Path(__file__).resolve().parents[2] / ".venv-comfy" / "comfyui" / "comfy_extras"
RIGS = ((1352, 1014), (1920, 1080), (160, 208), (640, 480), (512, 512), (536, 960), (2704, 2028))


def sized(size: tuple[int, int]) -> Scene4D:
    return moving_scene().with_(rig=ring(8, size=size))


def small(**config: Any) -> ViewSet:
    return result(scene_views.run(moving_scene(), Config(views="0 1 2", rasterizer="torch", **config)))


@pytest.mark.skipif(not COMFY.is_dir(), reason="there is no ComfyUI here")
def test_kontext_sizes_are_those_of_comfyuis_own_node() -> None:
    tree = ast.parse((COMFY / "nodes_flux.py").read_text(encoding="utf-8"))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").endswith("KONTEXT_RESOLUTIONS")
    ]
    theirs = ast.literal_eval(lists[0])
    assert list(KONTEXT_SIZES) == [tuple(size) for size in theirs]
    for width, height in RIGS:
        _, w, h = min((abs(width / height - w / h), w, h) for w, h in theirs)
        assert editor_size("Flux Kontext", width, height) == (w, h)


def test_qwens_sizes_pass_its_text_encoder_unchanged() -> None:
    assert len(qwen_sizes()) > 50
    for width, height in qwen_sizes():
        scale = math.sqrt(1024 * 1024 / (width * height))
        assert (round(width * scale / 8) * 8, round(height * scale / 8) * 8) == (width, height)
        assert width % 16 == height % 16 == 0 and abs(width * height / 2**20 - 1) < 0.02
    assert qwen_size(1352, 1014) == (1184, 888)
    for width, height in RIGS:
        assert editor_size("Qwen-Image-Edit", width, height) in qwen_sizes()


def original_pixels(views: ViewSet, scene: Scene4D, view: int, points: Tensor) -> tuple[Tensor, Tensor]:
    """The points in the scene's own camera, and in the view's camera by way of the crop that was said."""
    there, depth = views.cameras.project(points, view)
    here, _ = scene.rig.project(points, views.views[view])
    assert bool((depth > 0).all())
    return there, here


@pytest.mark.parametrize("size_for", SIZES_FOR[1:])
@pytest.mark.parametrize("size", [(48, 40), (53, 30), (30, 47)])
@pytest.mark.parametrize("source", ["rendered", "captured"])
def test_pixels_map_back_within_half_a_pixel(size_for: str, size: tuple[int, int], source: str) -> None:
    scene = sized(size)
    video = capture_of(scene) if source == "captured" else None
    long = 0 if size_for in ("Flux Kontext", "Qwen-Image-Edit") else 3 * max(size)
    config = Config(views="1", size_for=size_for, resolution=long, originals=source, rasterizer="torch")
    views = result(scene_views.run(scene, config, video))
    target = editor_size(size_for, *size, long)
    assert views.size == target == tuple(views.cameras.sizes[0])
    points = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.6
    there, here = original_pixels(views, scene, 0, points)
    framing = framed(size, target, widens=video is None)
    scale = max(target[0] / size[0], target[1] / size[1])
    if video is None:
        scale = min(target[0] / size[0], target[1] / size[1])
    # one scale in both directions, the middle of the view in the middle of the image
    middle = (there - torch.tensor(target) / 2) / scale + torch.tensor(size) / 2
    assert float((middle - here).abs().max()) < 0.5
    left, top, _, _ = framing.box
    exact = (there + torch.tensor([left, top])) * torch.tensor(
        [size[0] / framing.scaled[0], size[1] / framing.scaled[1]]
    )
    assert torch.allclose(exact, here, atol=1e-6)


def test_captured_images_show_what_their_moved_cameras_see() -> None:
    """A capture made by the same renderer: its cropped images are what the new cameras render."""
    scene = sized((96, 80))
    config = Config(
        views="0 1", size_for="multiple of 64", resolution=64, originals="captured", rasterizer="torch"
    )
    captured = result(scene_views.run(scene, config, capture_of(scene)))
    assert captured.size == (64, 64)
    with torch.no_grad():
        drawn = render_gaussians(scene.at(0.0), captured.cameras, choose("torch"), scene.background).rgb
    assert float((captured.images - drawn).abs().mean()) < 0.01


def test_the_note_says_what_is_cropped_or_added() -> None:
    rendered, scene = small(size_for="multiple of 16"), moving_scene()
    assert rendered.size == (48, 32)
    assert "48×40 to 38×32, 12.6 pixels (26.3%) are added, left and right" in scene_views.summary(rendered)
    config = Config(views="0", size_for="multiple of 16", originals="captured", rasterizer="torch")
    captured = result(scene_views.run(scene, config, capture_of(scene)))
    assert captured.size == (48, 32)
    assert "8.0 pixels (20.0%) are cropped, top and bottom together" in scene_views.summary(captured)
    kontext = small(size_for="Flux Kontext", resolution=64)
    assert "resolution 64 is not used" in scene_views.summary(kontext)
    assert small().edit is None and scene_views.summary(small()) == "3 images of 48×40"


def test_editors_own_crops_are_refused_with_the_sizes_that_fit() -> None:
    """The figures of FluxKontextImageScale at two rigs."""
    assert edge_shift((1392, 752), (1920, 1080)) == pytest.approx(21.4, abs=0.05)
    assert edge_shift((1184, 880), (1352, 1014)) == pytest.approx(4.6, abs=0.05)
    assert fitting_sizes((1184, 880), (1352, 1014)) == [(1352, 1014), (1184, 888), (1173, 880)]
    views = small()
    with pytest.raises(InputError) as refused:
        views.with_images(torch.zeros(3, 44, 48, 3))
    assert refused.value.code == "SCN-010"
    assert "48×44" in str(refused.value) and "Give images of 53×44 or 48×40" in str(refused.value)
    assert "size for" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "fits"), [((96, 80), True), ((24, 20), True), ((97, 81), True), ((48, 42), False)]
)
def test_half_a_pixel_at_the_edges_is_the_limit(given: tuple[int, int], fits: bool) -> None:
    assert is_whole(given, (48, 40)) is fits
    assert (edge_shift(given, (48, 40)) <= 0.5) is fits


def test_a_list_of_images_is_the_batch_to_the_bit() -> None:
    views, scene = small(), moving_scene()
    edited = 1 - views.images
    config = fit_edits.Config(iterations=4, preview_every=0, rasterizer="torch")
    batch = result(fit_edits.run(scene, views, config, images=edited))
    for parts in ([edited[:1], edited[1:2], edited[2:]], [edited[:2], edited[2:]], [edited]):
        made = result(fit_edits.run(scene, views, config, images=one_batch(parts, "images", 3)))
        for name, tensor in made.canonical.tensors().items():
            assert torch.equal(tensor, batch.canonical.tensors()[name])


def test_a_missing_view_and_swapped_sizes_are_counted() -> None:
    views = small()
    with pytest.raises(InputError, match="2 images of 48×40 were given for 3 views of 48×40"):
        views.with_images(views.images[:2])
    mixed = [views.images[:2], torch.zeros(1, 48, 40, 3)]
    with pytest.raises(InputError, match="3 of different sizes: 2 of 48×40, 1 of 40×48"):
        one_batch(mixed, "images", 3)
    with pytest.raises(InputError, match="list of images is empty"):
        one_batch([], "images", 3)


def test_the_order_that_was_assumed_is_told() -> None:
    views, scene = small(), moving_scene()
    config = fit_edits.Config(iterations=1, preview_every=0, rasterizer="torch")
    made = result(fit_edits.run(scene, views, config, images=1 - views.images))
    assert "order of the images assumed: cam00 · 0.00 s, cam01 · 0.00 s, cam02" in fit_edits.summary(made)
    assert "assumed" not in fit_edits.summary(result(fit_edits.run(scene, views, config)))


def test_a_background_that_an_editor_painted_is_not_fitted() -> None:
    """The scene is on white; the editor darkens all of the image."""
    views, scene = small(), moving_scene()
    assert views.alphas is not None

    def fitted(**config: Any) -> Tensor:
        settings = fit_edits.Config(iterations=1, preview_every=1, rasterizer="torch", **config)
        stream = fit_edits.run(scene, views, settings, images=0.5 * views.images)
        # of the second view
        shown = next(message.image for message in stream if isinstance(message, Preview))
        return shown[:, : views.size[0]]

    auto = fitted()
    covered, empty = views.alphas[1] > 0.99, views.alphas[1] == 0
    assert bool(empty.any()) and bool((auto[empty] == 1).all())
    assert torch.allclose(auto[covered], 0.5 * views.images[1][covered], atol=0.01)
    assert torch.equal(fitted(background="as edited"), 0.5 * views.images[1])


def test_memory_is_asked_for_at_the_editors_size() -> None:
    given = {"scene": moving_scene()}
    asked = [
        scene_views.STEP.memory(Config(size_for=size_for), given).rendering
        for size_for in ("as rendered", "Flux Kontext")
    ]
    assert asked[1] > asked[0] + 4 * 1024 * 1024

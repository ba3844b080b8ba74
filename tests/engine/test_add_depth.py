"""Depth maps of a capture's images are added to it, and training follows them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.errors import InputError
from engine.messages import Progress, result
from engine.render import choose, render_gaussians
from engine.scene import MultiViewVideo, Scene4D
from engine.steps import add_depth, capture_images, fit_scene
from engine.train.identity import input_identity
from tests.scenes import capture_of, moving_scene

RASTERIZER = choose("auto", "cpu")


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return moving_scene(200, views=4)


@pytest.fixture(scope="module")
def video(scene: Scene4D) -> MultiViewVideo:
    return capture_of(scene)


def true_depth(scene: Scene4D, view: int, moment: int) -> torch.Tensor:
    now = scene.at(float(scene.times[moment]))
    drawn = render_gaussians(now, scene.rig[view], RASTERIZER, want_depth=True)
    assert drawn.depth is not None
    return torch.where(drawn.alpha[0] > 0.5, drawn.depth[0], 0.0)


def maps_of(scene: Scene4D, pairs) -> torch.Tensor:
    return torch.stack([true_depth(scene, v, m) for v, m in pairs])


def test_images_come_frame_by_frame_as_they_were_captured(video):
    stream = list(capture_images.run(video, capture_images.Config("0 2", "1 3")))
    made = stream[-1].value
    assert made.pairs == ((0, 1), (2, 1), (0, 3), (2, 3))
    assert [x.done for x in stream if isinstance(x, Progress)] == [1, 2, 3, 4]
    for image, mask, (view, moment) in zip(made.images, made.masks, made.pairs, strict=True):
        frame = video.source.read(view, moment)
        assert torch.equal(image, frame.image.float() / 255) and torch.equal(mask, frame.mask.float() / 255)
    assert made.summary().startswith("4 images of ") and "2 views, 2 frames" in made.summary()


def test_depth_lands_at_its_view_and_frame_at_the_size_of_the_images(scene, video):
    pairs = result(capture_images.run(video, capture_images.Config("1 3", "0 2"))).pairs
    maps = maps_of(scene, pairs)
    config = add_depth.Config("1 3", "0 2", "depth")
    small = torch.nn.functional.interpolate(maps[:, None], scale_factor=0.5, mode="nearest-exact")[:, 0]
    for given in (maps, {"depth": maps}, maps[..., None].expand(-1, -1, -1, 3), small):
        deep = result(add_depth.run(video, given, config))
        assert deep.has_depths and "read as depth" in deep.notes[-1] and not video.has_depths
        for (view, moment), true in zip(pairs, maps, strict=True):
            found = deep.source.read(view, moment).depth
            assert found.shape == true.shape
            if given is not small:
                torch.testing.assert_close(found, true)
        assert deep.source.read(0, 0).depth is None, "no map was given there"
        assert torch.equal(deep.source.read(1, 0).image, video.source.read(1, 0).image)


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (0.3, 0.2)])
def test_disparity_of_unknown_scale_becomes_depth_in_the_subjects_box(scene, video, scale, shift):
    pairs = [(v, 1) for v in range(4)]
    maps = maps_of(scene, pairs)
    disparity = torch.where(maps > 0, scale / maps.clamp(min=1e-6) + shift, 0.0)
    images = disparity[..., None].expand(-1, -1, -1, 3)
    deep = result(add_depth.run(video, images, add_depth.Config("all", "1")))
    assert "read as disparity" in deep.notes[-1]
    for (view, moment), true in zip(pairs, maps, strict=True):
        frame = deep.source.read(view, moment)
        inside = (true > 0) & (frame.mask > 127)
        both = torch.stack([frame.depth[inside], true[inside]])
        assert float(torch.corrcoef(both)[0, 1]) > 0.97
        assert float(both[0].min()) > 0


def test_training_follows_the_depth_and_knows_its_capture_by_it(scene, video):
    pairs = result(capture_images.run(video, capture_images.Config("all", "all"))).pairs
    maps = maps_of(scene, pairs)
    config = add_depth.Config("all", "all", "depth")
    deep = result(add_depth.run(video, maps, config))
    other = result(add_depth.run(video, maps * 1.01, config))
    names = {str(input_identity(v)) for v in (video, deep, other)}
    assert len(names) == 3, "a checkpoint of one is not resumed with another"
    quick = fit_scene.Config(iterations=30, motion="none", preview_every=0, initial_count=150, budget=150)
    trained = result(fit_scene.run(deep, replace(quick, depth_weight=0.1)))
    plain = result(fit_scene.run(deep, quick))
    assert not torch.equal(trained.canonical.means, plain.canonical.means)
    with pytest.raises(InputError, match="has no depth maps"):
        result(fit_scene.run(video, replace(quick, depth_weight=0.1)))


def test_what_does_not_fit_is_refused(scene, video):
    maps = maps_of(scene, [(v, 0) for v in range(4)])

    def refused(words: str, given, config: add_depth.Config = add_depth.Config(kind="depth")) -> None:
        with pytest.raises(InputError, match=words):
            result(add_depth.run(video, given, config))

    refused("There are 3 depth maps, but the chosen views and frames of .* have 4 images", maps[:3])
    refused("another aspect ratio", maps[:, :, ::2])
    refused("has no values", maps * 0)
    refused("There is no view 9", maps, add_depth.Config("9"))
    with pytest.raises(InputError, match="There is no frame 99"):
        result(capture_images.run(video, capture_images.Config(moments="99")))

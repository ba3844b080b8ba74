"""The images of an edit: as many as there are views, spread over the frames so that they show the most of the scene."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.deform import PerFrame
from engine.errors import InputError
from engine.masks.coverage import contributions, covering, enough
from engine.render import choose
from engine.scene import Gaussians, Scene4D, Selection, harmonics
from engine.steps import fit_edits
from engine.train.image_choice import images_to_edit
from engine.train.unseen_colors import settled
from tests.edit_scenes import edited_views, truth_of
from tests.scenes import capture_of, moving_scene

FRAMES = 4
# Gaussians of the core, and of the shell around it
CORE, SHELL = 60, 500


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    """A core that a dense shell hides at the first frame; in the others, the shell has moved aside."""
    generator = torch.Generator().manual_seed(1)
    around = torch.nn.functional.normalize(torch.randn(CORE + SHELL, 3, generator=generator), dim=-1)
    inside = torch.arange(CORE + SHELL) < CORE
    means = around * torch.where(inside, 0.25, 0.7)[:, None]
    colors = torch.where(inside[:, None], torch.tensor([0.8, 0.3, 0.2]), torch.tensor([0.2, 0.4, 0.7]))
    still = Gaussians(
        means=means,
        log_scales=torch.where(inside, 0.08, 0.12).log()[:, None].expand(-1, 3).clone(),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(CORE + SHELL, 1),
        logit_opacities=torch.full((CORE + SHELL,), 5.0),
        sh=harmonics.rgb_to_dc(colors)[:, None],
    )
    aside = still.with_(means=means + torch.where(inside, 0.0, 1.0)[:, None] * torch.tensor([0.0, 1.3, 0.0]))
    times = torch.arange(FRAMES, dtype=torch.float64) / 4
    motion = PerFrame.of([still, *[aside] * (FRAMES - 1)], times.float())
    return moving_scene(moments=FRAMES).with_(canonical=still, deformation=motion, times=times)


def fitted(scene: Scene4D, pairs: list[tuple[int, int]], **changes: object) -> Scene4D:
    """The exact edit of these images, fitted as by default."""
    views = edited_views(scene, [pairs[0][0]], [pairs[0][1]])
    for view, frame in pairs[1:]:
        one = edited_views(scene, [view], [frame])
        views = replace(
            views,
            images=torch.cat([views.images, one.images]),
            originals=torch.cat([views.originals, one.originals]),
            cameras=scene.rig[[*views.views, view]],
            views=(*views.views, view),
            moments=(*views.moments, frame),
            seconds=(*views.seconds, *one.seconds),
        )
    config = replace(fit_edits.Config(preview_every=0), **changes)
    return m.result(fit_edits.run(scene, views, config))


def outliers(scene: Scene4D, edited: Scene4D) -> int:
    """Gaussians that some image shows with a color far from that of the exact edit."""
    pairs = [(view, frame) for view in range(len(scene.rig)) for frame in range(FRAMES)]
    seconds = [float(scene.times[frame]) for _, frame in pairs]
    shown = contributions(scene, scene.rig[[view for view, _ in pairs]], seconds, choose("auto"))
    off = (colors(edited) - colors(truth_of(scene))).abs().amax(dim=1)
    return int(((off > 0.25) & (shown.amax(dim=0) > 0.3 * enough(shown))).sum())


def colors(scene: Scene4D) -> torch.Tensor:
    return harmonics.dc_to_rgb(scene.canonical.sh[:, 0])


def test_as_many_images_as_views_leave_no_outliers_where_the_first_frame_does(scene):
    first = [(view, 0) for view in range(len(scene.rig))]
    chosen, note = images_to_edit(scene, "", "auto", None, choose("auto"))
    assert len(chosen) == len(first) and len({frame for _, frame in chosen}) > 1
    assert chosen == sorted(chosen, key=lambda pair: pair[::-1]), "frame by frame"
    assert f"{len(first)} images of" in note
    assert outliers(scene, scene) > 200, "the edit changes colors"
    assert outliers(scene, fitted(scene, first)) > CORE / 3
    assert outliers(scene, fitted(scene, chosen)) == 0


def test_what_no_image_shows_follows_what_looked_alike(scene):
    """Half of the core is given the shell's color; the first frame shows the shell alone."""
    sh = scene.canonical.sh.clone()
    sh[: CORE // 2] = sh[-1]
    alike = scene.with_(canonical=scene.canonical.with_(sh=sh))
    first = [(view, 0) for view in range(len(scene.rig))]
    filled, left = (fitted(alike, first, fills_unseen=fills) for fills in (True, False))
    wanted = colors(truth_of(alike))[: CORE // 2]
    assert float((colors(filled)[: CORE // 2] - wanted).abs().max()) < 0.1
    assert float((colors(left)[: CORE // 2] - wanted).abs().max()) > 0.3


def test_a_selection_limits_what_is_filled(scene):
    first = [(view, 0) for view in range(len(scene.rig))]
    weights = torch.ones(CORE + SHELL)
    weights[:CORE] = 0
    views = edited_views(scene, [view for view, _ in first])
    config = fit_edits.Config(iterations=20, preview_every=0)
    made = m.result(fit_edits.run(scene, views, config, Selection(weights)))
    assert torch.equal(made.canonical.sh[:CORE], scene.canonical.sh[:CORE])
    assert not torch.equal(made.canonical.sh[CORE:], scene.canonical.sh[CORE:])


def test_an_edit_that_changes_no_color_changes_none_that_is_not_shown():
    before, means = torch.rand(200, 3), torch.rand(200, 3)
    found = settled(before, before, means, torch.rand(200), 1.0, torch.rand(200))
    assert torch.allclose(found, before, atol=1e-6)


def test_what_follows_neighbors_stays_a_color_that_a_later_fit_can_change():
    before, means = torch.full((200, 3), 0.6), torch.rand(200, 3)
    before[:20], shown = 0.2, torch.ones(200)
    shown[:20] = 0.0
    after = torch.where(shown[:, None] > 0, before - 0.5, before)
    found = settled(before, after, means, shown, 1.0, torch.ones(200))
    assert 0 < float(found[:20].min()) and float(found[:20].max()) < 0.01
    brighter = torch.where(shown[:, None] > 0, before + 0.9, before)
    assert float(settled(before, brighter, means, shown, 1.0, torch.ones(200))[:20].max()) <= 1


def test_too_few_known_colors_fill_nothing():
    before = torch.rand(20, 3)
    after, shown = before + 0.2, torch.zeros(20)
    shown[:4] = 1.0
    found = settled(before, after, torch.rand(20, 3), shown, 1.0, torch.ones(20))
    assert found is after


def test_covering_takes_the_images_that_add_the_most():
    shown = torch.tensor([[1.0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])
    assert covering(shown, 2) == ([0, 2], 1.0)
    assert covering(shown, 9) == ([0, 1, 2, 3], 1.0)
    assert covering(shown, 1) == ([2], pytest.approx(0.6))
    assert covering(torch.zeros(0, 5), 3) == ([], 1.0)


def test_held_out_images_are_not_chosen(scene):
    capture = capture_of(scene, test_views=(0,))
    available = capture.available.clone()
    available[2, 1:] = False
    capture = replace(capture, available=available, test_moments=(FRAMES - 1,))
    chosen, _ = images_to_edit(scene, "", "auto", capture, choose("auto"))
    assert all(view and frame < FRAMES - 1 and bool(available[view, frame]) for view, frame in chosen)
    assert len(chosen) == len(scene.rig) - 1


def test_masks_for_each_image_fix_the_first_frame_and_numbers_win(scene):
    chosen, note = images_to_edit(scene, "0 2", "auto", None, choose("auto"), first_frame_only=True)
    assert chosen == [(0, 0), (2, 0)] and "first frame" in note
    held = replace(capture_of(scene), test_moments=(0,))
    assert images_to_edit(scene, "2", "auto", held, choose("auto"), first_frame_only=True)[0] == [(2, 1)]
    assert images_to_edit(scene, "1", "0 3", None, choose("auto")) == ([(1, 0), (1, 3)], "")
    with pytest.raises(InputError, match="frame"):
        images_to_edit(scene, "", "soon", None, choose("auto"))

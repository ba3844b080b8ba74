"""Training may start from a finished scene: it begins at its quality, improves on it, and resumes with the same bits."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.deform import Masked, PerFrame
from engine.errors import InputError
from engine.losses.metrics import psnr
from engine.render import choose, render_gaussians
from engine.scene import Static
from engine.steps import fit_scene
from engine.steps.fit_scene import FitScene
from tests.scenes import capture_of, moving_scene

MOMENTS = 5
QUICK = fit_scene.Config(
    iterations=40,
    budget=170,
    initial_count=150,
    preview_every=0,
    sh_degree=1,
    background="white",
    start_scale=1.0,
)
MOTIONS = {"hexplane": "small", "partly": "small", "flipbook": "per_frame", "still": "per_frame"}


@pytest.fixture(scope="module")
def truth():
    return moving_scene(count=60, views=8, moments=MOMENTS)


@pytest.fixture(scope="module")
def video(truth):
    return capture_of(truth)


@pytest.fixture(scope="module")
def starts(truth, video):
    """A scene of each kind of motion, by kind, with colors that are a little off."""
    generator = torch.Generator().manual_seed(3)
    moments = [truth.at(float(t)) for t in truth.times]
    off = 0.25 * torch.randn(moments[0].sh.shape, generator=generator)
    flipbook = truth.with_(
        canonical=moments[0].with_(sh=moments[0].sh + off), deformation=PerFrame.of(moments, truth.times)
    )
    field = m.result(fit_scene.run(video, replace(QUICK, motion="small", still_threshold=0.0)))
    assert field.deformation.kind == "hexplane"
    moving = torch.arange(len(field.canonical)) % 3 > 0
    return {
        "flipbook": flipbook,
        "still": flipbook.with_(deformation=Static()),
        "hexplane": field,
        "partly": field.with_(deformation=Masked(field.deformation, moving)),
    }


def quality(scene, video, truth):
    """Mean PSNR over all views and frames against the truth."""
    rasterizer = choose("auto", "cpu")
    values = []
    for t in video.times.tolist():
        with torch.no_grad():
            a, b = (
                render_gaussians(s.at(t), truth.rig, rasterizer, torch.ones(3)).rgb.permute(0, 3, 1, 2)
                for s in (scene, truth)
            )
        values.append(psnr(a.clamp(0, 1), b.clamp(0, 1)).mean())
    return float(torch.stack(values).mean())


def trained(video, start, **changed):
    config = replace(QUICK, motion=MOTIONS[start.deformation.kind])
    return m.result(fit_scene.run(video, replace(config, **changed), start=start))


@pytest.mark.parametrize("kind", MOTIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_it_begins_as_the_start_scene(starts, video, kind, frozen):
    start = starts[kind]
    how = "frozen" if frozen else "trained"
    run = FitScene(video, replace(QUICK, motion=MOTIONS[kind], start_motion=how), "cpu", start=start)
    first = run.result()
    for t in (0.0, float(video.times[-1]), 0.37 * float(video.times[-1])):
        before, after = start.at(t).tensors(), first.at(t).tensors()
        for name, tensor in before.items():
            torch.testing.assert_close(after[name], tensor, atol=2e-4, rtol=1e-3)
    trained_from = run.gaussians_at(MOMENTS - 1)
    expected = run.world.shrink(start.at(float(video.times[-1])))
    torch.testing.assert_close(trained_from.means, expected.means, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["hexplane", "partly", "flipbook"])
def test_it_improves_on_the_start_scene(starts, video, truth, kind):
    start = starts[kind]
    better = trained(video, start, iterations=80, color_lr=1e-2)
    assert quality(better, video, truth) > quality(start, video, truth) + 0.5
    assert better.deformation.kind == kind
    assert [entry["step"] for entry in better.history] == ["fit_scene"]


def test_its_motion_can_be_kept(starts, video, truth):
    for start in (starts["flipbook"], starts["partly"]):
        better = trained(video, start, start_motion="frozen", density="none", motion="none", color_lr=1e-2)
        was, now = start.deformation.tensors(), better.deformation.tensors()
        assert was.keys() == now.keys() and all(torch.equal(t, now[name]) for name, t in was.items())
        assert quality(better, video, truth) > quality(start, video, truth) + 0.3


@pytest.mark.parametrize(
    "kind, frozen",
    [("hexplane", False), ("partly", False), ("flipbook", False), ("still", False), ("partly", True)],
)
def test_resumed_equals_uninterrupted(starts, video, tmp_path, kind, frozen):
    config = replace(
        QUICK, motion=MOTIONS[kind], start_motion="frozen" if frozen else "trained", density="adaptive"
    )
    config = replace(config, iterations=20, start_scale=0.5)
    start, checkpoint = starts[kind], tmp_path / "training.safetensors"
    whole = m.result(fit_scene.run(video, config, start=start))
    stream = fit_scene.run(video, config, checkpoint=checkpoint, start=start)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 12:
            break
    stream.close()
    assert not FitScene(video, config, "cpu").resume(checkpoint), "it belongs to the start scene"
    messages = list(fit_scene.run(video, config, checkpoint=checkpoint, start=start))
    assert next(x for x in messages if isinstance(x, m.Progress)).done == 13
    one, other = whole, messages[-1].value
    for a, b in ((one.canonical, other.canonical), (one.deformation, other.deformation)):
        first, second = a.tensors(), b.tensors()
        assert first.keys() == second.keys() and all(
            torch.equal(t, second[name]) for name, t in first.items()
        )


def test_new_and_relocated_gaussians_move_as_their_parents(starts, video):
    start = starts["partly"]
    run = FitScene(video, replace(QUICK, motion="small", budget=400, iterations=1000), "cpu", start=start)
    for _ in range(120):
        run.step()
    assert len(run) > len(start.canonical)
    moving = run.result().deformation.moving
    assert len(moving) == len(run) and not bool(moving.all())


def test_the_scene_stays_as_it_was(starts, video):
    start = starts["hexplane"]
    before = {name: t.clone() for name, t in start.deformation.tensors().items()}
    for how in ("trained", "frozen"):
        trained(video, start, iterations=3, start_motion=how)
    assert all(torch.equal(t, start.deformation.tensors()[name]) for name, t in before.items())
    assert all(p.requires_grad for p in start.deformation.parameters())


def test_another_sh_degree_is_named_and_taken(starts, video):
    start = starts["flipbook"]
    note = next(fit_scene.run(video, replace(QUICK, motion="per_frame", sh_degree=2), start=start)).note
    assert "SH degree 1 → 2" in note and "60 Gaussians" in note
    higher = trained(video, start, sh_degree=2, iterations=3)
    assert higher.canonical.sh.shape[1] == 9
    note = next(fit_scene.run(video, replace(QUICK, motion="per_frame"), start=higher)).note
    assert "SH degree 2 → 1, higher bands are dropped" in note
    assert trained(video, higher, iterations=3).canonical.sh.shape[1] == 4


@pytest.mark.parametrize(
    "kind, changed, code",
    [
        ("flipbook", {"motion": "small"}, r"flipbook.*per_frame.*TRN-034"),
        ("hexplane", {"motion": "per_frame"}, r"hexplane.*small.*TRN-034"),
        ("hexplane", {"motion": "none"}, r"TRN-034"),
        ("flipbook", {"motion": "per_frame", "budget": 59}, r"60 Gaussians.*TRN-031"),
    ],
)
def test_what_does_not_fit_is_refused(starts, video, kind, changed, code):
    with pytest.raises(InputError, match=code):
        next(fit_scene.run(video, replace(QUICK, **changed), start=starts[kind]))


def test_damaged_scenes_and_other_times_are_refused(starts, video, truth):
    per_frame, start = replace(QUICK, motion="per_frame"), starts["flipbook"]
    sh = start.canonical.sh.clone()
    sh[3] = torch.nan
    for broken, code in (
        (start.with_(canonical=start.canonical.with_(sh=sh)), "NaN.*TRN-030"),
        (start.with_(canonical=start.canonical.map(lambda t: t[:0])), "not contain Gaussians.*TRN-030"),
        (start.with_(times=start.times * 2), r"up to .* s from the scene's.*TRN-032"),
    ):
        with pytest.raises(InputError, match=code):
            next(fit_scene.run(video, per_frame, start=broken))
    # a still scene has no frames that could differ
    next(fit_scene.run(video, per_frame, start=starts["still"].with_(times=truth.times[:1])))

"""Rendering, flow, depth, measuring and sampling agree with what is known of a scene made in code."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from engine import backends
from engine import messages as m
from engine.capture.video_file import probe
from engine.cli import follow, main
from engine.deform import Static
from engine.errors import InputError
from engine.figures.color_maps import depth_picture, flow_picture
from engine.files import mp4
from engine.io.scene_file import save_scene
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Gaussians, Scene4D, harmonics
from engine.steps import camera_path, evaluate_scene, render_scene, sample_scene
from tests.memory import needs_linux
from tests.scenes import RenderedFrames, Swing, capture_of, moving_scene, ring


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


def one_ball(z: float = 0.5) -> Scene4D:
    """A large opaque red ball that swings along x."""
    ball = Gaussians(
        means=torch.tensor([[0.0, 0.0, z]]),
        log_scales=torch.full((1, 3), 0.25).log(),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        logit_opacities=torch.tensor([6.0]),
        sh=harmonics.rgb_to_dc(torch.tensor([[[1.0, 0, 0]]])),
    )
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    bounds = torch.tensor([[-1.0, -1, -1], [1, 1, 1]], dtype=torch.float64)
    return Scene4D(ball, Swing(), times, ring(4), bounds, torch.ones(3))


def test_depth_is_the_distance_along_the_axis(scene):
    ball = one_ball()
    picture = render_gaussians(ball.canonical, ball.rig[0], choose("auto"), ball.background, want_depth=True)
    _, depth = ball.rig.project(ball.canonical.means, 0)
    covered = picture.alpha[0] > 0.5
    assert bool(covered.any())
    assert torch.allclose(picture.depth[0][covered], depth[0].float().expand(int(covered.sum())), rtol=1e-4)


def test_flow_is_the_motion_of_the_centre_in_pixels():
    ball = one_ball()
    config = camera_path.Config(kind="still", view=1, frames=3, fps=10.0)
    path = camera_path.make(ball, config)
    rendering = m.result(render_scene.run(ball, path, render_scene.Config(wants_flow=True)))
    now, _ = path.cameras.project(ball.at(float(path.seconds[0])).means, 0)
    then, _ = path.cameras.project(ball.at(float(path.seconds[1])).means, 1)
    covered = rendering.alpha[0] > 0.5
    expected = (then - now)[0].float().expand(int(covered.sum()), 2)
    assert float(expected.norm(dim=-1).max()) > 0.5, "the ball moves"
    assert torch.allclose(rendering.flow[0][covered], expected, atol=1e-3)


def test_opaque_colour_and_background_are_exact():
    ball = one_ball(0.0)
    path = camera_path.make(ball, camera_path.Config(kind="still", frames=1, speed=0.0))
    for name, color in (("black", 0.0), ("white", 1.0)):
        rendering = m.result(render_scene.run(ball, path, render_scene.Config(background=name)))
        assert torch.allclose(rendering.images[0, 0, 0], torch.full((3,), color))
        centre = rendering.images[0, 20, 24]
        assert centre[0] > 0.93, "the ball is red and nearly opaque in its middle"
        assert centre[1] == pytest.approx(color * (1 - float(rendering.alpha[0, 20, 24])), abs=1e-3)


def test_pictures_of_depth_and_flow_stay_in_range(scene):
    path = camera_path.make(scene, camera_path.Config(frames=3))
    r = m.result(render_scene.run(scene, path, render_scene.Config(wants_flow=True)))
    for picture in (depth_picture(r.depth, r.alpha), flow_picture(r.flow)):
        assert picture.shape == r.images.shape
        assert float(picture.min()) >= 0 and float(picture.max()) <= 1
        assert float(picture.max()) > 0.3


def test_a_scene_measured_on_its_own_pictures_is_nearly_perfect(scene):
    video = capture_of(scene)
    evaluation = m.result(evaluate_scene.run(scene, video))
    assert evaluation.summary["psnr"] > 48, "8-bit rounding alone"
    assert evaluation.summary["views"] == ["cam00"]
    assert evaluation.pictures.shape[2] == 4 * 48
    worse = scene.with_(canonical=scene.canonical.with_(means=scene.canonical.means + 0.05))
    assert m.result(evaluate_scene.run(worse, video)).summary["psnr"] < evaluation.summary["psnr"] - 10


def test_held_out_frames_have_their_own_figures(scene):
    video = replace(capture_of(scene), test_moments=(1,))
    evaluation = m.result(evaluate_scene.run(scene, video))
    held = [row for row in evaluation.rows if row.is_held_out_frame]
    assert {row.moment for row in held} == {1}
    assert {row.view for row in held} == set(video.cameras.names), (
        "held-out frames are measured in every view"
    )
    assert {row.view for row in evaluation.rows if not row.is_held_out_frame} == {"cam00"}
    figures = evaluation.summary["held_out_frames"]
    assert figures["pictures"] == len(held) and figures["psnr"] == pytest.approx(
        sum(row.psnr for row in held) / len(held)
    )
    others = [row.psnr for row in evaluation.rows if not row.is_held_out_frame]
    assert evaluation.summary["psnr"] == pytest.approx(sum(others) / len(others))
    assert f"{len(held)} images of {video.views} views, held-out frames: PSNR" in evaluation.text()
    assert "cam01, held-out frames: " in evaluation.text()
    trained = m.result(evaluate_scene.run(scene, video, evaluate_scene.Config(views="trained")))
    assert 1 not in {row.moment for row in trained.rows}
    assert trained.summary["held_out_frames"] is None


class OtherTestViews(RenderedFrames):
    """Frames of a scene, except that view 0 shows another one: as if a fit knew nothing of it."""

    def read(self, view, moment):
        return super().read(view, moment) if view else RenderedFrames(self.scene_of_view_0).read(view, moment)


def test_the_gap_between_trained_and_held_out_views_is_told(scene):
    video = capture_of(scene)
    even = m.result(evaluate_scene.run(scene, video))
    assert even.summary["trained"]["pictures"] == 8
    assert "cam00" not in even.summary["trained"]["views"]
    assert "trained views: PSNR" in even.text() and "is a guess" not in even.text()
    source = OtherTestViews(scene)
    source.scene_of_view_0 = moving_scene(seed=1)
    found = m.result(evaluate_scene.run(scene, replace(video, source=source)))
    gap = found.summary["trained"]["psnr"] - found.summary["psnr"]
    assert gap > 10 and found.summary["trained"]["psnr"] > 48
    assert f"{gap:+.2f} dB" in found.text()
    assert (
        f"Held-out images are {gap:.0f} dB worse: between the trained views the scene is a guess."
        in found.text()
    )
    for views in ("trained", "all"):
        other = m.result(evaluate_scene.run(scene, video, evaluate_scene.Config(views=views)))
        assert other.summary["trained"] is None


def test_a_capture_that_holds_out_frames_alone_is_measured_on_them(scene):
    video = replace(capture_of(scene), test_views=(), test_moments=(1,))
    evaluation = m.result(evaluate_scene.run(scene, video))
    assert {row.moment for row in evaluation.rows} == {1}
    assert evaluation.summary["psnr"] == evaluation.summary["held_out_frames"]["psnr"]
    assert (
        evaluation.text()
        .splitlines()[0]
        .startswith(f"{video.views} images of {video.views} views, held-out frames: PSNR")
    )


def test_samples_are_what_the_scene_says(scene, tmp_path):
    out = sample_scene.save(scene, [0.0, 0.5], tmp_path / "moments.safetensors")
    data = load_file(out)
    moment = scene.at(0.5).activated()
    assert torch.equal(data["means"][1], moment.means) and torch.equal(data["scales"][1], moment.scales)
    assert torch.allclose(data["quats"].norm(dim=-1), torch.ones(2, len(scene.canonical)))
    assert data["opacities"].min() > 0 and data["opacities"].max() < 1
    assert data["sh"].shape == (2, 200, 4, 3)
    with pytest.raises(InputError, match="seconds such as"):
        sample_scene.parse_times("now", scene)
    for words in ("nan", "0,inf"):
        with pytest.raises(InputError, match="finite"):
            sample_scene.parse_times(words, scene)
        with pytest.raises(InputError, match="finite"):
            sample_scene.Config(words)
    for words in ("-1", f"0,{float(scene.times[-1]) + 1}"):
        with pytest.raises(InputError, match="the scene lasts from"):
            sample_scene.parse_times(words, scene)
    sampled = sample_scene.run(scene, sample_scene.Config("0,0.5", orientation="as stored"))
    assert all(torch.equal(value, data[name]) for name, value in sampled.items())


def still_scene() -> Scene4D:
    s = moving_scene()
    return Scene4D.still(s.canonical, s.times, s.rig, s.bounds, s.background)


def test_samples_that_do_not_fit_are_refused_before_they_are_taken(scene, monkeypatch):
    seconds = scene.times.tolist()
    sampled = sample_scene.sample(scene, seconds)
    need = sum(t.numel() * t.element_size() for name, t in sampled.items() if name != "times")
    monkeypatch.setattr(backends, "free_memory", lambda: float(need))
    sample_scene.sample(scene, seconds)
    monkeypatch.setattr(backends, "free_memory", lambda: need - 1.0)
    with pytest.raises(
        InputError, match=r"at 6 times need 1 MB of memory, but 1 MB are free; choose fewer .*STP-115"
    ):
        sample_scene.sample(scene, seconds)


def test_command_line_renders_samples_and_exports(tmp_path, capsys):
    file = tmp_path / "scene.safetensors"
    save_scene(still_scene(), file)
    assert (
        main(["render", "--scene", str(file), "--out", str(tmp_path / "a.mp4"), "--frames", "4", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 4
    import av

    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    out = tmp_path / "s.safetensors"
    assert main(["sample", "--scene", str(file), "--times", "0,0.5", "--out", str(out), "--json"]) == 0
    assert load_file(out)["means"].shape == (2, 200, 3)
    assert main(["export", "--scene", str(file), "--out", str(tmp_path / "m.ply"), "--json"]) == 0
    assert (tmp_path / "m.ply").stat().st_size > 200 * (17 + 9) * 4, "every coefficient of degree 1 is there"


def test_command_line_says_one_sentence_and_exits_with_1(tmp_path, capsys):
    for command in (
        ["render", "--scene", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "a.mp4")],
        ["preflight", "--data", str(tmp_path)],
        ["preflight", "--data", str(tmp_path / "missing")],
        ["import", "--source", str(tmp_path), "--out", str(tmp_path / "b.safetensors")],
    ):
        assert main(command) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
        assert "Traceback" not in " ".join(lines)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_was_made_is_put_away_before_its_stream_ends():
    """A training removes its checkpoint at its stream's end: not before the scene is on the disk."""
    steps: list[str] = []

    def stream():
        try:
            yield m.Started(1)
            yield m.Finished("scene")
            steps.append("checkpoint removed")
        finally:
            steps.append("closed")

    assert follow(stream(), True, steps.append) == "scene"
    assert steps == ["scene", "checkpoint removed", "closed"]
    steps.clear()

    def full_disk(_):
        raise InputError("FIL-001", "the disk is full")

    with pytest.raises(InputError, match="full"):
        follow(stream(), True, full_disk)
    assert steps == ["closed"]


def test_a_video_that_cannot_be_written_is_refused_before_it_is_rendered(tmp_path, capsys):
    file = save_scene(still_scene(), tmp_path / "scene.safetensors")
    for out, words in (("a.gif", "a.mp4"), ("b/", "b.mp4"), ("scene.safetensors/a.mp4", "cannot be created")):
        assert main(["render", "--scene", str(file), "--out", str(tmp_path / out)]) == 1
        said = capsys.readouterr().err
        assert "frames of" not in said and words in said
    command = [
        "render",
        "--scene",
        str(file),
        "--out",
        str(tmp_path / "a.mp4"),
        "--frames",
        "1",
        "--width",
        "1",
    ]
    assert main(command) == 1
    assert "at least 2 × 2" in capsys.readouterr().err and not (tmp_path / "a.mp4").exists()
    assert main([*command, "--device", "mps"]) == 1
    assert "'mps' is not a device" in capsys.readouterr().err


def test_cuda_asked_for_where_there_is_none(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA: the sentence is for those without")
    file = tmp_path / "scene.safetensors"
    save_scene(still_scene(), file)
    assert main(["render", "--scene", str(file), "--out", str(tmp_path / "a.mp4"), "--device", "cuda"]) == 1
    assert "There is no device 'cuda'" in capsys.readouterr().err


def test_pictures_of_depth_and_flow_are_made_where_their_tensors_are():
    """Nothing is made on a device of its own: the default device is one that cannot be mixed with any other."""
    depth, flow = torch.rand(2, 6, 5) + 1, torch.randn(2, 6, 5, 2)
    with torch.device("meta"):
        shown = depth_picture(depth, torch.ones(2, 6, 5, device="cpu"))
        nothing = depth_picture(depth, torch.zeros(2, 6, 5, device="cpu"))
        moved = flow_picture(flow)
    assert {shown.device.type, nothing.device.type, moved.device.type} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here: the CPU path is tested above")
def test_a_scene_is_measured_on_the_gpu(scene):
    evaluation = m.result(evaluate_scene.run(scene, capture_of(scene), device="cuda"))
    assert evaluation.summary["psnr"] > 30 and evaluation.pictures.device.type == "cpu"


def test_too_many_pixels_are_refused_before_memory_is_taken(scene):
    cameras = Cameras(
        scene.rig.world_to_camera[:1].expand(50_000, 4, 4),
        scene.rig.K[:1].expand(50_000, 3, 3),
        ((2000, 2000),) * 50_000,
        tuple(str(i) for i in range(50_000)),
    )
    path = camera_path.with_cameras(cameras, torch.zeros(50_000), 24.0)
    with pytest.raises(InputError, match="lower frames"):
        next(render_scene.run(scene, path))


def test_a_small_machine_refuses_sooner(scene, monkeypatch):
    path = camera_path.make(scene, camera_path.Config(frames=10, width=64, height=64))
    next(render_scene.run(scene, path))
    monkeypatch.setattr(backends, "free_memory", lambda: 1e6)
    with pytest.raises(
        InputError, match=r"64×64 pixels need 1 MB of memory, but 1 MB are free; lower frames"
    ):
        next(render_scene.run(scene, path))


def test_memory_that_others_hold_is_not_counted_as_free(scene, monkeypatch):
    path = camera_path.make(scene, camera_path.Config(frames=10, width=64, height=64))
    need = 10 * 64 * 64 * render_scene.bytes_per_pixel(render_scene.Config())
    monkeypatch.setattr(backends, "memory", lambda: 100.0 * need)
    monkeypatch.setattr(backends, "free_memory", lambda: need - 1.0)
    with pytest.raises(InputError, match="STP-027"):
        next(render_scene.run(scene, path))
    monkeypatch.setattr(backends, "free_memory", lambda: float(need))
    next(render_scene.run(scene, path))


def test_a_video_drawn_frame_by_frame_is_encoded_from_the_same_images(scene, tmp_path):
    path = camera_path.make(scene, camera_path.Config(frames=6, fps=12.0, width=64, height=48))
    config = render_scene.Config(background="green", wants_flow=True)
    streamed = m.result(render_scene.to_video(scene, path, config, tmp_path / "streamed.mp4"))
    rendering = m.result(render_scene.run(scene, path, config))
    at_once = mp4.write_mp4(rendering.images, rendering.fps, tmp_path / "at_once.mp4")
    assert streamed.read_bytes() == at_once.read_bytes()
    facts = probe(streamed, streamed.name)
    assert facts.size == (64, 48) and facts.fps == 12.0 and facts.frames == 6


def test_a_video_that_is_cancelled_leaves_the_old_file_and_nothing_else(scene, tmp_path):
    path = camera_path.make(scene, camera_path.Config(frames=6, width=64, height=48))
    target = tmp_path / "video.mp4"
    target.write_bytes(b"old")
    stream = render_scene.to_video(scene, path, render_scene.Config(), target)
    done = [next(message for message in stream if isinstance(message, m.Progress)) for _ in range(3)]
    assert done[-1].done == 3
    stream.close()
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_video_draws_no_depth_and_no_flow(scene, tmp_path, monkeypatch):
    seen = []

    def spy(*given, **named):
        seen.append((named["want_depth"], named["next_means"]))
        return render_gaussians(*given, **named)

    monkeypatch.setattr(render_scene, "render_gaussians", spy)
    path = camera_path.make(scene, camera_path.Config(frames=2, width=64, height=48))
    m.result(render_scene.to_video(scene, path, render_scene.Config(wants_flow=True), tmp_path / "video.mp4"))
    assert seen == [(False, None)] * 2


@needs_linux
def test_the_memory_of_a_video_does_not_grow_with_its_frames(scene, tmp_path):
    """120 more frames of 512×512 would be 500 MB of images."""
    kept = save_scene(replace(scene, deformation=Static()), tmp_path / "scene.safetensors")

    def render(frames: int) -> float:
        words = f"--frames {frames} --width 512 --height 512 --device cpu --json".split()
        command = ["render", "--scene", str(kept), "--out", str(tmp_path / "orbit.mp4"), *words]
        script = (
            "import sys; from engine.cli import main; from tests.memory import peak\n"
            f"code = main({command!r}); print(peak() if code == 0 else code)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1]) / 2**20

    assert render(180) - render(60) < 100


def test_swing_truth_is_periodic(scene):
    """The test scene's own motion, so that other tests may lean on it."""
    assert torch.allclose(scene.at(0.0).means, scene.canonical.means)
    moved = scene.at(0.5).means - scene.canonical.means
    upper = scene.canonical.means[:, 2] > 0
    assert torch.allclose(
        moved[upper][:, 0], torch.full((int(upper.sum()),), 0.5 * math.sin(math.pi / 2)), atol=1e-6
    )
    assert bool((moved[~upper] == 0).all())


def test_memory_that_runs_out_is_one_sentence(scene, tmp_path):
    kept, video = tmp_path / "scene.safetensors", tmp_path / "orbit.mp4"
    save_scene(replace(scene, deformation=Static()), kept)
    script = f"""
import resource
from engine.cli import main
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
words = "--width 8192 --height 8192 --frames 4 --device cpu".split()
raise SystemExit(main(["render", "--scene", {str(kept)!r}, "--out", {str(video)!r}, *words]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    sentence = (
        r"^error: Out of memory while running Render 4D Scene: [\d.]+ [GM]B .*this process may use 3\.0 GB\. "
        "Lower the width and height"
    )
    assert re.search(sentence, done.stderr, re.MULTILINE), done.stderr
    assert list(tmp_path.iterdir()) == [kept]

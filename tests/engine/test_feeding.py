"""Frames read ahead: in the order of the sampler, with the same bits, on threads that end."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import messages as m
from engine.capture.frames import FrameStore
from engine.capture.prepared_folder import PreparedFolder
from engine.capture.readers import load_video
from engine.cli import main
from engine.errors import InputError
from engine.scene import MultiViewVideo
from engine.steps import evaluate_scene, fit_scene, refine_score, train_latents
from engine.steps.fit_scene import FitScene
from engine.train import feeding
from engine.train.draws import generator_at
from engine.train.feeding import Feed
from engine.train.targets import composite
from tests.edit_scenes import field_scene
from tests.engine.test_fit import assert_same_bits
from tests.engine.test_frames import capture
from tests.latent_scenes import QUICK as LATENTS
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

QUICK = fit_scene.Config(
    iterations=24,
    budget=200,
    initial_count=100,
    views_per_step=2,
    preview_every=6,
    sh_degree=0,
    coarse_fraction=0.3,
    initialization="random",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> MultiViewVideo:
    return load_video(capture(tmp_path_factory.mktemp("capture") / "room"))


def large(video: MultiViewVideo, folder: Path | None) -> MultiViewVideo:
    """The same capture with a cache that holds nothing."""
    place = None if folder is None else PreparedFolder(folder, 10**9)
    return replace(video, source=FrameStore(video.source._views, 0, video.source._also, prepared=place))


def feeding_threads() -> list[str]:
    # kernels keep theirs
    return [t.name for t in threading.enumerate() if t.name.startswith(("gs4d-feed", "gs4d-prepare"))]


def test_a_fit_with_prepared_frames_has_the_bits_of_one_without(small, tmp_path) -> None:
    whole = m.result(fit_scene.run(small, QUICK))
    direct = m.result(fit_scene.run(large(small, None), QUICK))
    video = large(small, tmp_path / "frames")
    messages = list(fit_scene.run(video, QUICK))
    assert messages[0].task == "preparing frames" and messages[0].total == 3 * 6, "the test view stays out"
    assert messages[1].done <= 18 and messages[-1].value is not None
    prepared = messages[-1].value
    assert video.source.prepared is not None and not video.source.prepared.missing([(0, 0), (3, 5)])
    for scene in (direct, prepared):
        assert_same_bits(whole, scene)
    assert feeding_threads() == []


@pytest.mark.parametrize("first_is_prepared", [True, False])
def test_resumed_equals_uninterrupted_whatever_was_read_ahead(small, tmp_path, first_is_prepared) -> None:
    whole = m.result(fit_scene.run(small, QUICK))
    folders = [tmp_path / "frames", None] if first_is_prepared else [None, tmp_path / "frames"]
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(large(small, folders[0]), QUICK, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.losses and message.done == 13:
            break
    stream.close()
    assert checkpoint.is_file() and feeding_threads() == []
    messages = list(fit_scene.run(large(small, folders[1]), QUICK, checkpoint=checkpoint))
    assert next(x.done for x in messages if isinstance(x, m.Progress) and x.losses) == 14
    assert_same_bits(whole, messages[-1].value)


class Noting:
    """A large FrameSource that notes what is read."""

    is_large = True

    def __init__(self, source) -> None:
        self.source, self.read_pairs = source, []

    def read(self, view: int, moment: int):
        self.read_pairs.append((view, moment))
        return self.source.read(view, moment)

    def fingerprint(self) -> str:
        return self.source.fingerprint()


def test_frames_are_read_ahead_in_the_order_of_the_sampler(small) -> None:
    noting = Noting(small.source)
    # of one size, so that each image is read once and then stays among the targets
    config = replace(QUICK, order="all at once", start_scale=1.0, preview_every=0)
    work = FitScene(replace(small, source=noting), config, "cpu")
    noting.read_pairs.clear()
    expected = [pair for step in range(config.iterations) for pair in work.wanted(step)]
    for _ in range(config.iterations):
        work.step()
    work.feed.close()
    assert len(expected) > 2 * len(set(expected)) > 20
    assert noting.read_pairs == list(dict.fromkeys(expected))


def test_a_frame_that_is_expected_is_there_before_it_is_asked_for(small) -> None:
    noting = Noting(small.source)
    feed = Feed(replace(small, source=noting))
    feed.expect([(0, 3), (1, 2)])
    for future in list(feed._waiting.values()):
        future.result(30)
    asked = list(noting.read_pairs)
    assert torch.equal(feed.read(0, 3).image, small.source.read(0, 3).image)
    assert torch.equal(feed.read(1, 2).image, small.source.read(1, 2).image)
    assert noting.read_pairs == asked == [(0, 3), (1, 2)]
    feed.expect([(0, 1)])
    feed.expect([(2, 2)])
    assert list(feed._waiting) == [(2, 2)], "what is not needed any more is dropped"
    feed.close()
    assert feeding_threads() == []


def test_threads_end_after_an_error(small, tmp_path) -> None:
    class Failing(Noting):
        def read(self, view: int, moment: int):
            if len(self.read_pairs) > 20:
                raise InputError("CAP-155", "cam01.mp4: frame 3 cannot be decoded.")
            return super().read(view, moment)

    video = replace(small, source=Failing(small.source))
    with pytest.raises(InputError, match="frame 3 cannot be decoded"):
        m.result(fit_scene.run(video, replace(QUICK, start_scale=0.25, iterations=200)))
    assert feeding_threads() == []


def test_a_small_capture_is_read_as_before(small) -> None:
    feed = Feed(small)
    assert not feed.is_active and feed.video is small and list(feed.prepare([(0, 0)])) == []


def test_canceled_preparation_leaves_no_thread(small, tmp_path) -> None:
    stream = fit_scene.run(large(small, tmp_path / "frames"), QUICK)
    next(stream), next(stream)
    stream.close()
    assert feeding_threads() == []


def test_what_cannot_be_prepared_is_told_and_trained_all_the_same(small, tmp_path) -> None:
    source = FrameStore(small.source._views, 0, prepared=PreparedFolder(tmp_path / "frames", 1000))
    messages = list(fit_scene.run(replace(small, source=source), QUICK))
    notes = [x.note for x in messages if isinstance(x, m.Started)]
    assert "limit of prepared frames" in notes[-1]
    assert_same_bits(m.result(fit_scene.run(small, QUICK)), messages[-1].value)


def test_evaluation_reads_ahead_with_the_same_figures(small, tmp_path) -> None:
    scene = m.result(fit_scene.run(small, QUICK))
    config = evaluate_scene.Config(views="all", every=2)
    figures = [
        m.result(evaluate_scene.run(scene, video, config)).summary
        for video in (small, large(small, None), large(small, tmp_path / "frames"))
    ]
    assert figures[0] == figures[1] == figures[2]
    assert feeding_threads() == []


def test_refinement_and_latents_read_ahead_with_the_same_bits() -> None:
    scene = field_scene(count=80, views=4, moments=4)
    video, model = capture_of(scene), tiny_backbone()
    quick = refine_score.Config(prompt="swap the colours", iterations=6, preview_every=3, images_per_step=2)
    runs = {
        "refine": lambda capture: refine_score.run(scene, model, quick, capture),
        "latents": lambda capture: train_latents.run(scene, model, LATENTS, capture),
    }
    for name, run in runs.items():
        noting = Noting(video.source)
        ahead, plain = (m.result(run(each)) for each in (replace(video, source=noting), video))
        tensors = [
            made.canonical.tensors() if name == "refine" else {"features": made.features}
            for made in (ahead, plain)
        ]
        assert noting.read_pairs and all(torch.equal(t, tensors[1][key]) for key, t in tensors[0].items()), (
            name
        )
    assert feeding_threads() == []


def test_progress_names_what_is_counted() -> None:
    assert m.status(m.Progress(3), 10, 0, 3.0, "preparing frames") == "preparing frames 3 of 10 · 0:07 left"
    assert m.status(m.Progress(3), 10, 0, 3.0) == "3 of 10 · 0:07 left"


def test_the_command_line_prepares_a_capture_that_is_larger_than_its_cache(tmp_path, capsys) -> None:
    folder = capture(tmp_path / "room", frames=24, masks=False, size=(320, 256))
    command = ["fit-scene", "--data", str(folder), "--out", str(tmp_path / "scene.safetensors")]
    command += ["--cache-megabytes", "16", "--prepared", str(tmp_path / "frames"), "--device", "cpu"]
    command += ["--iterations", "2", "--initial-count", "50", "--budget", "50", "--start-scale", "0.25"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "preparing 72 frames of the capture" in said, "the view that is held out is not prepared"
    assert len(list((tmp_path / "frames").glob("*.frames"))) == 3
    assert main(command) == 0
    assert "preparing" not in capsys.readouterr().err


@pytest.mark.parametrize(("free", "stays"), [(10**9, True), (10**6, False)])
def test_frames_stay_on_a_gpu_only_where_all_of_them_fit(small, monkeypatch, free, stays) -> None:
    pinned = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(1) or tensor)
    monkeypatch.setattr(feeding, "frame_on", lambda frame, device: frame)
    noting = Noting(small.source)
    feed = Feed(replace(small, source=noting), "cuda")
    pairs = small.samples()
    for _ in range(3):
        for i, pair in enumerate(pairs):
            feed.expect(pairs[i : i + 4])
            assert torch.equal(feed.read(*pair).image, small.source.read(*pair).image)
    assert len(pinned) > 0
    assert len(noting.read_pairs) == (1 if stays else 3) * len(pairs)
    feed.close()


@pytest.mark.gpu
def test_frames_on_a_gpu_have_the_bits_of_those_that_are_uploaded_one_by_one(small, tmp_path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    video, background = large(small, tmp_path / "frames"), torch.rand(3, device="cuda")
    feed = Feed(video, "cuda")
    for _ in feed.prepare(video.samples()):
        pass
    for _ in range(2):
        feed.expect(video.samples())
        for pair in video.samples():
            ours, theirs = (composite(source.read(*pair), background) for source in (feed, small.source))
            assert torch.equal(ours.image, theirs.image)
    assert len(feed._resident) == len(video.samples()), "all of them fit"
    feed.close()


def test_draws_depend_on_seed_and_step_alone() -> None:
    drawn = {
        (seed, step): int(torch.randint(2**40, (), generator=generator_at(seed, step)))
        for seed in range(3)
        for step in range(50)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert int(torch.randint(2**40, (), generator=generator_at(1, 7))) == drawn[1, 7]

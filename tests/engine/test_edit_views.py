"""Editing views of a scene: what is edited, where, how often the model is asked, and what the artist is told.

The model has random weights: what it makes of a picture means nothing, so only where and how it acts is tested.
"""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from engine import messages as m
from engine.diffusion import DiscreteSchedule, ModelDefaults
from engine.diffusion.sizes import edit_size, size_for
from engine.errors import InputError
from engine.fields import LONGEST_TEXT, indices
from engine.io.view_folder import load_views, save_views
from engine.masks.matte import over_background
from engine.scene import Cameras, Frame, Selection, ViewSet
from engine.steps import edit_views
from engine.wording import LONGEST_QUOTE, brief
from tests.scenes import RenderedFrames, capture_of, moving_scene
from tests.tiny_diffusion import SCHEDULER, tiny_backbone

CONFIG = edit_views.Config(
    moments="0", prompt="make it night", steps=2, views="0-2", resolution=48, preview_every=0
)


@pytest.fixture(scope="module")
def scene():
    return moving_scene()


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def edited(scene, backbone):
    return edit(scene, backbone)


def edit(scene, backbone, *rest, **changed) -> ViewSet:
    return m.result(edit_views.run(scene, backbone, replace(CONFIG, **changed), *rest))


class Counting:
    """A backbone that counts how many pictures, in how many calls, go through its network and its autoencoder."""

    def __init__(self, inner):
        self.inner, self.calls, self.pictures = inner, 0, 0
        self.encoded = self.decoded = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def predict(self, noisy, *rest, **named):
        self.calls, self.pictures = self.calls + 1, self.pictures + len(noisy)
        return self.inner.predict(noisy, *rest, **named)

    def encode(self, images, *rest):
        self.encoded += len(images)
        return self.inner.encode(images, *rest)

    def encode_image_latents(self, images):
        self.encoded += len(images)
        return self.inner.encode_image_latents(images)

    def decode(self, latents):
        self.decoded += len(latents)
        return self.inner.decode(latents)


def test_sizes_follow_the_papers_rule(backbone):
    assert edit_size(1352, 1014, 512) == (512, 384)
    assert edit_size(2048, 1088, 512) == (576, 320)
    assert edit_size(550, 802, 512) == (384, 512)
    assert size_for(backbone, 1352, 1014, 512) == (512, 384)
    assert size_for(backbone, 160, 208, 256) == (192, 256), "small pictures keep their shape"
    assert size_for(backbone, 48, 40, 48) == (48, 40)
    assert size_for(backbone, 48, 40) == (64, 56), "the long side that suits the model"
    with pytest.raises(InputError, match="at least 8 pixels"):
        size_for(backbone, 48, 40, 4)


def test_numbers_and_ranges():
    assert indices("0 2, 5-7", 8, "view") == (0, 2, 5, 6, 7)
    assert indices("", 3, "view") == indices("all", 3, "view") == (0, 1, 2)
    for text, said in (
        ("8", "no view 8; there are 8"),
        ("2-1", "no view 2-1"),
        ("first", "'first' is not a view"),
    ):
        with pytest.raises(InputError, match=said):
            indices(text, 8, "view")


@pytest.mark.parametrize("moments", [2, 6, 12])
def test_invariant_2_diffusion_calls_do_not_depend_on_how_many_moments_there_are(backbone, moments):
    counting = Counting(backbone)
    views = edit(moving_scene(moments=moments), counting)
    assert counting.calls == 2 and counting.pictures == 2 * 3 * 3, "steps; steps × views × guidance branches"
    assert views.edit["diffusion_calls"] == 2 * 3
    assert views.moments == (0, 0, 0)


def test_what_comes_out_belongs_to_the_scene(scene, edited):
    assert edited.size == (48, 40) and len(edited) == 3
    assert edited.views == (0, 1, 2) and edited.seconds == (0.0,) * 3
    assert edited.cameras.names == scene.rig.names[:3]
    assert float((edited.images - edited.originals).abs().mean()) > 0.01
    assert 0 <= float(edited.images.min()) and float(edited.images.max()) <= 1
    assert json.loads(json.dumps(edited.edit)) == edited.edit
    about = {"prompt": "make it night", "model": "tiny random weights", "guidance_scale": 7.5, "key_view": 0}
    assert about.items() <= edited.edit.items()


def test_inputs_stay_as_they_are_and_a_seed_gives_the_same_bits(scene, backbone, edited):
    before = {name: t.clone() for name, t in scene.canonical.tensors().items()}
    again = edit(scene, backbone)
    assert torch.equal(again.images, edited.images)
    assert all(torch.equal(t, before[name]) for name, t in scene.canonical.tensors().items())
    assert not torch.equal(edit(scene, backbone, seed=1).images, edited.images)


def test_the_scenes_own_background_stays_behind_the_subject(scene, backbone, edited):
    empty = edited.alphas < 1e-3
    assert 0.2 < float(empty.float().mean()) < 0.9
    assert torch.allclose(edited.images[empty], torch.ones(3))
    painted = edit(scene, backbone, background="as edited")
    assert float((painted.images[empty] - 1).abs().mean()) > 0.02
    assert painted.edit["background"] == "as edited" and edited.edit["background"] == "scene"


def test_a_scene_that_fills_its_pictures_keeps_what_was_painted(scene, backbone):
    near = scene.with_(canonical=scene.canonical.with_(means=scene.canonical.means * 1e-2))
    size = torch.full_like(scene.canonical.log_scales, 3.0)
    full = near.with_(canonical=near.canonical.with_(log_scales=size))
    views = edit(full, backbone)
    assert views.alphas is None and views.edit["background"] == "as edited"


def test_exchanging_the_background_leaves_an_untouched_picture_untouched():
    disc = (
        torch.hypot(*torch.meshgrid(torch.arange(40.0) - 20, torch.arange(48.0) - 24, indexing="ij")) - 12
    ).neg()
    alpha = ((disc + 1.5) / 3).clamp(0, 1)[None]
    subject, b, repainted = (
        torch.tensor([0.2, 0.5, 0.3]),
        torch.tensor([0.9, 0.9, 0.9]),
        torch.tensor([0.1, 0.1, 0.3]),
    )
    over = lambda back: alpha[..., None] * subject + (1 - alpha[..., None]) * back  # noqa: E731
    assert torch.allclose(over_background(over(b), alpha, b), over(b), atol=0.02)
    got = over_background(over(repainted), alpha, b)
    naive = alpha[..., None] * over(repainted) + (1 - alpha[..., None]) * b
    assert float((got - over(b)).square().mean()) < 0.1 * float((naive - over(b)).square().mean())


def test_texts_are_limited_and_quoted_in_short():
    with pytest.raises(InputError, match=r"prompt has 100,001 characters, 'nnn.*Shorten it"):
        edit_views.Config(prompt="n" * (LONGEST_TEXT + 1))
    assert edit_views.Config(prompt="n" * LONGEST_TEXT).prompt
    assert brief(" make\n it\x00  gold ") == "make it\\x00 gold"
    assert len(brief("n" * 10_000)) == LONGEST_QUOTE and brief("n" * 10_000).endswith("…")


class Darkening:
    """A backbone that knows its craft: latents are blocks of pixels, and its network sees x ↦ x/2 behind any noise."""

    name, fingerprint, megabytes = "darkening", "darkening", 0
    has_image_conditioning, latent_channels, vae_scale_factor = True, 192, 8
    noise_schedule = DiscreteSchedule.from_config({**SCHEDULER, "set_alpha_to_one": True})
    defaults, device = ModelDefaults(steps=3, resolution=64), torch.device("cpu")
    known_edits = time_factor = None

    def encode_text(self, prompts):
        return torch.zeros(len(prompts), 1, 1)

    def cut_short(self, prompt):
        return None

    def encode(self, images, generator=None):
        return torch.nn.functional.pixel_unshuffle((images * 2 - 1).permute(0, 3, 1, 2), 8)

    encode_image_latents = encode

    def scaled(self, condition):
        return condition

    def decode(self, latents):
        return torch.nn.functional.pixel_shuffle(latents, 8).permute(0, 2, 3, 1) / 2 + 0.5

    def predict(self, noisy, t, text, condition=None, sharing=None):
        a = self.noise_schedule.alpha(t)
        return (noisy - a**0.5 * self.encode(self.decode(condition) / 2)) / (1 - a) ** 0.5


@pytest.mark.parametrize("is_local", [False, True])
def test_a_model_that_darkens_darkens_the_subject_and_nothing_else(scene, is_local):
    upper = Selection((scene.canonical.means[:, 2] > 0.2).float()) if is_local else None
    config = replace(CONFIG, guidance_scale=1.0, image_guidance_scale=1.0, resolution=0)
    views = m.result(edit_views.run(scene, Darkening(), config, None, upper))
    alpha = views.alphas[..., None]
    dark = (views.originals - (1 - alpha)) / 2 + (
        1 - alpha
    )  # half the subject's light, all of the white background's
    changed = (views.images - views.originals).abs().amax(-1)
    if not is_local:
        assert float((views.images - dark).abs().max()) < 0.03
        return
    wholly = (changed > 0.9 * (dark - views.originals).abs().amax(-1)) & (views.alphas > 0.1)
    assert float((views.images - dark)[wholly].abs().max()) < 0.05, (
        "no seam of the grey that the model put behind"
    )
    assert 0.05 < float(wholly.float().mean()) < 0.6 * float((views.alphas > 0.1).float().mean())
    assert bool((views.images[views.alphas < 1e-3] > 0.99).all())


def test_captured_pictures_are_edited_until_the_scene_was_edited(scene, backbone, edited):
    video = capture_of(scene)
    views = edit(scene, backbone, video)
    assert views.edit["originals"] == "captured" and edited.edit["originals"] == "rendered"
    frame = video.source.read(1, 0)
    assert torch.allclose(views.originals[1], frame.image.float() / 255, atol=1e-6)
    assert torch.equal(views.alphas[1], frame.mask.float() / 255), (
        "a captured picture's own mask is its coverage"
    )
    stacked = edit(scene.with_history("fit_edits"), backbone, video)
    assert stacked.edit["originals"] == "rendered"
    assert torch.equal(stacked.originals, edited.originals)
    assert edit(scene, backbone, video, originals="rendered").edit["originals"] == "rendered"
    assert edit(scene, backbone, video, views="").views == tuple(range(1, 8)), "view 0 is a test view"


def test_masked_captures_are_put_over_the_scenes_background(scene, backbone):
    class Cut(RenderedFrames):
        def read(self, view, moment):
            frame = super().read(view, moment)
            return Frame(torch.where((frame.mask > 0)[..., None], frame.image, 7), frame.mask)

    video = replace(capture_of(scene), source=Cut(scene))
    views = edit(scene, backbone, video)
    assert torch.allclose(views.originals[views.alphas == 0], torch.ones(3))


def test_a_selection_limits_the_edit_to_where_it_shows(scene, backbone, edited):
    right = Selection((scene.canonical.means[:, 2] > 0.3).float())
    local = edit(scene, backbone, None, right)
    changed = (local.images - local.originals).abs().amax(-1) > 0.02
    assert local.edit["is_local"] and 0.01 < float(changed.float().mean()) < 0.5
    assert float(changed[:, 24:].float().mean()) < 0.3 * float(changed[:, :20].float().mean()), "z is up"
    nothing = edit(scene, backbone, None, Selection(torch.zeros(200)))
    assert torch.equal(nothing.images, nothing.originals) and nothing.edit["diffusion_calls"] == 0
    with pytest.raises(InputError, match="lifted to 7 Gaussians, but this scene has 200"):
        edit(scene, backbone, None, Selection(torch.ones(7)))


def test_moments_are_edited_in_chunks_that_keep_the_key(scene, backbone):
    counting = Counting(backbone)
    views = edit(scene, counting, moments="0 2 4", key_view=1, frames_at_once=4)
    assert views.moments == (0, 0, 0, 2, 2, 2, 4, 4, 4) and views.views == (0, 1, 2) * 3
    assert views.edit["diffusion_calls"] == 2 * (4 + 4 + 3), "the key comes along: 8 others, 3 at a time"
    whole = edit(scene, backbone, moments="0 2 4", key_view=1)
    assert torch.allclose(views.images, whole.images, atol=1e-3)


@pytest.mark.parametrize("detail, decoded", [("as painted", 9), ("from originals", 18)])
def test_each_picture_is_encoded_once_and_decoded_once(scene, backbone, detail, decoded):
    """With the originals' detail twice: what the autoencoder leaves of the original is another picture."""
    counting = Counting(backbone)
    edit(scene, counting, moments="0 2 4", key_view=1, frames_at_once=4, detail=detail)
    assert (counting.encoded, counting.decoded) == (9, decoded), (
        "the key, too, is encoded for all chunks at once"
    )


def test_a_small_model_works_on_one_thread_and_the_count_comes_back(scene, backbone):
    class Failing(Counting):
        def predict(self, noisy, *rest, **named):
            self.threads = torch.get_num_threads()
            raise RuntimeError("of no matter")

    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        for megabytes in (10, 4000):
            failing = Failing(backbone)
            failing.megabytes = megabytes
            with pytest.raises(RuntimeError, match="of no matter"):
                edit(scene, failing)
            seen.append((failing.threads, torch.get_num_threads()))
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 3), (3, 3)]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_interrupted_and_resumed_equals_uninterrupted(scene, backbone, tmp_path, stop):
    config = replace(CONFIG, moments="0 3", frames_at_once=3, preview_every=2)
    whole = m.result(edit_views.run(scene, backbone, config))
    checkpoint = tmp_path / "edit.safetensors"
    stream = edit_views.run(scene, backbone, config, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == stop:
            break
    stream.close()
    assert checkpoint.is_file()
    counting = Counting(backbone)
    messages = list(edit_views.run(scene, counting, config, checkpoint=checkpoint))
    assert messages[0].note.startswith(f"resumed at step {stop}")
    assert counting.calls == 6 - stop, "finished chunks and steps are not done again"
    assert torch.equal(messages[-1].value.images, whole.images)
    assert messages[-1].value.edit == whole.edit
    assert not checkpoint.exists()
    other = next(
        edit_views.run(scene, backbone, replace(config, prompt="make it red"), checkpoint=checkpoint)
    )
    assert "resumed" not in other.note


def test_progress_and_previews_come_as_they_should(scene, backbone):
    messages = list(edit_views.run(scene, backbone, replace(CONFIG, preview_every=1)))
    assert isinstance(messages[0], m.Started) and messages[0].total == 2
    assert [x.done for x in messages if isinstance(x, m.Progress)] == [1, 2]
    previews = [x.image for x in messages if isinstance(x, m.Preview)]
    assert len(previews) == 2 and previews[0].ndim == 3
    assert previews[0].shape[0] >= 80 and previews[0].shape[1] >= 3 * 48, "three originals above three edits"
    assert not torch.equal(previews[0], previews[1])


def test_strength_zero_leaves_every_picture(scene, backbone):
    views = edit(scene, backbone, strength=0.0)
    assert torch.equal(views.images, views.originals) and views.edit["diffusion_calls"] == 0


def test_what_cannot_be_edited_is_said(scene, backbone):
    for changed, said in (
        ({"prompt": " "}, "prompt is empty"),
        ({"views": "0 9"}, "no view 9; there are 8"),
        ({"moments": "6"}, "no frame 6; there are 6"),
        ({"key_view": 5}, r"key view 5 is not among the edited views \(0 1 2\)"),
        ({"originals": "captured"}, "no video is connected"),
        ({"steps": 200, "resolution": 7}, "at least 8 pixels"),
    ):
        with pytest.raises(InputError, match=said):
            edit(scene, backbone, **changed)
    with pytest.raises(InputError, match="4 input channels where 8 are needed"):
        edit(scene, tiny_backbone(has_image_conditioning=False))
    with pytest.raises(InputError, match="strength is 2"):
        replace(CONFIG, strength=2.0)
    with pytest.raises(InputError, match="8 views and 3 frames, the scene 8 and 6"):
        edit(scene, backbone, capture_of(moving_scene(moments=3)))
    moved = scene.rig.world_to_camera.clone()
    moved[3, 0, 3] += 1
    elsewhere = scene.with_(rig=replace(scene.rig, world_to_camera=moved))
    with pytest.raises(InputError, match="Camera cam03 has another pose"):
        edit(elsewhere, backbone, capture_of(scene))


def test_views_of_mixed_shapes_are_refused_and_of_mixed_sizes_are_not(scene, backbone):
    sizes = list(scene.rig.sizes)
    sizes[1] = (96, 80)
    twice = scene.with_(rig=scene.rig.resized(tuple(sizes)))
    assert edit(twice, backbone).size == (48, 40)
    sizes[1] = (40, 48)
    turned = scene.with_(rig=Cameras(scene.rig.world_to_camera, scene.rig.K, tuple(sizes), scene.rig.names))
    with pytest.raises(InputError, match="View cam00 has images of 48×40, view cam01 of 40×48"):
        edit(turned, backbone)
    assert edit(turned, backbone, views="0 2").views == (0, 2)


def test_missing_captures_are_rendered_or_named(scene, backbone):
    video = capture_of(scene)
    there = video.available.clone()
    there[1, 0] = False
    some = replace(video, available=there)
    assert edit(scene, backbone, some).edit["originals"] == "rendered"
    assert edit(scene, backbone, some, originals="captured").views == (0, 2)
    with pytest.raises(InputError, match="does not have images of the chosen views"):
        edit(scene, backbone, some, originals="captured", views="1")


# -- as a folder of pictures ---------------------------------------------------------------------------------------------


def test_a_folder_gives_the_views_back(edited, tmp_path):
    back = load_views(save_views(edited, tmp_path / "views"))
    for name in ("images", "originals", "alphas"):
        assert float((getattr(back, name) - getattr(edited, name)).abs().max()) <= 0.5 / 255 + 1e-6
    assert back.cameras.to_json() == edited.cameras.to_json()
    assert (back.views, back.moments, back.seconds) == (edited.views, edited.moments, edited.seconds)
    assert back.edit == edited.edit
    plain = load_views(save_views(replace(edited, alphas=None, edit=None), tmp_path / "plain"))
    assert plain.alphas is None and plain.edit is None


def test_pictures_of_the_folder_may_be_replaced(edited, tmp_path):
    folder = save_views(edited, tmp_path / "views")
    names = sorted(path.name for path in (folder / "edited").iterdir())
    Image.new("RGB", (96, 80), (255, 0, 0)).save(folder / "edited" / names[0])
    (folder / "edited" / names[1]).unlink()
    Image.new("RGB", (48, 40), (0, 0, 255)).save((folder / "edited" / names[1]).with_suffix(".bmp"))
    half = Image.new("RGBA", (48, 40), (0, 255, 0, 255))
    half.paste((0, 0, 0, 0), (0, 0, 24, 40))
    half.save(folder / "edited" / names[2])
    back = load_views(folder)
    assert torch.equal(back.images[0], torch.tensor([1.0, 0, 0]).expand(40, 48, 3))
    assert torch.equal(back.images[1], torch.tensor([0, 0, 1.0]).expand(40, 48, 3))
    assert torch.equal(back.images[2, :, :24], back.originals[2, :, :24]), "transparent: the original stays"
    assert torch.equal(back.images[2, :, 24:], torch.tensor([0, 1.0, 0]).expand(40, 24, 3))


def test_what_is_wrong_with_a_folder_is_said(edited, tmp_path):
    def spoilt(name, spoil):
        folder = save_views(edited, tmp_path / name)
        first = sorted((folder / "edited").iterdir())[0]
        spoil(folder, first, json.loads((folder / "views.json").read_text()))
        return folder

    def rewrite(**changed):
        def spoil(folder, first, about):
            (folder / "views.json").write_text(json.dumps({**about, **changed}))

        return spoil

    def empty(folder, first, about):
        about["cameras"]["sizes"] = [[0, 0]] * len(about["cameras"]["sizes"])
        (folder / "views.json").write_text(json.dumps(about))

    def climb(folder, first, about):
        about["pictures"][0]["file"] = "../../secret.png"
        (folder / "views.json").write_text(json.dumps(about))

    cases = {
        "nothing": (lambda f, p, a: (f / "views.json").unlink(), "views.json is missing"),
        "gone": (lambda f, p, a: p.unlink(), r"edited/000_cam00_0.png is missing"),
        "cut": (lambda f, p, a: p.write_bytes(p.read_bytes()[:90]), "edited/000_cam00_0.png cannot be read"),
        "text": (lambda f, p, a: p.write_text("no picture"), "is not an image"),
        "cropped": (lambda f, p, a: Image.new("RGB", (48, 30)).save(p), "48×30, but its view is 48×40"),
        "other": (rewrite(format="holiday"), "does not describe views"),
        "newer": (rewrite(version=9), "version 9, but this pack supports versions up to 1"),
        "few": (lambda f, p, a: rewrite(pictures=a["pictures"][:2])(f, p, a), "2 images and 3 cameras"),
        "broken": (rewrite(pictures=[{"file": 3}]), "views.json is incomplete"),
        "climbing": (climb, "outside"),
        "sizeless": (empty, "0 × 0 pixels"),
    }
    for name, (spoil, said) in cases.items():
        with pytest.raises(InputError, match=said):
            load_views(spoilt(name, spoil))
    with pytest.raises(InputError, match="does not exist"):
        load_views(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        save_views(edited, tmp_path / "file")

"""LPIPS and CLIP on tiny RANDOM networks: identities, symmetry, and what is undefined stays undefined."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from engine.errors import InputError
from engine.losses import lpips
from engine.losses.perceptual import (
    clip_c_adjacent,
    clip_c_direction,
    clip_direction,
    clip_similarity,
    load_clip,
    load_lpips,
)
from engine.losses.temporal import StaticRegion, flow_warp_error, visible_in_both, warp
from tests.tiny_diffusion import byte_tokenizer

VGG = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
} | {i: (256 if i == 17 else 512, 512) for i in (17, 19, 21, 24, 26, 28)}
ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}


def random_lpips_files(folder, kind):
    """Files of the shapes that torchvision and the package lpips write, random numbers inside."""
    g = torch.Generator().manual_seed(0)
    shapes = {i: (a, b, 3) for i, (a, b) in VGG.items()} if kind == "vgg" else ALEX
    state = {}
    for i, (a, b, side) in shapes.items():
        state[f"features.{i}.weight"] = (
            torch.randn(b, a, side, side, generator=g) * (2 / (a * side**2)) ** 0.5
        )
        state[f"features.{i}.bias"] = torch.randn(b, generator=g) * 0.1
    linear = {
        f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=g) for i, c in enumerate(WIDTHS[kind])
    }
    torch.save(state, folder / f"{kind}.pth")
    torch.save(linear, folder / f"{kind}_lin.pth")
    return folder / f"{kind}.pth", folder / f"{kind}_lin.pth"


def plain_lpips(state, linear, kind, a, b):
    """The definition, on torch's own layers numbered as torchvision's."""
    if kind == "vgg":
        widths = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
        layers, last = [], 3
        for w in widths:
            if w == "M":
                layers.append(torch.nn.MaxPool2d(2, 2))
            else:
                layers += [torch.nn.Conv2d(last, w, 3, padding=1), torch.nn.ReLU()]
                last = w
        ends = (4, 9, 16, 23, 30)
    else:
        conv, relu, pool = torch.nn.Conv2d, torch.nn.ReLU, torch.nn.MaxPool2d
        layers = [conv(3, 64, 11, 4, 2), relu(), pool(3, 2), conv(64, 192, 5, padding=2), relu(), pool(3, 2)]
        layers += [conv(192, 384, 3, padding=1), relu(), conv(384, 256, 3, padding=1), relu()]
        layers += [conv(256, 256, 3, padding=1), relu()]
        ends = (2, 5, 8, 10, 12)
    features = torch.nn.Sequential(*layers)
    features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    x, y, start, total = (a - shift) / scale, (b - shift) / scale, 0, 0.0
    for i, end in enumerate(ends):
        x, y, start = features[start:end](x), features[start:end](y), end
        difference = (
            x / (x.norm(dim=1, keepdim=True) + 1e-10) - y / (y.norm(dim=1, keepdim=True) + 1e-10)
        ) ** 2
        total = total + (difference * linear[f"lin{i}.model.1.weight"]).sum(1).mean(dim=(1, 2))
    return total


@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_lpips_is_its_definition_zero_for_equals_and_symmetric(tmp_path, kind):
    weights, linear = random_lpips_files(tmp_path, kind)
    network = load_lpips(weights, linear=linear)
    assert network.kind == kind and network.name == f"{kind}.pth"
    a, b = torch.rand(2, 3, 64, 48), torch.rand(2, 3, 64, 48)
    got = lpips(a, b, network)
    with torch.no_grad():
        state, lin = torch.load(weights, weights_only=True), torch.load(linear, weights_only=True)
        want = plain_lpips(state, lin, kind, 2 * a - 1, 2 * b - 1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got, lpips(b, a, network))
    assert float(lpips(a, a, network).abs().max()) == 0.0
    assert float((got - lpips(a, b, network, "3dgs")).abs().min()) > 0, "the input range shows in the number"
    near = lpips(a, (a + 0.02 * torch.randn_like(a)).clamp(0, 1), network)
    assert bool((near < got).all())


def test_lpips_says_what_is_wrong_with_its_files(tmp_path):
    weights, linear = random_lpips_files(tmp_path, "alex")
    for path, told in (
        (tmp_path / "absent.pth", "absent.pth .LPIPS weights. was not found"),
        (linear, "neither torchvision's VGG16 nor its AlexNet"),
    ):
        with pytest.raises(InputError, match=told):
            load_lpips(path, linear=linear)
    (tmp_path / "torn.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        load_lpips(tmp_path / "torn.pth", linear=linear)
    with pytest.raises(InputError, match="is missing"):
        load_lpips(weights, linear=weights)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A whole CLIP of RANDOM weights, saved as transformers would."""
    transformers = pytest.importorskip("transformers", reason="CLIP needs transformers")
    folder = tmp_path_factory.mktemp("models") / "tiny-random-clip"
    common = dict(hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2)
    text = dict(common, vocab_size=514, bos_token_id=512, eos_token_id=513, pad_token_id=513)
    vision = dict(common, image_size=32, patch_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_clip_features_are_the_models_own_and_unit(clip_folder):
    import transformers

    clip = load_clip(clip_folder)
    assert clip.name == "tiny-random-clip" and clip.size == 32
    pictures = torch.rand(3, 40, 60, 3)
    found = clip.images(pictures)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(found[1:2], clip.images(pictures[1:2]), rtol=1e-4, atol=1e-5)
    model = transformers.CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    square = torch.rand(1, 32, 32, 3)  # no resizing: what is left is mean and deviation
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    tokens = clip.tokenizer(["a cat"], padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        out = model(pixel_values=((square - mean) / deviation).permute(0, 3, 1, 2), **tokens)
    torch.testing.assert_close(clip.images(square), out.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clip.texts(["a cat"]), out.text_embeds, rtol=1e-4, atol=1e-5)
    assert clip.images(pictures).shape == clip.images(pictures, crops=False).shape
    assert not torch.allclose(clip.images(pictures), clip.images(pictures, crops=False), atol=1e-3)


def test_texts_that_clip_does_not_read_to_their_end_are_known(clip_folder):
    clip = load_clip(clip_folder)
    assert clip.length_note("a cat", "prompt") == ""
    assert "prompt has 1,602 tokens" in clip.length_note("gold " * 400, "prompt")
    assert clip.length_note("gold " * 400, "source caption").startswith("The source caption has")


def test_clip_numbers_keep_their_identities():
    g = torch.Generator().manual_seed(1)
    e, o = (F.normalize(torch.randn(5, 16, generator=g), dim=-1) for _ in range(2))
    source, target = (F.normalize(torch.randn(16, generator=g), dim=-1) for _ in range(2))
    torch.testing.assert_close(clip_similarity(e, e[0])[0], torch.tensor(1.0))
    torch.testing.assert_close(clip_c_adjacent(e[:1].expand(4, -1)), torch.ones(3))
    torch.testing.assert_close(clip_c_adjacent(e), clip_c_adjacent(e.flip(0)).flip(0))
    torch.testing.assert_close(clip_c_direction(e, o), clip_c_direction(o, e))
    towards = clip_direction(e, o, target, source)
    torch.testing.assert_close(towards, -clip_direction(o, e, target, source))
    torch.testing.assert_close(clip_direction(target[None], source[None], target, source), torch.ones(1))
    same = torch.where(torch.arange(5)[:, None] == 2, o, e)  # the third picture was not changed
    assert clip_direction(same, o, target, source).isnan().tolist() == [False, False, True, False, False]
    assert clip_c_direction(same, o).isnan().tolist() == [False, True, True, False]
    assert clip_direction(e, o, target, target).isnan().all(), "two equal captions have no direction"


def test_clip_says_what_is_wrong_with_its_folder(tmp_path, clip_folder):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    with pytest.raises(InputError, match="clip_text_model"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    with pytest.raises(InputError, match="missing or damaged"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_clip(tmp_path)


def test_a_picture_that_slides_is_warped_back_onto_itself():
    wide = F.interpolate(torch.rand(1, 3, 8, 12), (32, 48), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)
    earlier, later = wide[:, 8:40], wide[:, 4:36]  # everything moves 4 pixels to the right
    forward = torch.tensor([4.0, 0.0]).expand(32, 32, 2)
    covered = torch.ones(32, 32, dtype=torch.bool)
    found = warp(earlier, -forward)
    torch.testing.assert_close(found[:, 4:], later[:, 4:], rtol=0, atol=1e-5)
    inner = covered.clone()
    inner[:, :4] = False  # what comes in from outside
    assert flow_warp_error(earlier, later, forward, -forward, inner) < 1e-5
    assert flow_warp_error(earlier, later, forward * 0, forward * 0, inner) > 0.01
    assert flow_warp_error(earlier, (later + 0.1), forward, -forward, inner) == pytest.approx(0.1, abs=1e-5)
    assert math.isnan(flow_warp_error(earlier, later, forward, -forward, covered & False))
    assert not bool(visible_in_both(forward, forward, covered).any()), "there and not back again is hidden"


def test_variance_counts_still_covered_pixels_only():
    region = StaticRegion()
    assert math.isnan(region.variance())
    covered = torch.ones(4, 4, dtype=torch.bool)
    covered[0] = False  # background that flickers wildly must not count
    moving = torch.zeros(4, 4, 2)
    moving[1] = 1.0  # nor a row that moves
    for value in (0.2, 0.4):
        picture = torch.full((4, 4, 3), 0.5)
        picture[0], picture[1], picture[2] = 5 * value, 3 * value, value
        region.add(picture, moving, covered)
    assert region.variance() == pytest.approx(0.01 / 2, rel=1e-4)  # one of two still rows has variance 0.1²


def test_a_clip_folder_with_pickled_weights_is_refused(clip_folder, tmp_path):
    """transformers would open them by their ending."""
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="LOS-011"):
        load_clip(folder)
    index = {"weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="DIF-103"):
        load_clip(folder)

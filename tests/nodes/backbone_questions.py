"""Asked inside ComfyUI's interpreter by test_backbone.py: the wired MODEL, CLIP and VAE as the engine's backbone."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.sd
import comfy.utils
import tiny_comfy
import torch

FRAMES, SIDE = 3, 64


def answer(pack: ModuleType) -> dict[str, Any]:
    wired = importlib.import_module(f"{pack.__name__}.nodes.comfy_backbone")
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    diffusion = importlib.import_module(f"{pack.__name__}.engine.diffusion")
    stable = importlib.import_module(f"{pack.__name__}.engine.diffusion.stable_diffusion")
    errors = importlib.import_module(f"{pack.__name__}.engine.errors")
    result: dict[str, Any] = {}
    for name, options in (
        ("instruct", {}),
        ("instruct v", {"v_prediction": True}),
        ("text", {"has_image_conditioning": False}),
    ):
        parts = tiny_comfy.tiny_checkpoint(**options)
        with torch.inference_mode(), host.node_context():
            result[name] = agreement(wired.ComfyBackbone(*parts), parts, diffusion, stable)
    with torch.inference_mode(), host.node_context():
        result["lora"] = lora(wired)
        result["fingerprints"] = fingerprints(wired)
        result["refused"] = refused(wired, errors.InputError)
        result["text"] |= long_prompts(wired)
    result["memory"] = memory(wired)
    return result


def memory(wired: ModuleType) -> list[bool]:
    """Which errors are of memory: without and with what newer versions of ComfyUI say themselves."""
    management, found = wired.model_management, list[bool]()
    known = getattr(management, "is_oom", None)
    for ask in (None, lambda error: "accelerator" in str(error)):
        management.is_oom = ask
        errors = (torch.OutOfMemoryError("out of memory"), RuntimeError("shape"), RuntimeError("accelerator"))
        found += [wired._is_out_of_memory(error) for error in errors]
    management.is_oom = known
    return found


class NoText(torch.nn.Module):
    """Stands where the text encoder would be: both backbones are given the same text states."""

    dtype = torch.float32


def twin(backbone: Any, parts: tuple[Any, Any, Any], diffusion: Any, stable: Any) -> Any:
    """The same weights in diffusers' modules."""
    import diffusers

    model, _, vae = parts
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        in_channels=8 if backbone.has_image_conditioning else 4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=tiny_comfy.TEXT_WIDTH,
        attention_head_dim=tiny_comfy.HEADS,  # which means how many
    )
    theirs = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    mine = {k: theirs[v].clone() for k, v in names.items() if v in theirs}
    missing, unexpected = unet.load_state_dict(mine, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    coder = diffusers.AutoencoderKL(
        block_out_channels=[32] * 4,
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.18215,
    )
    theirs = vae.first_stage_model.state_dict()
    # comfy's own table, read backwards: which of its names belongs to which of diffusers'
    labels = list(coder.state_dict())
    table = {k: torch.tensor([float(i)]).reshape(1, 1, 1) for i, k in enumerate(labels)}
    from comfy import diffusers_convert

    back = {
        k: labels[int(v.flatten()[0])] for k, v in diffusers_convert.convert_vae_state_dict(table).items()
    }
    shapes = coder.state_dict()
    coder.load_state_dict({back[k]: v.clone().reshape(shapes[back[k]].shape) for k, v in theirs.items()})
    return stable.StableDiffusion(
        unet,
        coder,
        NoText(),
        None,
        backbone.noise_schedule,
        name="twin",
        fingerprint="",
    )


def agreement(backbone: Any, parts: tuple[Any, Any, Any], diffusion: Any, stable: Any) -> dict[str, Any]:
    """How far both backbones are apart: network, sharing modes, encoder, its gradient, decoder."""
    other = twin(backbone, parts, diffusion, stable)
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(FRAMES, SIDE, SIDE, 3, generator=drawn)
    noisy = torch.randn(2 * FRAMES, 4, 8, 8, generator=drawn)
    text = torch.randn(2 * FRAMES, 77, tiny_comfy.TEXT_WIDTH, generator=drawn)
    condition = torch.randn(2 * FRAMES, 4, 8, 8, generator=drawn) if backbone.has_image_conditioning else None
    apart: dict[str, float] = {}
    for t in (0, 20, 500, 999):
        ours = backbone.predict(noisy, t, text, condition)
        apart[f"t{t}"] = distance(ours, other.predict(noisy, t, text, condition))
    vanilla = ours
    moved = {}
    for mode in diffusion.MODES:
        sharing = diffusion.CrossFrameAttention(mode, FRAMES, 1)
        ours = backbone.predict(noisy, 999, text, condition, sharing)
        apart[mode] = distance(ours, other.predict(noisy, 999, text, condition, sharing))
        moved[mode] = distance(ours, vanilla)
    for name, apart_by in key_views(backbone, other, diffusion, (noisy, 999, text, condition)).items():
        apart[name] = apart_by
    again = backbone.predict(noisy, 999, text, condition)
    leaf, leaf2 = images.clone().requires_grad_(), images.clone().requires_grad_()
    latents = backbone.encode(leaf, torch.Generator().manual_seed(3))
    latents2 = other.encode(leaf2, torch.Generator().manual_seed(3))
    weights = torch.randn(latents.shape, generator=drawn)
    (latents * weights).sum().backward()
    (latents2 * weights).sum().backward()
    apart["sampled latents"] = distance(latents, latents2)
    apart["gradient"] = distance(leaf.grad, leaf2.grad)
    apart["mode"] = distance(backbone.encode(images), other.encode(images))
    apart["condition"] = distance(backbone.encode_image_latents(images), other.encode_image_latents(images))
    apart["scaled"] = distance(
        backbone.encode(images), backbone.scaled(backbone.encode_image_latents(images))
    )
    apart["pictures"] = distance(backbone.decode(latents.detach()), other.decode(latents.detach()))
    edited = edits(backbone, other, diffusion) if backbone.has_image_conditioning else {}
    middle, middle2 = backbone.mid_block(), other.mid_block()
    assert middle.tensors.keys() == middle2.tensors.keys() and middle.groups == middle2.groups
    apart["middle block"] = max(
        distance(tensor.reshape(-1), middle2.tensors[name].reshape(-1))
        for name, tensor in middle.tensors.items()
    )
    with torch.inference_mode():
        theirs = parts[2].encode(images).clone()
    apart["comfy's own encode"] = distance(backbone.encode_image_latents(images), theirs)
    return {
        "apart": apart,
        "moved": moved,
        "edits": edited,
        "same afterwards": bool(torch.equal(again, vanilla)),
        "gradient length": float(leaf.grad.norm()),
        "outside inference": not any(x.is_inference() for x in (ours, latents)),
        "weights ask": any(p.grad is not None for p in parts[2].first_stage_model.parameters()),
        "weights stay": all(p.is_inference() for p in parts[2].first_stage_model.parameters()),
        "takes image": backbone.has_image_conditioning,
        "prediction": backbone.noise_schedule.prediction,
        "shape": [backbone.latent_channels, backbone.vae_scale_factor, len(backbone.noise_schedule)],
        "alphas": [float(backbone.noise_schedule.alpha(t)) for t in (0, 500, 999)],
        "name": backbone.name,
    }


def key_views(backbone: Any, other: Any, diffusion: Any, asked: tuple[Any, ...]) -> dict[str, float]:
    """How far both backbones are apart in a key pass, in that of another frame, and in views injected from it."""
    package = diffusion.__name__
    parts = importlib.import_module(f"{package}.key_views")
    epipolar = importlib.import_module(f"{package}.epipolar").Epipolar(cameras(diffusion))
    answers: list[list[torch.Tensor]] = []
    for one in (backbone, other):
        views = parts.KeyViews(FRAMES, 1, is_reference=True)
        recorded = one.predict(*asked, parts.Recording(views))
        following = parts.KeyViews(FRAMES, 1, reference=views)
        second = one.predict(asked[0] + 0.1, *asked[1:], parts.Recording(following))
        injection = parts.Injection(following, epipolar, [3, 4, 5], [0, 1, 2], (8, 8))
        answers.append([recorded, second, one.predict(*asked, injection)])
    full = backbone.predict(*asked, diffusion.CrossFrameAttention("full3d", FRAMES))
    result = {"key pass is full3d": distance(answers[0][0], full)}
    for name, ours, twins in zip(
        ("key pass", "key pass of another frame", "injected"), *answers, strict=True
    ):
        result[name] = distance(ours, twins)
    assert distance(answers[0][2], answers[0][0]) > 0.01, "injection changes nothing"
    return result


def edits(backbone: Any, other: Any, diffusion: Any) -> dict[str, float]:
    """How far the edits of both backbones are apart, by attention; the change that each makes, under "change"."""
    package = diffusion.__name__.removesuffix("diffusion") + "guidance"
    editing = importlib.import_module(f"{package}.edit")
    guidance = importlib.import_module(f"{package}.classifier_free").Guidance("make it gold", 3.0, 1.5)
    # its text encoder is a stand-in
    other.encode_text = backbone.encode_text
    small = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(small, (SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1)
    keep = torch.zeros(6, SIDE, SIDE)
    keep[:, 16:40, 16:40] = 1
    result: dict[str, float] = {}
    for mode in ("keyframe", "epipolar"):
        request = editing.EditRequest(guidance, steps=2, attention=mode, frames_at_once=2)
        placement = editing.Placement(cameras(diffusion), (0, 0, 0, 0, 1, 1))
        ours, twins = (
            editing.edit_pictures(one, images, request, placement=placement, keep=keep)
            for one in (backbone, other)
        )
        result[mode] = float((ours - twins).abs().max())
        result[f"{mode} change"] = float((ours - images).abs().mean())
    return result


def cameras(diffusion: Any) -> Any:
    """Six cameras on an arc."""
    scene = importlib.import_module(diffusion.__name__.removesuffix("diffusion") + "scene.cameras")
    up, origin = torch.tensor([0.0, -1.0, 0.0]), torch.zeros(3)
    poses = [scene.look_at(torch.tensor([i - 2.5, 0.2 * i, -4.0]), origin, up) for i in range(6)]
    K = torch.tensor([[70.0, 0, 32], [0, 70, 32], [0, 0, 1]])
    return scene.Cameras(torch.stack(poses), K.expand(6, 3, 3), ((SIDE, SIDE),) * 6, tuple("abcdef"))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def lora(wired: ModuleType) -> dict[str, Any]:
    """A LoRA-like patch on a clone of the model changes the prediction of that clone alone."""
    model, clip, vae = tiny_comfy.tiny_checkpoint()
    patched = model.clone()
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    weight = model.model.state_dict()[name]
    patched.add_patches({name: ("diff", (torch.ones(weight.shape),))}, 0.5)
    plain, changed = wired.ComfyBackbone(model, clip, vae), wired.ComfyBackbone(patched, clip, vae)
    drawn = torch.Generator().manual_seed(0)
    noisy, condition = (torch.randn(2, 4, 8, 8, generator=drawn) for _ in range(2))
    text = plain.encode_text(["gold", ""])
    first = plain.predict(noisy, 500, text, condition)
    second = changed.predict(noisy, 500, text, condition)
    third = plain.predict(noisy, 500, text, condition)
    return {
        "changes": distance(second, first),
        "comes off": bool(torch.equal(first, third)),
        "fingerprints differ": plain.fingerprint != changed.fingerprint,
        # while the patched clone is loaded its weights hold the LoRA
        "fingerprint stays": wired.ComfyBackbone(patched, clip, vae).fingerprint == changed.fingerprint,
        "plain stays": wired.ComfyBackbone(model, clip, vae).fingerprint == plain.fingerprint,
    }


def fingerprints(wired: ModuleType) -> dict[str, Any]:
    same = [wired.ComfyBackbone(*tiny_comfy.tiny_checkpoint(0)).fingerprint for _ in range(2)]
    return {
        "same": same[0] == same[1],
        "other": wired.ComfyBackbone(*tiny_comfy.tiny_checkpoint(5)).fingerprint != same[0],
    }


def long_prompts(wired: ModuleType) -> dict[str, Any]:
    """Prompts of several lengths come as one tensor; what is said twice means what is said once."""
    backbone = wired.ComfyBackbone(*tiny_comfy.tiny_checkpoint())
    short = backbone.encode_text(["make it gold", ""])
    both = backbone.encode_text(["a very long prompt " * 40, ""])
    drawn = torch.Generator().manual_seed(0)
    noisy, condition = (torch.randn(1, 4, 8, 8, generator=drawn) for _ in range(2))
    once = backbone.predict(noisy, 500, short[1:], condition)
    twice = backbone.predict(noisy, 500, both[1:], condition)
    return {
        "lengths": [short.shape[1], both.shape[1]],
        "cut": backbone.cut_short("gold " * 2500),
        "whole": backbone.cut_short("gold " * 250),
        # 29 and 30 chunks would be repeated to 870
        "longest": backbone.encode_text(["gold " * 2170, "gold " * 2240]).shape[1],
        "repeated": distance(twice, once),
        "prompts differ": distance(short[:1], short[1:]),
    }


def refused(wired: ModuleType, InputError: type[Exception]) -> dict[str, str]:
    """The sentence for each thing that cannot be used."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.model_sampling
    import comfy.supported_models

    model, clip, vae = tiny_comfy.tiny_checkpoint()

    def sdxl() -> Any:
        made = tiny_comfy.tiny_model()
        made.model.adm_channels = 2816
        made.model.model_config = comfy.supported_models.SDXL(dict(tiny_comfy.UNET))
        return made

    def flux() -> Any:
        config = type("Flux", (), {"unet_config": {"image_model": "flux"}})()
        inner = SimpleNamespace(model_config=config, diffusion_model=torch.nn.Linear(1, 1))
        return SimpleNamespace(model=inner)

    def wan() -> Any:
        shape = {"image_model": "wan2.1", "model_type": "t2v", "dim": 24, "ffn_dim": 24, "freq_dim": 8}
        shape |= {"text_dim": 8, "num_heads": 2, "num_layers": 1}
        config = comfy.supported_models.WAN21_T2V(shape)
        return comfy.model_patcher.ModelPatcher(
            comfy.model_base.WAN21(config, device="cpu"), torch.device("cpu"), torch.device("cpu")
        )

    def inpaint() -> Any:
        made = tiny_comfy.tiny_model(has_image_conditioning=False)
        made.model.diffusion_model.in_channels = 9
        return made

    def sampled_as(kind: Any, schedule: Any = comfy.model_sampling.ModelSamplingDiscrete) -> Any:
        made = tiny_comfy.tiny_model().clone()

        class Sampling(schedule, kind):
            pass

        made.add_object_patch("model_sampling", Sampling(made.model.model_config))
        return made

    class Distilled(comfy.model_sampling.EPS):
        def calculate_denoised(self, sigma: Any, output: Any, given: Any) -> Any:
            return given

    cases = {
        "no vae": (model, clip, None),
        "sdxl": (sdxl(), clip, vae),
        "flux": (flux(), clip, vae),
        "video": (wan(), clip, vae),
        "inpaint": (inpaint(), clip, vae),
        "flow": (sampled_as(comfy.model_sampling.CONST), clip, vae),
        "distilled": (sampled_as(Distilled), clip, vae),
        "edm": (sampled_as(comfy.model_sampling.EDM), clip, vae),
        "image to image": (sampled_as(comfy.model_sampling.IMG_TO_IMG), clip, vae),
        "vae": (model, clip, tiny_comfy.tiny_vae(latent_channels=16)),
        "accepted v": (sampled_as(comfy.model_sampling.V_PREDICTION), clip, vae),
        "accepted x0": (sampled_as(comfy.model_sampling.X0), clip, vae),
    }
    said: dict[str, str] = {}
    for name, parts in cases.items():
        try:
            said[name] = wired.ComfyBackbone(*parts).noise_schedule.prediction
        except InputError as error:
            said[name] = str(error)
    try:
        wired.ComfyBackbone(model, tiny_comfy.tiny_clip(width=64), vae).encode_text(["gold"])
    except InputError as error:
        said["clip"] = str(error)
    try:
        wired.ComfyBackbone(model, clip, vae).encode(torch.rand(1, 60, 64, 3))
    except InputError as error:
        said["size"] = str(error)
    return said

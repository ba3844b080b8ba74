"""Asked inside ComfyUI's interpreter by test_wired_vae.py: connected models with dynamic VRAM and LoRAs."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.sample
import dynamic_vram
import tiny_comfy
import torch

STORED = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SIDE = 64


def answer(pack: ModuleType) -> dict[str, Any]:
    wired, host, guidance = (
        importlib.import_module(f"{pack.__name__}.nodes.{name}")
        for name in ("comfy_backbone", "host", "guidance")
    )
    result: dict[str, Any] = {"rows": {}, "faults": {}}
    with dynamic_vram.dynamic_casts():
        for stored in STORED:
            for used in (False, True):
                name = f"{stored}{' used' if used else ''}"
                result["faults"][name] = through_the_layers(stored, used, host)
                for working in ("fp32", "bf16"):
                    result["rows"][f"{name} as {working}"] = row(stored, working, used, wired, host)
        result["model"] = dynamic_model(wired, host)
        result["vae lora"] = {kind: vae_lora(kind, wired, host) for kind in ("plain", "dynamic")}
        result["model lora"] = {kind: model_lora(kind, wired, host) for kind in ("plain", "dynamic")}
    result["held"] = held(wired, host, guidance)
    result["moved"] = moved(host, guidance)
    result["loaded"] = loaded(host, guidance)
    return result


def images() -> torch.Tensor:
    return torch.rand(2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))


def dynamic_vae(stored: str, working: str, slots: int = 3) -> tuple[Any, dict[str, torch.Tensor]]:
    """A VAE with a DynamicPatcher, and its stored weights by name."""
    with torch.inference_mode():
        vae = tiny_comfy.tiny_vae()
    vae.patcher = dynamic_vram.dynamic(vae.patcher, STORED[stored], STORED[working], slots)
    vae.vae_dtype = STORED[working]
    return vae, {n: p.detach().clone() for n, p in vae.first_stage_model.state_dict().items()}


def use(vae: Any) -> torch.Tensor:
    """What ComfyUI's own nodes do with a VAE."""
    with torch.inference_mode():
        return vae.decode(vae.encode(images())).float().clone()


def row(stored: str, working: str, used: bool, wired: Any, host: Any) -> dict[str, Any]:
    """Encoding, its gradient and decoding, beside the same network with ordinary weights."""
    vae, weights = dynamic_vae(stored, working)
    before = use(vae) if used else None
    truth = tiny_comfy.tiny_vae().first_stage_model
    truth.load_state_dict({n: w.float() for n, w in weights.items()})
    truth.to(STORED[working]).requires_grad_(False)
    with torch.inference_mode():
        model, clip = tiny_comfy.tiny_model(), tiny_comfy.tiny_clip()
    with torch.inference_mode(), host.node_context():
        backbone = wired.ComfyBackbone(model, clip, vae)
        leaf, leaf2 = images().requires_grad_(), images().requires_grad_()
        latents = backbone.encode(leaf)
        drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        (latents * drawn).sum().backward()
        pixels = (leaf2.permute(0, 3, 1, 2) * 2 - 1).to(STORED[working])
        latents2 = truth.quant_conv(truth.encoder(pixels)).float().chunk(2, 1)[0] * 0.18215
        (latents2 * drawn).sum().backward()
        decoded = backbone.decode(latents.detach())
        condition = backbone.encode_image_latents(images())
        decoded2 = truth.decode((latents2.detach() / 0.18215).to(STORED[working])).float() / 2 + 0.5
        backbone.release()
    after = use(vae)
    return {
        "latents": distance(latents, latents2),
        "condition": distance(condition * 0.18215, latents2),
        "gradient": distance(leaf.grad, leaf2.grad),
        "gradient length": float(leaf2.grad.norm()),
        "images": distance(decoded, decoded2.permute(0, 2, 3, 1)),
        "same afterwards": before is None or bool(torch.equal(before, after)),
        "weights stay": all(
            torch.equal(w, vae.first_stage_model.state_dict()[n]) for n, w in weights.items()
        ),
    }


def through_the_layers(stored: str, used: bool, host: Any) -> str:
    """The fault of a gradient through ComfyUI's own layers, given tensors that autograd takes: what the stand-in is for."""
    vae, weights = dynamic_vae(stored, "bf16", slots=100)
    if used:
        use(vae)
    else:
        with torch.inference_mode():
            comfy.model_management.load_models_gpu([vae.patcher])
    own = {n.removeprefix("encoder."): w for n, w in weights.items() if n.startswith("encoder.")}
    with torch.inference_mode(), host.node_context():
        pixels = (images().permute(0, 3, 1, 2) * 2 - 1).to(torch.bfloat16).requires_grad_()
        try:
            torch.func.functional_call(vae.first_stage_model.encoder, own, (pixels,)).float().sum().backward()
        except (ValueError, RuntimeError) as error:
            return str(error)
    return ""


def dynamic_model(wired: Any, host: Any) -> dict[str, float]:
    """A MODEL and a CLIP with dynamic VRAM, beside the same ones without."""
    answers = []
    for kind in ("plain", "dynamic"):
        model, clip, vae = parts(kind)
        with torch.inference_mode(), host.node_context():
            backbone = wired.ComfyBackbone(model, clip, vae)
            text = backbone.encode_text(["gold"])
            answers.append((text, backbone.predict(*asked(), text, noise(5)), backbone.fingerprint))
    (text, out, name), (text2, out2, name2) = answers
    return {"text": distance(text2, text), "prediction": distance(out2, out), "fingerprint": name == name2}


def parts(kind: str) -> tuple[Any, Any, Any]:
    model, clip, vae = tiny_comfy.tiny_checkpoint()
    if kind == "dynamic":
        model = dynamic_vram.dynamic(model, torch.float32, torch.float32)
        clip.patcher = dynamic_vram.dynamic(clip.patcher, torch.float32, torch.float32)
        vae.patcher = dynamic_vram.dynamic(vae.patcher, torch.float32, torch.float32)
    return model, clip, vae


def asked() -> tuple[torch.Tensor, int]:
    return noise(4), 999


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def vae_lora(kind: str, wired: Any, host: Any) -> dict[str, Any]:
    """A patch of the VAE in our encoding and in ComfyUI's own."""
    model, clip, vae = parts(kind)
    answers: list[tuple[torch.Tensor, torch.Tensor]] = []
    for patched in (False, True):
        if patched:
            vae.patcher = vae.patcher.clone()
            with torch.inference_mode():
                change = noise(6)[0, :3, :3, :3].repeat(32, 1, 1, 1)
            vae.patcher.add_patches({"encoder.conv_in.weight": ("diff", (change,))}, 0.2)
        with torch.inference_mode():
            theirs = vae.encode(images()).clone()
        with torch.inference_mode(), host.node_context():
            backbone = wired.ComfyBackbone(model, clip, vae)
            answers.append((backbone.encode_image_latents(images()), theirs))
    (ours, theirs), (ours2, theirs2) = answers
    return {"changes": distance(ours2, ours), "apart": max(distance(ours, theirs), distance(ours2, theirs2))}


def model_lora(kind: str, wired: Any, host: Any) -> dict[str, Any]:
    """A LoRA in our prediction and in ComfyUI's own sampling of one step from pure noise."""
    model, clip, vae = parts(kind)
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    patched = model.clone()
    weight = model.model.state_dict()[name]
    with torch.inference_mode():
        patched.add_patches({name: ("diff", (torch.ones(weight.shape),))}, 0.5)
    answers: list[tuple[torch.Tensor, torch.Tensor]] = []
    for each in (model, patched):
        with torch.inference_mode(), host.node_context():
            backbone = wired.ComfyBackbone(each, clip, vae)
            text = backbone.encode_text(["gold"])
            clean = backbone.noise_schedule.predict_x0(
                backbone.predict(*asked(), text, noise(5)), noise(4), 999
            )
        with torch.inference_mode():
            cond = [[text, {"concat_latent_image": noise(5), "concat_mask": torch.ones(1, 1, 8, 8)}]]
            theirs = comfy.sample.sample(
                each, noise(4), 1, 1.0, "euler", "normal", cond, cond, torch.zeros(1, 4, 8, 8), seed=0
            ).clone()
        answers.append((backbone.format.process_out(clean), theirs))
    (ours, theirs), (ours2, theirs2) = answers
    return {"changes": distance(ours2, ours), "apart": max(distance(ours, theirs), distance(ours2, theirs2))}


def held(wired: Any, host: Any, guidance: Any) -> dict[str, Any]:
    """The copy of the VAE's weights exists while a node uses the model, and not after it."""
    model, clip, vae = tiny_comfy.tiny_checkpoint()
    with torch.inference_mode(), host.node_context():
        value = guidance.Guidance(wired.ComfyBackbone(model, clip, vae))
        with value.in_use() as backbone:
            first = backbone.encode(images())
            inside = backbone._coder
            again = backbone.encode(images())
            same = backbone._coder is inside
        after = backbone._coder is None
    return {
        "inside": inside is not None,
        "once": same,
        "after": after,
        "equal": bool(torch.equal(first, again)),
    }


class Recorded:
    """A model that notes where it is moved; `fails`: its device is full."""

    name, megabytes = "recorded", 100

    def __init__(self, log: list[str], fails: bool) -> None:
        self.log, self.fails = log, fails

    def move(self, device: Any) -> None:
        self.log.append(f"to {device}")
        if self.fails and str(device) != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def moved(host: Any, guidance: Any) -> dict[str, Any]:
    """What happens to a model of Load Diffusion Guidance while a node uses it on a GPU."""
    result: dict[str, Any] = {}
    room = host.make_room
    for name, fails in (("fits", False), ("full", True)):
        log: list[str] = []
        host.make_room = lambda megabytes, where, log=log: log.append(f"room {megabytes} on {where}")
        value = guidance.Guidance(Recorded(log, fails), torch.device("cuda", 0))
        try:
            with host.node_context(), value.in_use(50):
                log.append("used")
        except Exception as error:
            log.append(str(error))
        finally:
            host.make_room = room
        result[name] = log
    return result


def loaded(host: Any, guidance: Any) -> dict[str, Any]:
    """Where Load Diffusion Guidance puts the bundled model that a GPU is chosen for."""
    gpu, plain = torch.device("cuda", 0), host.diffusion_device
    capability = torch.cuda.get_device_capability
    host.diffusion_device = lambda choice: gpu
    torch.cuda.get_device_capability = lambda device=None: (7, 5)
    try:
        made = guidance.LoadGuidance.execute(guidance.model_folders.EMBEDDED_MODEL, "auto", "auto")
    finally:
        host.diffusion_device, torch.cuda.get_device_capability = plain, capability
    value = made.args[0]
    weights = list(value.backbone.unet.parameters())
    return {
        "on": sorted({p.device.type for p in weights}),
        "as": sorted({str(p.dtype) for p in weights}),
        "for": str(value.device),
        "notes": made.ui[host.NOTES],
    }


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    a, b = a.detach().float(), b.detach().float()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))

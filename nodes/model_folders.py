"""Files and folders of models, as widgets list and name them; like all paths from a widget they stay inside their folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import folder_paths  # pyright: ignore[reportMissingImports]

from ..engine.errors import InputError
from ..engine.files.folders import marked_folders, walk
from ..engine.files.paths import check_names
from . import folders

# -- heads ----------------------------------------------------------------------------------------------------------

BUNDLED_HEAD = "bundled head"
HEADS = "heads"  # folder in models/gs4d


def head_models() -> list[str]:
    """The bundled head, then .npz and .pkl models in models/gs4d/heads. Region masks beside them are not models."""
    names = {
        path.relative_to(root / HEADS).as_posix()
        for root in folders.roots()[folders.MODELS]
        for path in walk(root / HEADS)
        if path.suffix.lower() in (".npz", ".pkl") and "masks" not in path.stem.lower()
    }
    return [BUNDLED_HEAD, *folders.listable(sorted(names))]


def head_model(choice: str) -> Path:
    """The path of a chosen head model; raises InputError if it is missing."""
    from ..engine.io.heads import bundled_head

    return (
        bundled_head() if choice == BUNDLED_HEAD else folders.readable(f"{folders.MODELS}/{HEADS}/{choice}")
    )


def head_motion(text: str) -> Path | None:
    """The file or folder of head parameters; None if the text is empty. "demo: …" names a bundled capture."""
    if text.strip().startswith("demo: "):
        return folders.capture(text.strip(), "")
    return folders.readable(text) if text.strip() else None


def head_cache() -> Path:
    """Where pickled head models are kept as .npz."""
    return Path(folder_paths.models_dir) / folders.MODELS / HEADS / "cache"


# -- diffusion models -----------------------------------------------------------------------------------------------

EMBEDDED_MODEL = "embedded (small)"
DIFFUSERS_MARKS = {"model_index.json", "unet/"}
# levels of folders in models/diffusers that are searched
MODEL_DEPTH = 3


def diffusion_models() -> list[str]:
    """The bundled model, then diffusers folders in models/diffusers and .safetensors in models/checkpoints."""
    names = {
        name
        for root in folder_paths.get_folder_paths("diffusers")
        for name in marked_folders(Path(root), DIFFUSERS_MARKS, MODEL_DEPTH)
    }
    found = [f"diffusers/{name}" for name in sorted(names)]
    found += [
        f"checkpoints/{name}"
        for name in folder_paths.get_filename_list("checkpoints")
        if name.lower().endswith(".safetensors")
    ]
    return [EMBEDDED_MODEL, *folders.listable(found)]


def diffusion_model(choice: str) -> Path:
    """The path of a chosen model; raises InputError if it is missing.

    Links are followed, as everywhere in ComfyUI's model folders, because models are often kept on another disk.
    """
    from ..engine.diffusion.loading import embedded

    if choice == EMBEDDED_MODEL:
        return embedded()
    word, _, name = choice.replace("\\", "/").partition("/")
    if word in ("diffusers", "checkpoints"):
        for path in _below(folder_paths.get_folder_paths(word), name):
            if (
                path.is_dir()
                if word == "diffusers"
                else path.suffix.lower() == ".safetensors" and path.is_file()
            ):
                return path
    raise InputError(
        "NOD-020",
        f"The model '{choice}' is not in models/diffusers or models/checkpoints; refresh the list and choose another.",
    )


def _below(parents: Iterable[str | Path], name: str) -> list[Path]:
    """What a name from a list may mean in each folder; nothing for a name that leads out of them."""
    check_names(name)
    steps = name.replace("\\", "/").split("/")
    if not name.strip() or ".." in steps:
        return []
    return [Path(folder, *[step for step in steps if step]) for folder in parents]


# -- segmentation models --------------------------------------------------------------------------------------------

SEGMENTATION = "segmentation"  # folder in models/gs4d
NO_DETECTOR = "none (points and boxes only)"


def segmentation_models() -> list[str]:
    """Folders of models in models/gs4d/segmentation: those with a config.json."""
    names = {
        name
        for root in folders.roots()[folders.MODELS]
        for name in marked_folders(root / SEGMENTATION, {"config.json"}, MODEL_DEPTH)
    }
    return folders.listable(sorted(names))


def segmentation_model(choice: str) -> Path:
    """The folder of a chosen model; raises InputError if it is missing. Links are followed, as for diffusion models."""
    for path in _below((root / SEGMENTATION for root in folders.roots()[folders.MODELS]), choice):
        if path.is_dir():
            return path
    raise InputError(
        "NOD-030",
        f"The model '{choice}' is not in models/{folders.MODELS}/{SEGMENTATION}; put its folder there, refresh the list "
        "and choose it.",
    )


# -- image to 3D ----------------------------------------------------------------------------------------------------

# marks of TRELLIS' folder: the published one, its ckpts, or its networks without a parent
TRELLIS_MARKS = {"ckpts/", "pipeline.json", "ss_flow_img_dit_L_16l8_fp16.json"}
OWN_DECODER = "TRELLIS (32 per voxel)"
# how the file name of GVFDiffusion's canonical VAE begins
CANONICAL_VAE = "ema_static_vae"


def trellis_models() -> list[str]:
    """Folders of TRELLIS in models/gs4d."""
    names = {
        n
        for root in folders.roots()[folders.MODELS]
        for n in marked_folders(root, TRELLIS_MARKS, MODEL_DEPTH)
    }
    return folders.listable(sorted(names))


def image_encoders() -> list[str]:
    """Folders in models/gs4d that hold DINOv2."""
    names = {
        name
        for root in folders.roots()[folders.MODELS]
        for name in marked_folders(root, {"config.json"}, MODEL_DEPTH)
        if "dino" in name.lower() and "grounding" not in name.lower()
    }
    return folders.listable(sorted(names))


def canonical_decoders() -> list[str]:
    """TRELLIS' own decoder, then files of GVFDiffusion's canonical VAE in models/gs4d."""
    names: set[str] = set()
    for root in folders.roots()[folders.MODELS]:
        for path in walk(root):
            if path.name.startswith(CANONICAL_VAE) and path.suffix in (".safetensors", ".pt"):
                # a pickle and what was made of it are one file
                names.add(path.relative_to(root).with_suffix("").as_posix())
    return [OWN_DECODER, *folders.listable(sorted(names))]


def generation_model(choice: str) -> Path:
    """The folder of a chosen model in models/gs4d; raises InputError if it is missing. Links are followed."""
    for path in _below(folders.roots()[folders.MODELS], choice):
        if path.is_dir():
            return path
    raise InputError(
        "NOD-032",
        f"'{choice}' is not in models/{folders.MODELS}; put the model's folder there, refresh the list and choose it.",
    )


def canonical_decoder(choice: str) -> Path | None:
    """The file of a chosen decoder; None for TRELLIS' own. Raises InputError if it is missing."""
    if choice == OWN_DECODER:
        return None
    for path in _below(folders.roots()[folders.MODELS], choice):
        for suffix in (".pt", ".safetensors"):
            file = path.with_name(path.name + suffix)
            if file.is_file():
                return file
    raise InputError(
        "NOD-033",
        f"The decoder '{choice}' is not in models/{folders.MODELS}; refresh the list and choose another.",
    )


# -- variation fields -----------------------------------------------------------------------------------------------

BUNDLED_VARIATION = "bundled (small)"
OWN_ENCODER = "the model's own"
VARIATION_MARKS = {"deformation_mean.pt", "deformation_mean.safetensors"}


def variation_models() -> list[str]:
    """The bundled model where this installation has one, then folders of GVFDiffusion's layout in models/gs4d."""
    from ..engine.generation.variation import BUNDLED

    names = {
        n
        for root in folders.roots()[folders.MODELS]
        for n in marked_folders(root, VARIATION_MARKS, MODEL_DEPTH)
    }
    return [*([BUNDLED_VARIATION] if BUNDLED.is_dir() else []), *folders.listable(sorted(names))]


def variation_model(choice: str) -> Path:
    """The folder of a chosen model; raises InputError if it is missing."""
    from ..engine.generation.variation import bundled_variation

    return bundled_variation() if choice == BUNDLED_VARIATION else generation_model(choice)


# -- image to 4D ----------------------------------------------------------------------------------------------------

BUNDLED_IMAGE_MODEL = "bundled (small)"
OWN_VIDEO = "the model's own"
IMAGE_MODEL_MARKS = {"ldrm.safetensors"}
# of CogVideoX's folder
VIDEO_MARKS = {"transformer/"}


def image_models() -> list[str]:
    """The bundled model where this installation has one, then folders of reconstruction models in models/gs4d."""
    from ..engine.generation.image_models import BUNDLED, LDRM

    names = {
        name
        for root in folders.roots()[folders.MODELS]
        for name in marked_folders(root, IMAGE_MODEL_MARKS, MODEL_DEPTH)
    }
    bundled = [BUNDLED_IMAGE_MODEL] if (BUNDLED / LDRM).is_file() else []
    return [*bundled, *folders.listable(sorted(names))]


def image_model(choice: str) -> Path:
    """The folder of a chosen model; raises InputError if it is missing."""
    from ..engine.generation.image_models import bundled_image_model

    return bundled_image_model() if choice == BUNDLED_IMAGE_MODEL else generation_model(choice)


def video_models() -> list[str]:
    """Folders of video transformers in models/diffusers."""
    names = {
        name
        for root in folder_paths.get_folder_paths("diffusers")
        for name in marked_folders(Path(root), VIDEO_MARKS, MODEL_DEPTH)
    }
    return folders.listable(sorted(names))


def video_model(choice: str) -> Path:
    """The folder of a chosen video model; raises InputError if it is missing. Links are followed."""
    for path in _below(folder_paths.get_folder_paths("diffusers"), choice):
        if path.is_dir():
            return path
    raise InputError(
        "NOD-061",
        f"The video model '{choice}' is not in models/diffusers; refresh the list and choose another.",
    )

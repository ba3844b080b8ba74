"""Load a model of transformers from a local folder: never from the network, never a pickle."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..backends import require
from ..errors import InputError
from ..files.folders import visible
from ..files.jsonfile import read_json
from ..files.weights import check_folder, read_header

# the first release with SAM 2
TRANSFORMERS = "4.56"
SEGMENTATION = "models/gs4d/segmentation"

_Loaded = TypeVar("_Loaded")


def class_of(name: str) -> Any:
    """A class of transformers. Raises InputError where transformers is missing, too old or cannot import it."""
    require("transformers")
    import transformers

    try:
        return getattr(transformers, name)
    except (ImportError, AttributeError, RuntimeError) as error:
        line = (str(error).strip().splitlines() or ["not found"])[0][:120]
        raise InputError(
            "MSK-010",
            f"transformers {transformers.__version__} cannot provide {name} ({line}); install {TRANSFORMERS} or later: "
            f"pip install -U 'transformers>={TRANSFORMERS}'.",
        ) from error


class ModelFolder:
    """A folder of one model, as `save_pretrained` writes it.

    Args:
        path: The folder.
        kinds: Accepted `model_type` values of its config.json.
        what: Name of the model in errors, such as "Grounding DINO".
        place: Where such folders belong, in errors.

    Raises:
        InputError: It is not a folder of such a model, or has no .safetensors.
    """

    def __init__(
        self, path: Path | str, kinds: tuple[str, ...], what: str, place: str = SEGMENTATION
    ) -> None:
        self.path, self.what = Path(path).expanduser(), what
        if not (self.path / "config.json").is_file():
            raise InputError(
                "MSK-011",
                f"{self.path.name} does not contain a {what} model; put the whole folder of the checkpoint (config.json, "
                f"*.safetensors, …) into {place}.",
            )
        self.kind = str(self.read("config.json").get("model_type"))
        if self.kind not in kinds:
            raise InputError(
                "MSK-012",
                f"{self.path.name} is a model of type '{self.kind}', not {what}; choose another folder.",
            )
        self.files = [file for file in visible(self.path, "*.safetensors") if file.is_file()]
        if not self.files:
            raise InputError(
                "MSK-013",
                f"{self.path.name} has no .safetensors file; download the checkpoint's model.safetensors. Pickled weights "
                "(.bin, .pt) are not loaded, because they can run code.",
            )
        check_folder(self.path)
        # a download that broke off is found before anything runs
        for file in self.files:
            read_header(file)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def megabytes(self) -> int:
        """Size of the weights."""
        return sum(file.stat().st_size for file in self.files) >> 20

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; empty where it does not exist."""
        path = self.path / name
        return read_json(path, f"{self.name}/{name}") if path.is_file() else {}

    def image_settings(self) -> dict[str, Any]:
        """The settings for input images (preprocessor_config.json, or the processor's own file)."""
        found = self.read("preprocessor_config.json") or self.read("processor_config.json").get(
            "image_processor"
        )
        return found if isinstance(found, dict) else {}

    def load(self, class_name: str, **options: Any) -> Any:
        """The model in eval mode on the CPU, in full precision; `options` replace values of its config.

        Raises:
            InputError: transformers cannot load it, or weights are missing.
        """
        kind = class_of(class_name)
        with _quiet():
            model, report = self.explained(
                lambda: kind.from_pretrained(
                    str(self.path),
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                    **options,
                )
            )
        if missing := sorted(report.get("missing_keys", ())):
            raise InputError(
                "MSK-014",
                f"{self.name} lacks {len(missing)} weights of {class_name} (such as {missing[0]}); download the complete "
                "checkpoint.",
            )
        return model.eval().requires_grad_(False)

    def explained(self, build: Callable[[], _Loaded]) -> _Loaded:
        """Call `build`; an exception of transformers becomes an InputError with its first line."""
        try:
            return build()
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(
                "MSK-015", f"{self.name} cannot be loaded as {self.what} ({line}); download it again."
            ) from error


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Inside, transformers does not warn: the image model reads the video model's folder, which it finds unusual."""
    from transformers.utils import logging

    before, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shows:
            logging.enable_progress_bar()


@contextmanager
def on_device(model: Any, device: torch.device) -> Generator[Any, None, None]:
    """Inside, the model is on the device; afterwards it is back on the CPU, so that the next one has room."""
    try:
        yield model.to(device)
    finally:
        model.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()

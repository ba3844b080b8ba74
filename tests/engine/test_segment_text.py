"""Masks by text, with random weights: what is found, in which order, followed through which frames, and what is refused."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.cli import main
from engine.errors import InputError
from engine.io.image_files import load_images
from engine.io.view_folder import save_views
from engine.masks.detector import Found, TextDetector
from engine.masks.edges import feathered
from engine.masks.grounded import Segmentation
from engine.masks.prompts import ImagePrompts, phrases_of, prompts_of
from engine.messages import Finished, Preview, result
from engine.models.transformers_folder import class_of
from engine.scene import ViewSet
from engine.steps import scene_views, segment_text
from engine.steps.segment_text import Config
from engine.train.targets import composite
from tests.scenes import capture_of, moving_scene
from tests.tiny_segmentation import SIDE, save_detector, save_segmenter

CPU = torch.device("cpu")
TEXT = "left eye. mouth"
BOX = ImagePrompts(torch.tensor([[5.0, 6, 30, 30]]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("segmentation")
    # with this seed, the untrained tracker keeps seeing its objects
    return save_segmenter(root / "sam", seed=2), save_detector(root / "dino")


@pytest.fixture(scope="module")
def models(folders: tuple[Path, Path]) -> Segmentation:
    return Segmentation(*folders)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 40, 56, 3, generator=torch.Generator().manual_seed(0))


def segmented(models: Segmentation, images: Tensor, **settings: Any) -> segment_text.TextMasks:
    return result(segment_text.run(models, images=images, config=Config(**settings)))


def detector_of(models: Segmentation) -> TextDetector:
    assert models.detector is not None
    return models.detector


def test_boxes_are_those_of_transformers_own_processor(models: Segmentation) -> None:
    import transformers

    detector, phrases = detector_of(models), ("left eye", "mouth")
    folder = str(detector.folder.path)
    # before transformers 5, the one without torchvision had the plain name
    plain = transformers.GroundingDinoImageProcessor
    image_processor = getattr(transformers, "GroundingDinoImageProcessorPil", plain).from_pretrained(folder)
    processor = transformers.GroundingDinoProcessor(
        image_processor, transformers.AutoTokenizer.from_pretrained(folder)
    )
    for height, width in ((40, 56), (300, 200), (30, 90), (64, 64)):
        noise = torch.rand(height, width, 3)
        prepared = image_processor(images=noise.numpy(), do_rescale=False, return_tensors="pt").pixel_values
        assert tuple(prepared.shape[-2:]) == detector.size_of(noise)[::-1]
    # at the model's own size, so that nothing is resampled
    picture = torch.randint(
        0, 256, (64, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    with detector.on(CPU):
        found = detector.detect(picture.float() / 255, phrases, 0.3, 0.0)
        inputs = processor(images=picture.numpy(), text="left eye. mouth.", return_tensors="pt")
        with torch.no_grad():
            output = detector._model(**inputs)
    theirs = processor.post_process_grounded_object_detection(
        output, inputs.input_ids, threshold=0.3, target_sizes=[(64, 90)]
    )[0]
    order = theirs["scores"].argsort(descending=True, stable=True)
    assert len(found) == len(order) > 0
    torch.testing.assert_close(found.scores, theirs["scores"][order], atol=1e-5, rtol=0)
    limit = torch.tensor([90.0, 64, 90, 64])
    boxes = theirs["boxes"][order].clamp(min=0).minimum(limit)
    torch.testing.assert_close(found.boxes, boxes, atol=1e-3, rtol=0)


def test_thresholds_drop_boxes(models: Segmentation, images: Tensor) -> None:
    with detector_of(models).on(CPU):
        every = detector_of(models).detect(images[0], ("left eye", "mouth"), 0.0, 0.0)
        middle = float(every.scores.median())
        fewer = detector_of(models).detect(images[0], ("left eye", "mouth"), middle, 0.0)
        none = detector_of(models).detect(images[0], ("left eye", "mouth"), 0.0, 1.0)
    assert 0 < len(fewer) < len(every) == 12 and not len(none)
    assert float(fewer.scores.min()) > middle and torch.equal(fewer.boxes, every.boxes[: len(fewer)])
    assert set(every.phrases) <= {0, 1}


def test_one_box_per_phrase_is_the_largest_or_the_best() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 9, 9], [1, 1, 5, 5]])
    found = Found(boxes, torch.tensor([0.9, 0.8, 0.7]), (0, 0, 1))
    assert found.chosen("union") is found
    assert torch.equal(found.chosen("best").boxes, boxes[[0, 2]])
    assert torch.equal(found.chosen("largest").boxes, boxes[[1, 2]])


def test_a_boxs_mask_is_that_of_the_image_model(models: Segmentation, images: Tensor) -> None:
    """The documented call with a box and an excluding point, against corner points on shared embeddings."""
    scale = torch.tensor([SIDE / 56, SIDE / 40])
    outside = torch.tensor([[40.0, 10]])
    square = torch.nn.functional.interpolate(
        images[:1].permute(0, 3, 1, 2), (SIDE, SIDE), mode="bilinear", antialias=True
    )
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (square - mean[:, None, None]) / deviation[:, None, None]
    for given in (BOX, ImagePrompts(BOX.boxes, outside=outside)):
        with models.segmenter.on(CPU, is_video=False):
            mask = models.segmenter.masks(images[0], given)
            points = (given.outside * scale)[None, None] if len(given.outside) else None
            with torch.no_grad():
                low = models.segmenter._model(
                    pixel_values=pixels,
                    input_boxes=(given.boxes.reshape(2, 2) * scale).reshape(1, 1, 4),
                    input_points=points,
                    input_labels=None if points is None else torch.zeros(1, 1, 1, dtype=torch.int),
                    multimask_output=False,
                ).pred_masks[0]
        wanted = torch.nn.functional.interpolate(low, (40, 56), mode="bilinear")[0, 0] > 0
        assert 0.1 < float(wanted.float().mean()) < 0.9
        # releases before 5 leave out the padding point that SAM 2 has after a box
        assert float((mask.bool() != wanted).float().mean()) < 0.015


def test_points_change_masks_and_excluding_ones_act_on_every_object(
    models: Segmentation, images: Tensor
) -> None:
    inside, outside = torch.tensor([[20.0, 20]]), torch.tensor([[45.0, 30]])
    with models.segmenter.on(CPU, is_video=False):
        masks = [
            models.segmenter.masks(images[0], prompts)
            for prompts in (
                BOX,
                ImagePrompts(BOX.boxes, outside=outside),
                ImagePrompts(inside=inside),
                ImagePrompts(BOX.boxes, inside),
                ImagePrompts(outside=outside),
            )
        ]
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks[3], torch.maximum(masks[0], masks[2]))
    assert not bool(masks[4].any()), "there is no object to exclude from"


def test_tracking_is_that_of_the_video_models_own_loop(models: Segmentation, images: Tensor) -> None:
    import transformers

    from engine.masks.detector import prepared

    with models.segmenter.on(CPU, is_video=True):
        tracked = dict(models.segmenter.track(lambda i: images[i], len(images), 1, BOX))
        video = torch.cat([prepared(image, (SIDE, SIDE)) for image in images])
        session = transformers.Sam2VideoInferenceSession(
            video=video, video_height=40, video_width=56, dtype=torch.float32
        )
        scale = torch.tensor([SIDE / 56, SIDE / 40])
        corners = {
            "point_coords": (BOX.boxes.reshape(2, 2) * scale)[None, None],
            "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32),
        }
        session.add_point_inputs(session.obj_id_to_idx(0), 1, corners)
        session.obj_with_new_inputs = [0]
        model, wanted = models.segmenter._model, {}
        with torch.no_grad():
            for reverse in (False, True):
                for output in model.propagate_in_video_iterator(session, 1, reverse=reverse):
                    low = output.pred_masks
                    wanted[output.frame_idx] = (
                        torch.nn.functional.interpolate(low, (40, 56), mode="bilinear")[0, 0] > 0
                    ).float()
    assert sorted(tracked) == sorted(wanted) == [0, 1, 2, 3]
    for i, mask in tracked.items():
        assert 0 < float(mask.mean()) < 1
        assert torch.equal(mask, wanted[i])


def test_masks_have_the_order_of_the_images(models: Segmentation, images: Tensor) -> None:
    messages = list(segment_text.run(models, images=images, config=Config(TEXT)))
    assert any(isinstance(message, Preview) for message in messages)
    done = messages[-1]
    assert isinstance(done, Finished)
    masks = done.value.masks
    assert masks.shape == (4, 40, 56) and done.value.overlay.shape == (4, 40, 56, 3)
    assert all(not torch.equal(masks[0], masks[i]) for i in (1, 2, 3))
    turned = segmented(models, images.flip(0), prompt=TEXT)
    assert torch.equal(turned.masks, masks.flip(0))


def test_propagation_searches_until_something_is_found(
    models: Segmentation, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in the second frame alone, and followed from there to both ends."""
    looked: list[int] = []

    def detect(image: Tensor, *_: Any) -> Found:
        looked.append(next(i for i in range(4) if torch.equal(images[i], image)))
        return Found(BOX.boxes, torch.ones(1), (0,)) if looked[-1] == 1 else Found()

    monkeypatch.setattr(detector_of(models), "detect", detect)
    made = segmented(models, images, prompt="mouth", mode="propagate through frames")
    assert looked == [0, 1] and all(bool(mask.any()) for mask in made.masks)
    assert "mouth: found in 1 of 2 searched images" in made.note
    looked.clear()
    alone = segmented(models, images, prompt="mouth")
    assert looked == [0, 1, 2, 3] and [bool(mask.any()) for mask in alone.masks] == [
        False,
        True,
        False,
        False,
    ]
    assert "nothing found in images 0, 2, 3" in alone.note
    assert torch.equal(made.masks[1], segmented(models, images[1:2], boxes="5 6 30 30").masks[0])


def test_cameras_are_followed_apart_and_in_the_order_of_time(
    models: Segmentation, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = moving_scene(count=20, views=2, moments=2)
    views = result(scene_views.run(scene, scene_views.Config(moments="all", rasterizer="torch")))
    tracks: list[list[int]] = []

    def track(frame: Any, count: int, start: int, prompts: ImagePrompts) -> Any:
        tracks.append([next(i for i in range(4) if torch.equal(frame(k), given[i])) for k in range(count)])
        yield from ((k, torch.ones(given.shape[1:3])) for k in range(count))

    given = views.images
    monkeypatch.setattr(models.segmenter, "track", track)
    config = Config(boxes="0: 1 1 9 9; 3: 1 1 9 9", mode="propagate through frames")
    made = result(segment_text.run(models, views, config=config))
    assert isinstance(views, ViewSet) and views.views == (0, 1, 0, 1)
    assert len(made.masks) == 4 and bool((made.masks == 1).all())
    assert tracks == [[0, 2], [1, 3]]


def test_a_capture_is_segmented_frame_by_frame(models: Segmentation) -> None:
    capture = capture_of(moving_scene(count=20, views=3, moments=2))
    config = Config("mouth", view_numbers="0 2", frame_numbers="all")
    made = result(segment_text.run(models, video=capture, config=config))
    frame = composite(capture.source.read(2, 1), torch.zeros(3)).image
    alone = segmented(models, frame[None], prompt="mouth")
    assert len(made.masks) == 4 and torch.equal(made.masks[3], alone.masks[0])


def test_grow_and_feather_shape_the_edge(models: Segmentation, images: Tensor) -> None:
    plain = segmented(models, images[:1], boxes="5 6 30 30").masks
    grown = segmented(models, images[:1], boxes="5 6 30 30", grow=2).masks
    soft = segmented(models, images[:1], boxes="5 6 30 30", feather=4).masks
    assert bool((grown >= plain).all()) and float(grown.sum()) > float(plain.sum())
    assert bool(((soft > 0) & (soft < 1)).any()) and float(soft.max()) <= 1
    edge = torch.zeros(1, 8, 16)
    edge[..., 8:] = 1
    assert feathered(edge, 4)[0, 4].tolist() == pytest.approx([0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)


def test_texts_points_and_boxes_are_read() -> None:
    assert phrases_of("左眼。嘴，\u0641\u0645، mouth") == ("左眼", "嘴", "\u0641\u0645", "mouth")
    assert phrases_of(" Left  Eye. mouth, teeth\nmouth. ") == ("left eye", "mouth", "teeth")
    found = prompts_of("12 8; -4,5; 2: 7.5 9", "2: 1 2 30 20", 3, (56, 40))
    assert found[0].inside.tolist() == [[12, 8]] and found[0].outside.tolist() == [[4, 5]]
    assert found[2].inside.tolist() == [[7.5, 9]] and found[2].boxes.tolist() == [[1, 2, 30, 20]]
    assert len(found[0]) == 1 and len(found[2]) == 2


@pytest.mark.parametrize(
    ("points", "boxes", "says"),
    [
        ("12", "", "cannot be read"),
        ("", "30 2 10 20", "cannot be read"),
        ("5: 1 2", "", "there are 3"),
        ("80 2", "", "outside the images of 56×40"),
    ],
)
def test_wrong_points_and_boxes_are_named(points: str, boxes: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        prompts_of(points, boxes, 3, (56, 40))


def test_what_cannot_be_segmented_is_said(
    models: Segmentation, folders: tuple[Path, Path], images: Tensor
) -> None:
    with pytest.raises(InputError, match="nothing to segment"):
        segmented(models, images, points="-4 5")
    with pytest.raises(
        InputError, match="'mouth' was not found in any of the 4 images; lower the box thresh"
    ):
        segmented(models, images, prompt="mouth", box_threshold=1.0)
    with pytest.raises(InputError, match="no Grounding DINO model"):
        segmented(Segmentation(folders[0]), images, prompt="mouth")
    with pytest.raises(InputError, match="not know any word of '左眼'; it reads English"):
        segmented(models, images, prompt="mouth. 左眼")
    with pytest.raises(InputError, match="use fewer phrases"):
        segmented(models, images, prompt=". ".join(f"red ball {i}" for i in range(20)))
    with pytest.raises(InputError, match="connect views, images or a multi-view video"):
        result(segment_text.run(models, config=Config("mouth")))


def test_folders_that_are_not_the_model_are_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    sam, dino = folders
    with pytest.raises(InputError, match="does not contain a SAM 2 model; put the whole folder"):
        Segmentation(tmp_path)
    with pytest.raises(InputError, match="type 'grounding-dino', not SAM 2"):
        Segmentation(dino)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(sam / "config.json", bare)
    (bare / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"no \.safetensors file"):
        Segmentation(bare)
    with pytest.raises(InputError, match=r"cannot provide Sam9Model .*pip install -U 'transformers>="):
        class_of("Sam9Model")


def test_an_image_model_alone_does_not_follow_objects(
    folders: tuple[Path, Path], tmp_path: Path, images: Tensor
) -> None:
    copy = shutil.copytree(folders[0], tmp_path / "sam")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "sam2"}))
    models = Segmentation(copy)
    assert segmented(models, images[:1], boxes="5 6 30 30").masks.any()
    with pytest.raises(InputError, match="cannot follow objects through frames; set mode to 'every image'"):
        segmented(models, images, boxes="5 6 30 30", mode="propagate through frames")


def test_an_incomplete_checkpoint_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, images: Tensor
) -> None:
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folders[0], tmp_path / "sam")
    weights = load_file(copy / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "mask_decoder.iou_token" not in k}, copy / "model.safetensors"
    )
    with pytest.raises(InputError, match="lacks 1 weights of Sam2Model"):
        segmented(Segmentation(copy), images, boxes="5 6 30 30")
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"not a \.safetensors file or was cut off"):
        Segmentation(copy)


def test_models_load_without_a_network_and_rest_after_a_cancel(
    folders: tuple[Path, Path], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    models = Segmentation(*folders)
    stream = segment_text.run(models, images=images, config=Config("mouth"))
    for message in stream:
        if getattr(message, "done", 0) > len(images):
            break
    assert models.segmenter._model is not None
    stream.close()
    assert models.segmenter._model is None


def test_the_verb_writes_masks_of_views(folders: tuple[Path, Path], tmp_path: Path) -> None:
    scene = moving_scene(count=20, views=2, moments=1)
    views = result(scene_views.run(scene, scene_views.Config(rasterizer="torch")))
    save_views(views, tmp_path / "views")
    sam, dino = (str(folder) for folder in folders)
    arguments = ["segment", "--segmenter", sam, "--detector", dino, "--views", str(tmp_path / "views")]
    assert main([*arguments, "--prompt", "mouth", "--out", str(tmp_path / "masks"), "--json"]) == 0
    # a model of random weights may mask everything, which load_masks refuses
    masks = load_images(tmp_path / "masks")[..., 0]
    assert masks.shape == views.images.shape[:3] and float(masks.sum()) > 0


def test_the_image_size_comes_from_the_folder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders[1], tmp_path / "dino")
    assert detector_of(Segmentation(*folders)).shortest == 64
    (copy / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 480}}))
    assert detector_of(Segmentation(folders[0], copy)).shortest == 480
    (copy / "preprocessor_config.json").unlink()
    assert detector_of(Segmentation(folders[0], copy)).shortest == 800

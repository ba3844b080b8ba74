"""Views on sheets and back: exact to the bit, with cameras that follow, and refused where an editor cropped a sheet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.cli import main
from engine.diffusion.editor_sizes import KONTEXT_SIZES, qwen_sizes
from engine.errors import InputError
from engine.io.scene_file import save_scene
from engine.io.view_folder import load_views, save_views
from engine.messages import result
from engine.scene import ViewSet
from engine.steps import scene_views, sheet_to_views, views_to_sheet
from engine.steps.views_to_sheet import Config
from tests.edit_scenes import field_scene
from tests.scenes import moving_scene, ring


@pytest.fixture(scope="module")
def views() -> ViewSet:
    """Seven views of 37×29."""
    scene = moving_scene().with_(rig=ring(8, size=(37, 29)))
    return result(scene_views.run(scene, scene_views.Config(views="0-6", rasterizer="torch")))


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (1, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("more", [{}, {"size_for": "multiple of 64"}, {"size_for": "multiple of 8"}])
def test_a_sheet_comes_back_to_the_bit(views: ViewSet, rows: int, columns: int, more: dict[str, Any]) -> None:
    laid_out = views_to_sheet.run(views, Config(rows=rows, columns=columns, **more))
    sheets = views_to_sheet.sheets(laid_out)
    assert len(sheets) == -(-len(views) // (rows * columns))
    back = sheet_to_views.run(laid_out, sheets)
    assert torch.equal(back.images, views.images) and torch.equal(back.originals, views.originals)
    assert torch.equal(back.cameras.K, views.cameras.K) and back.views == views.views
    if more:
        multiple = int(more["size_for"].split()[-1])
        assert sheets.shape[1] % multiple == sheets.shape[2] % multiple == 0


@pytest.mark.parametrize("size_for", ["Flux Kontext", "Qwen-Image-Edit", "as rendered"])
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (2, 4)])
def test_scaled_views_come_back_to_the_bit_with_cameras_that_follow(
    views: ViewSet, size_for: str, rows: int, columns: int
) -> None:
    resolution = 200 if size_for == "as rendered" else 0
    laid_out = views_to_sheet.run(views, Config(rows, columns, size_for, resolution))
    sheets = views_to_sheet.sheets(laid_out)
    size = (sheets.shape[2], sheets.shape[1])
    taken = {"Flux Kontext": KONTEXT_SIZES, "Qwen-Image-Edit": qwen_sizes()}.get(size_for)
    assert size in taken if taken else abs(max(size) - 200) <= max(rows, columns)
    back = sheet_to_views.run(laid_out, sheets)
    assert torch.equal(back.images, laid_out.images) and back.size == laid_out.size
    points = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.6
    scale = torch.tensor([back.size[0] / views.size[0], back.size[1] / views.size[1]])
    # one scale in both directions, to within half a pixel at the edges
    assert float((scale[0] - scale[1]).abs()) * max(views.size) / 2 < 0.5
    for view in range(len(views)):
        before, _ = views.cameras.project(points, view)
        after, _ = back.cameras.project(points, view)
        assert torch.allclose(before * scale, after, atol=1e-4)


def test_places_are_row_by_row_and_padding_is_said(views: ViewSet) -> None:
    laid_out = views_to_sheet.run(views, Config(rows=2, columns=2, size_for="multiple of 64"))
    sheets = views_to_sheet.sheets(laid_out)
    assert tuple(sheets.shape) == (2, 64, 128, 3)
    assert torch.equal(sheets[0, 1:30, 13:50], views.images[0])
    assert torch.equal(sheets[0, 1:30, 77:114], views.images[1])
    assert torch.equal(sheets[1, 33:62, 13:50], views.images[6])
    assert bool((sheets[1, 32:, 64:] == 0.5).all())
    said = views_to_sheet.summary(laid_out)
    assert "7 views on 2 sheets of 128×64, 2 rows of 2" in said
    assert "47.6% of a full sheet is padding" in said and "1 cell of the last sheet have no view" not in said
    assert "1 cell of the last sheet has no view (gray)" in said


def test_a_sheet_of_another_size_is_scaled_as_a_whole(views: ViewSet) -> None:
    laid_out = views_to_sheet.run(views, Config(rows=2, columns=4))
    (sheet,) = views_to_sheet.sheets(laid_out)
    doubled = sheet.repeat_interleave(2, 0).repeat_interleave(2, 1)[None]
    back = sheet_to_views.run(laid_out, doubled)
    assert torch.allclose(back.images, views.images, atol=1e-6)
    assert "of 296×116, scaled to 148×58" in sheet_to_views.summary(back)


@pytest.mark.parametrize(
    ("shape", "code", "said"),
    [
        ((2, 60, 74, 3), "STP-113", "1.2 pixels apart. Give sheets of 77×60 or 74×58"),
        ((1, 58, 74, 3), "STP-112", "1 images of 74×58 were given, but the 7 views are on 2 sheets of 74×58"),
        ((2, 74, 58, 3), "STP-113", "'size for' of Views to Sheet"),
    ],
)
def test_cropped_and_missing_sheets_are_refused(
    views: ViewSet, shape: tuple[int, ...], code: str, said: str
) -> None:
    laid_out = views_to_sheet.run(views, Config(rows=2, columns=2))
    with pytest.raises(InputError) as refused:
        sheet_to_views.run(laid_out, torch.zeros(shape))
    assert refused.value.code == code and said in str(refused.value)


def test_views_that_are_on_no_sheet_and_sheets_without_end_are_refused(views: ViewSet) -> None:
    with pytest.raises(InputError, match="were not put on a sheet"):
        sheet_to_views.run(views, torch.zeros(2, 58, 74, 3))
    large = replace(views.cameras, sizes=((3000, 2400),) * 7)
    huge = replace(
        views, images=torch.zeros(7, 1, 1, 1).expand(7, 2400, 3000, 3), cameras=large,
        originals=torch.zeros(7, 1, 1, 1).expand(7, 2400, 3000, 3), alphas=None,
    )  # fmt: skip
    with pytest.raises(InputError, match="at most 16384 pixels per side"):
        views_to_sheet.run(huge, Config(rows=8, columns=8))


def test_the_layout_is_kept_in_the_folder_of_views(views: ViewSet, tmp_path: Path) -> None:
    laid_out = views_to_sheet.run(views, Config(rows=2, columns=2, size_for="multiple of 16"))
    save_views(laid_out, tmp_path / "views")
    assert load_views(tmp_path / "views").sheet == laid_out.sheet
    index = tmp_path / "views" / "views.json"
    index.write_text(index.read_text().replace('"count": 7', '"count": 6'))
    with pytest.raises(InputError) as refused:
        load_views(tmp_path / "views")
    assert refused.value.code == "IO-091"
    save_views(views, tmp_path / "plain")
    assert (
        load_views(tmp_path / "plain").sheet is None
        and '"sheet"' not in (tmp_path / "plain" / "views.json").read_text()
    )


def test_the_verbs_go_round(tmp_path: Path) -> None:
    save_scene(field_scene(), tmp_path / "scene.safetensors")
    shared = ["--json"]
    views, laid_out, sheets, back = (str(tmp_path / name) for name in ("views", "laid", "sheets", "back"))
    scene_file = str(tmp_path / "scene.safetensors")
    assert (
        main(["scene-views", "--scene", scene_file, "--out", views, "--size-for", "multiple of 16", *shared])
        == 0
    )
    flags = ["--rows", "3", "--columns", "3", "--sheets-out", sheets]
    assert main(["views-to-sheet", "--views", views, "--out", laid_out, *flags, *shared]) == 0
    assert main(["sheet-to-views", "--views", laid_out, "--sheets", sheets, "--out", back, *shared]) == 0
    assert torch.equal(load_views(back).images, load_views(views).images)

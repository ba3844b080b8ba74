"""The pre-flight check finds what was made wrong, and nothing in what is right."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.capture import inspection
from engine.capture.inspection import camera_spread
from engine.errors import InputError
from engine.figures.contact_sheets import GAP, MARGIN
from engine.messages import Finished, Preview, Progress, Started, result
from engine.scene.cameras import Cameras, look_at
from engine.scene.video import Frame, MultiViewVideo
from engine.steps import preflight
from engine.steps.preflight import Config, Report
from tests.scenes import capture_of, moving_scene

SIZE = (96, 64)


class Painted:
    """Frames made in code: a disc on gray, with each view's gain."""

    def __init__(
        self, gains: list[float], drift: float = 0.0, broken: int | None = None, mask: int = -1
    ) -> None:
        self.gains, self.drift, self.broken, self.mask = gains, drift, broken, mask

    def read(self, view: int, moment: int) -> Frame:
        if view == self.broken:
            raise InputError("CAP-001", "cam.mp4 is damaged.")
        y, x = torch.meshgrid(torch.arange(SIZE[1]), torch.arange(SIZE[0]), indexing="ij")
        disc = (x - 48) ** 2 + (y - 32) ** 2 < 18**2
        light = torch.where(disc, 0.35, 0.12) * self.gains[view] * (1 + self.drift * moment)
        image = (
            (255 * light.clamp(0, 1) ** (1 / 2.2)).to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()
        )
        mask = (
            None
            if self.mask < 0
            else (disc * 255).to(torch.uint8)
            if self.mask
            else torch.zeros_like(image[..., 0])
        )
        return Frame(image, mask)

    def fingerprint(self) -> str:
        return "painted"


def ring(count: int, arc: float = 6.28, aim: float = 0.0) -> Cameras:
    poses = []
    for i in range(count):
        angle = torch.tensor(arc * i / count)
        position = torch.stack([4 * angle.cos(), 4 * angle.sin(), torch.tensor(0.8)])
        target = position * (1 + aim) if aim else torch.zeros(3)
        poses.append(look_at(position, target, torch.tensor([0.0, 0.0, 1.0])))
    K = torch.tensor([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]], dtype=torch.float64).repeat(count, 1, 1)
    return Cameras(torch.stack(poses), K, (SIZE,) * count, tuple(f"cam{i:02d}" for i in range(count)))


def video(
    count: int = 8, source: Painted | None = None, rig: Cameras | None = None, moments: int = 5
) -> MultiViewVideo:
    return MultiViewVideo(
        "capture",
        rig or ring(count),
        torch.arange(moments, dtype=torch.float64) / 30,
        torch.ones(count, moments, dtype=torch.bool),
        source or Painted([1.0] * count),
        fps=30.0,
        test_views=(0,),
        near=1.0,
        far=8.0,
        layout="folder",
    )


def report(of: MultiViewVideo, config: Config | None = None) -> Report:
    return result(preflight.run(of, config))


def found(made: Report, subject: str) -> str:
    rows = [row for row in made.rows if row.subject == subject]
    assert rows, made.text()
    return max(rows, key=lambda r: preflight.SEVERITIES.index(r.severity)).severity


def test_a_good_capture_has_no_complaints() -> None:
    made = report(video())
    assert made.can_train and made.severity == "ok", made.text()
    assert (made.views, made.moments) == (8, 5)
    data = json.loads(json.dumps(made.to_json()))
    assert data["can_train"] is True and len(data["rows"]) == len(made.rows)
    assert "Ready to train" in made.text()


def test_the_stream_starts_counts_shows_and_ends() -> None:
    messages = list(preflight.run(video()))
    assert isinstance(messages[0], Started) and isinstance(messages[-1], Finished)
    assert [m.done for m in messages if isinstance(m, Progress)] == list(range(1, 9))
    (preview,) = [m for m in messages if isinstance(m, Preview)]
    assert preview.image.ndim == 3 and preview.image.dtype == torch.float32
    assert 0 <= float(preview.image.min()) and float(preview.image.max()) <= 1
    columns = preview.image.shape[1] // (160 + GAP)
    rows = preview.image[MARGIN:-GAP].split((preview.image.shape[0] - MARGIN - GAP) // -(-8 // columns))
    tiles = [row[:, MARGIN + i * (160 + GAP) :][:, :160] for row in rows for i in range(columns)]
    assert sum(float(tile.std()) > 0.05 for tile in tiles) == 8, "every view has a tile"


def test_one_still_camera_cannot_be_trained() -> None:
    made = report(video(1))
    assert not made.can_train and found(made, "views") == "error"
    assert "Fix the errors before training" in made.text()


def test_a_moving_camera_is_fine() -> None:
    moving = replace(video(30, moments=30), available=torch.eye(30, dtype=torch.bool))
    made = report(moving)
    assert made.can_train and found(made, "views") == "note"


@pytest.mark.parametrize("gain", [0.6, 1.7])
def test_an_exposure_that_differs_is_named(gain: float) -> None:
    gains = [1.0] * 8
    gains[3] = gain
    made = report(video(source=Painted(gains)))
    row = next(r for r in made.rows if r.subject == "exposure" and r.severity == "warning")
    assert "cam03" in row.finding and ("brighter" if gain > 1 else "darker") in row.finding
    assert found(report(video(source=Painted([1.0, 1.05] * 4))), "exposure") == "ok"


def test_light_that_changes_over_time_is_noted() -> None:
    assert found(report(video(source=Painted([1.0] * 8, drift=0.2))), "exposure") == "note"


def test_a_blank_picture_is_named() -> None:
    made = report(video(source=Painted([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])))
    assert any("cam02" in r.finding and "blank" in r.finding for r in made.rows)


def test_a_damaged_file_is_an_error_and_the_rest_is_still_checked() -> None:
    made = report(video(source=Painted([1.0] * 8, broken=2)))
    assert not made.can_train and found(made, "files") == "error"
    assert found(made, "camera spread") == "ok"


def test_cameras_that_look_away_from_each_other() -> None:
    assert found(report(video(rig=ring(8, aim=1.0))), "camera spread") == "warning"


def test_a_narrow_and_a_wide_rig() -> None:
    assert found(report(video(rig=ring(8, arc=0.12))), "camera spread") == "warning"
    assert found(report(video(4, rig=ring(4))), "camera spread") == "warning"


def test_two_cameras_in_one_place() -> None:
    rig = ring(8)
    rig = replace(rig, world_to_camera=rig.world_to_camera[[0, 1, 2, 3, 4, 5, 6, 6]])
    made = report(video(rig=rig))
    assert any("cam06" in r.finding and "cam07" in r.finding for r in made.rows if r.severity == "warning")


def test_bounds_in_other_units() -> None:
    made = report(replace(video(), near=1000.0, far=8000.0))
    assert found(made, "bounds") == "warning"


def test_points_of_another_scene() -> None:
    points = torch.randn(500, 3) + torch.tensor([0.0, 0.0, 90.0])
    assert found(report(replace(video(), points=points)), "bounds") == "warning"


def test_masks_empty_and_full() -> None:
    assert found(report(replace(video(source=Painted([1.0] * 8, mask=1)), has_masks=True)), "masks") == "ok"
    assert (
        found(report(replace(video(source=Painted([1.0] * 8, mask=0)), has_masks=True)), "masks") == "warning"
    )


def test_gaps_and_warnings_are_repeated() -> None:
    times = torch.tensor([0.0, 1 / 30, 2 / 30, 3 / 30, 1.0], dtype=torch.float64)
    made = report(replace(video(), times=times, warnings=("cam02 has 3 frames, the others 6.",)))
    assert found(made, "frames") == "warning" and "cam02 has 3 frames" in made.text()


def test_every_frame_is_read_when_asked(tmp_path: Path) -> None:
    class Counting(Painted):
        def __init__(self, gains: list[float]) -> None:
            super().__init__(gains)
            self.seen: set[tuple[int, int]] = set()

        def read(self, view: int, moment: int) -> Frame:
            self.seen.add((view, moment))
            return super().read(view, moment)

    source = Counting([1.0] * 8)
    report(video(source=source), Config(every_frame=True))
    assert len(source.seen) == 40


def test_pairs_of_views_are_compared_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once are gigabytes for thousands of views."""
    scene = moving_scene(count=20, views=12)
    twice = scene.rig[[*range(12), 3, 7]]
    video = capture_of(scene.with_(rig=replace(twice, names=tuple(map(str, range(14))))))
    whole = camera_spread(video)
    assert (
        whole.twins == ((3, 12), (7, 13))
        and whole.widest > 170
        and whole.neighbour == pytest.approx(33.29, abs=0.01)
    )
    monkeypatch.setattr(inspection, "PAIRS_AT_ONCE", 40)
    parts = camera_spread(video)
    assert parts.twins == whole.twins and parts.loneliest_view == whole.loneliest_view
    assert (parts.widest, parts.neighbour, parts.loneliest) == pytest.approx(
        (whole.widest, whole.neighbour, whole.loneliest), abs=1e-6
    )
    monkeypatch.setattr(inspection, "MOST_COMPARED", 7)
    few = camera_spread(video)
    assert few.loneliest_view in range(0, 14, 2) or few.loneliest_view == 13
    assert few.places == whole.places

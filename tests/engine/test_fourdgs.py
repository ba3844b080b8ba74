"""`.4dgs` written frame by frame: the same bytes as at once, and nothing left where it is cancelled or refused."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.io import fourdgs as fourdgs_frames
from engine.io.fourdgs import write_fourdgs, writing_fourdgs
from engine.io.fourdgs_chunks import MedianScale
from engine.scene import Static
from engine.scene.cameras import AT_ZERO
from engine.steps import export_scene
from tests.scenes import moving_scene

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fourdgs") is None, reason="the package fourdgs is not installed"
)


def _at_once(scene, seconds, path, monkeypatch) -> bytes:
    """The file that the package's own writer makes of all Gaussians of all frames."""
    import fourdgs

    windows = fourdgs_frames._windows(np.asarray(seconds))
    moments = [scene.at(t) for t in seconds]
    still = torch.stack(
        [
            (a == b).flatten(1).all(1) if a.ndim > 1 else a == b
            for now in moments
            for a, b in zip(moments[0].tensors().values(), now.tensors().values(), strict=True)
        ]
    ).all(0)
    rest, duration, pieces, spans = torch.zeros(len(still), 3), windows[-1][1], [], []
    if bool(still.any()):
        pieces.append(fourdgs_frames._piece(moments[0], still, rest, 0.0))
        spans.append((0.0, duration))
    for now, then, span in zip(moments, [*moments[1:], moments[-1]], windows, strict=True):
        if not bool(still.all()):
            pieces.append(
                fourdgs_frames._piece(now, ~still, (then.means - now.means) / (span[1] - span[0]), span[0])
            )
            spans.append(span)
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    sizes = [len(piece["mu_t"]) for piece in pieces]
    lows, highs = (np.repeat([span[i] for span in spans], sizes) for i in (0, 1))
    sh, degree = joined.pop("sh"), scene.canonical.sh_degree
    gaussians = fourdgs.GaussianSet(
        **joined, sigma_t=np.full(sum(sizes), np.inf, dtype=np.float32), win_lo=lows, win_hi=highs,
        sh=sh if degree else None, sh_degree=degree,
    )  # fmt: skip
    median, of_profile = MedianScale(), fourdgs.Bounds.for_profile
    median.add(torch.from_numpy(joined["scales"]))
    bounds = of_profile("default", median_scale=median.value())
    monkeypatch.setattr(fourdgs.Bounds, "for_profile", staticmethod(lambda *_, **__: bounds))
    place = scene.rig.origin
    metadata = None if place == AT_ZERO else {"origin": " ".join(repr(c) for c in place)}
    options = fourdgs.WriteOptions(library="gs4d-studio", sh_bands=degree, metadata=metadata)
    fourdgs.write(str(path), gaussians, duration, options=options)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("moving", "bases", "moments"), [(1, 4, 7), (1, 1, 2), (1, 16, 4), (0, 4, 3), (1, 9, 1)]
)
@pytest.mark.parametrize("origin", [AT_ZERO, (500_000.0, 4_000_000.5, 100.25)])
def test_a_file_written_frame_by_frame_equals_the_one_written_at_once(
    tmp_path, monkeypatch, moving, bases, moments, origin
):
    scene = moving_scene(200, views=2, moments=moments)
    sh = torch.randn(200, bases, 3, generator=torch.Generator().manual_seed(bases))
    scene = scene.with_(canonical=scene.canonical.with_(sh=sh), rig=replace(scene.rig, origin=origin))
    scene = scene if moving else scene.with_(deformation=Static())
    seconds = scene.times.tolist()
    streamed = write_fourdgs(scene, seconds, tmp_path / "streamed.4dgs")
    assert streamed.read_bytes() == _at_once(scene, seconds, tmp_path / "whole.4dgs", monkeypatch)


def test_the_median_of_scales_that_come_in_parts_is_close_to_that_of_all():
    parts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).mul(2).exp() for n in (7, 500, 64)]
    median = MedianScale()
    for part in parts:
        median.add(part)
    median.add(parts[0], 3)
    median.add(parts[0], -3)
    assert median.value() == pytest.approx(float(np.median(torch.cat(parts).numpy())), rel=0.003)


def test_an_export_that_is_cancelled_leaves_the_old_file_and_nothing_else(tmp_path):
    scene, path = moving_scene(60, views=2), tmp_path / "a.4dgs"
    path.write_bytes(b"old")
    work = writing_fourdgs(scene, scene.times.tolist(), path)
    done = [next(work) for _ in range(len(scene.times) + 2)]
    assert done[-1] == len(scene.times) + 2 and len(list(tmp_path.iterdir())) == 2
    work.close()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_numbers_that_the_format_has_no_grid_for_are_refused(tmp_path):
    scene = moving_scene(60, views=2)
    far, huge = scene.canonical.means.clone(), scene.canonical.log_scales.clone()
    far[0], huge[0] = 1e30, 200.0
    for changed, said in (
        (scene.canonical.with_(means=far), "IO-004"),
        (scene.canonical.with_(log_scales=huge), "IO-093"),
    ):
        with pytest.raises(InputError, match=said):
            write_fourdgs(scene.with_(canonical=changed), scene.times.tolist(), tmp_path / "a.4dgs")
    assert not list(tmp_path.iterdir())


def test_another_version_of_the_package_is_one_sentence(tmp_path, monkeypatch):
    import fourdgs.records

    scene = moving_scene(60, views=2)
    monkeypatch.delattr(fourdgs.records, "Footer")
    with pytest.raises(InputError, match="IO-092"):
        write_fourdgs(scene, scene.times.tolist(), tmp_path / "a.4dgs")
    assert not list(tmp_path.iterdir())


def test_an_export_counts_its_frames(tmp_path):
    scene = moving_scene(60, views=2)
    config = export_scene.Config(kind="4dgs", moments=5)
    told = list(export_scene.run(scene, config, tmp_path / "a.4dgs"))
    assert [message.done for message in told if isinstance(message, m.Progress)] == list(range(1, 11))
    assert told[0].total == 10 and told[-1].value == [tmp_path / "a.4dgs"]

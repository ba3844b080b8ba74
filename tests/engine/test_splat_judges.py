"""Splat files of PlayCanvas' splat-transform and Mark Kellogg's gaussian-splats-3d are read with their values, and the
former reads the files of this pack."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import InputError
from engine.io.ply import write_ply
from engine.io.splats import WRITTEN, read_splat
from engine.io.spz import write_spz
from engine.io.spz_axes import SYSTEMS
from engine.io.spz_decoding import names_axes, turned
from engine.io.writable import spatial_order
from engine.messages import result
from engine.scene import Gaussians, harmonics, rotations
from engine.scene.cameras import AT_ZERO
from engine.steps import export_scene, import_scene
from tests.judges import ksplat, niantic_read, niantic_write, splat_transform
from tests.scenes import moving_scene
from tests.splat_bytes import ksplat_bytes, varied


def same(a: Gaussians, b: Gaussians, **limits: float) -> None:
    """Equal Gaussians in equal order, within limits by name; the angle of rotations, and opacities after activation."""
    allowed = {"means": 1e-5, "log_scales": 1e-5, "angle": 1e-3, "opacity": 1e-5, "dc": 1e-5, "sh": 1e-5}
    x, y = a.activated(), b.activated()
    assert a.sh.shape == b.sh.shape
    apart = {
        "means": a.means - b.means,
        "log_scales": a.log_scales - b.log_scales,
        "angle": turn_between(x.quats.double(), y.quats.double()),
        "opacity": x.opacities - y.opacities,
        "dc": a.sh[:, 0] - b.sh[:, 0],
        "sh": a.sh[:, 1:] - b.sh[:, 1:],
    }
    for name, difference in apart.items():
        most = float(difference.abs().max()) if difference.numel() else 0.0
        assert most <= (allowed | limits)[name], (name, most)


def turn_between(a: Tensor, b: Tensor) -> Tensor:
    """Radians [N] between unit quaternions, by their distance: the arc cosine of their product loses small turns to rounding."""
    apart = torch.minimum((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return 4 * (apart / 2).clamp(max=1).asin()


def in_order_of(g: Gaussians, wanted: Gaussians) -> Gaussians:
    """The Gaussians in the order of those that lie where they do."""
    nearest = torch.cdist(wanted.means.double(), g.means.double()).argmin(1)
    assert len(nearest.unique()) == len(wanted) == len(g)
    return g.map(lambda t: t[nearest])


# -- its files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["a.sog", "a.compressed.ply", "3.spz", "4.spz"])
def test_files_of_splat_transform_are_read_with_its_values(name: str, degree: int, tmp_path: Path) -> None:
    g = varied(400, degree)
    original = write_ply(g, tmp_path / "original.ply")
    options = ["--spz-version", name[0]] if name.endswith(".spz") else []
    packed = splat_transform(original, tmp_path / name, *options)
    unpacked = read_splat(splat_transform(packed, tmp_path / "unpacked.ply"))
    read = read_splat(packed)
    # splat-transform stores the axes of a .ply in .spz files, where Niantic's documentation and this pack have y up
    read = turned(read) if name.endswith(".spz") else read
    # its bytes of harmonics stand for the middles of their steps in a compressed .ply
    same(read, unpacked, means=2e-5, opacity=2e-3, angle=2e-3, sh=0.02)
    # and they are those of the scene; splat-transform's own palette of few Gaussians is coarse
    coarse = 0.6 if name == "a.sog" else 0.07
    same(in_order_of(read, g), g, means=0.01, log_scales=0.08, angle=0.03, opacity=0.006, dc=0.08, sh=coarse)


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_ksplat_is_read_as_splat_transform_does(level: int, degree: int, tmp_path: Path) -> None:
    g = varied(333, degree)
    packed = tmp_path / "a.ksplat"
    packed.write_bytes(ksplat_bytes(g, level, (100, 233)))
    read = read_splat(packed)
    same(read, read_splat(splat_transform(packed, tmp_path / "a.ply")), opacity=2e-3, means=1e-4)
    same(
        read, g, means=1e-3, log_scales=2e-3, angle=5e-3, opacity=3e-3, dc=8.0, sh=0.7 if level == 2 else 1e-3
    )


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("section, block, bucket", [(0, 5, 256), (300, 1, 16)])
def test_ksplat_files_of_gaussian_splats_3d_are_read_with_their_values(
    level: int, degree: int, section: int, block: float, bucket: int, tmp_path: Path
) -> None:
    g = varied(700, degree)
    original = write_ply(g, tmp_path / "original.ply")
    packed = ksplat(original, tmp_path / "a.ksplat", degree, level, section, block, bucket)
    assert int.from_bytes(packed.read_bytes()[8:12], "little") == (3 if section else 1), "sections"
    # it sorts by distance, and rounds colors and opacities down to 1/255
    rgb = (g.sh[:, :1] * harmonics.C0 + 0.5).clamp(0, 1)
    shown = g.with_(sh=torch.cat([(rgb - 0.5) / harmonics.C0, g.sh[:, 1:]], dim=1))
    limits = {"opacity": 1.01 / 255, "dc": 1.01 / 255 / harmonics.C0}
    if level:
        limits |= {
            "means": block / 65535,
            "log_scales": 1e-3,
            "angle": 1e-3,
            "sh": 5e-4 if level == 1 else 5e-3,
        }
    same(in_order_of(read_splat(packed), g), shown, **limits)
    # splat-transform, too, reads these files so
    same(
        read_splat(packed), read_splat(splat_transform(packed, tmp_path / "a.ply")), opacity=2e-3, means=1e-4
    )


# -- the pack's files ---------------------------------------------------------------------------------------------------

# largest errors of each format
WRITES = {
    "ply": {},
    "spz": {
        "means": 1e-5,
        "log_scales": 1 / 31,
        "angle": 0.006,
        "opacity": 1 / 500,
        "dc": 1 / 76,
        "sh": 1 / 250,
    },
    "sog": {"means": 1e-3, "log_scales": 0.05, "angle": 0.016, "opacity": 1 / 500, "dc": 0.06, "sh": 0.06},
    "compressed ply": {
        "means": 0.01,
        "log_scales": 0.003,
        "angle": 0.005,
        "opacity": 1 / 500,
        "dc": 0.02,
        "sh": 1 / 60,
    },
    "splat": {"log_scales": 1e-4, "angle": 0.03, "opacity": 1 / 500, "dc": 0.008},
}
WRITES["spz 4"] = WRITES["spz"]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", sorted(WRITES))
def test_splat_transform_reads_what_is_written(kind: str, degree: int, tmp_path: Path) -> None:
    g = varied(700, degree, seed=3)
    if kind == "splat":
        rgb = g.sh[:, :1] * 0.28209479177387814 + 0.5
        g = g.with_(sh=(rgb.clamp(0, 1) - 0.5) / 0.28209479177387814)
    form = WRITTEN[kind]
    g = g.map(lambda t: t[spatial_order(g.means)]) if form.sorts else g
    path = form.write(g, tmp_path / f"a{form.suffix}", AT_ZERO)
    judged = read_splat(splat_transform(path, tmp_path / "judged.ply"))
    # see above
    same(turned(judged) if form.suffix == ".spz" else judged, g, **WRITES[kind])
    same(read_splat(path), g, **WRITES[kind])


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_library_of_niantic_reads_spz_files_in_their_axes(
    version: int, degree: int, tmp_path: Path
) -> None:
    """Right, down, front of the pack and of .ply files is right, up, back in the file; the library turns it back."""
    g = varied(300, degree, seed=4)
    path = write_spz(g, tmp_path / "a.spz", version)
    limits = WRITES["spz"] | ({"angle": 0.2} if version == 2 else {})
    same(niantic_read(path), g, **limits)
    same(niantic_read(path), read_splat(path), opacity=2e-3, angle=2e-3)


@pytest.mark.parametrize("axes", ["", *SYSTEMS])
def test_spz_files_of_niantics_library_are_read_in_the_axes_that_they_name(axes: str, tmp_path: Path) -> None:
    """Mirrored ones and those with z up too, behind another extension; files that name none are right, up, back."""
    g = varied(300, 3, seed=5)
    # beyond 1 the format has no harmonics
    g = g.with_(sh=g.sh.clamp(-0.9, 0.9))
    # a quarter turn mixes the rounding errors of up to seven harmonics
    limits = WRITES["spz"] | {"means": 2e-4, "sh": 7**0.5 / 250}
    for version in (3, 4):
        path = niantic_write(g, tmp_path / f"{version}.spz", version, axes)
        read = read_splat(path)
        # an ellipsoid has several rotations
        same(read.with_(quats=g.quats), g, **limits)
        turned_alone = covariances(read.with_(log_scales=g.log_scales))
        assert float((turned_alone - covariances(g)).abs().max()) < 2 * limits["angle"]
        assert names_axes(path.read_bytes(), path.name) == bool(axes)
    # of version 3, the library ignores its own extension
    same(niantic_read(path), g, **limits)


def covariances(g: Gaussians) -> Tensor:
    """[N, 3, 3], divided by the largest variance."""
    sizes = g.log_scales.double().exp()
    axes = rotations.quats_to_matrices(rotations.normalise(g.quats.double())) * sizes[:, None]
    return axes @ axes.transpose(1, 2) / sizes.amax(1)[:, None, None] ** 2


def test_few_gaussians_do_not_share_harmonics(tmp_path: Path) -> None:
    # what is left is the error of the codebook
    g = varied(600, 3)
    read = read_splat(WRITTEN["sog"].write(g, tmp_path / "a.sog", AT_ZERO))
    assert float((read.sh[:, 1:] - g.sh[:, 1:]).square().mean().sqrt()) < 0.02 * 0.15


@pytest.mark.parametrize("kind", ["sog", "compressed ply"])
def test_sequences_of_sorted_files_keep_the_numbers_of_gaussians(kind: str, tmp_path: Path) -> None:
    scene = moving_scene(200, views=3)
    config = export_scene.Config(kind=f"{kind} sequence", moments=3)
    result(export_scene.run(scene, config, tmp_path / "frames"))
    again = result(import_scene.run(tmp_path / "frames"))
    order = spatial_order(scene.at(float(scene.times[0])).means)
    assert len(again.canonical) == 200
    for t, there in zip((0, -1), (0, -1), strict=True):
        wanted = scene.at(float(scene.times[t])).means[order]
        assert float((again.at(float(again.times[there])).means - wanted).abs().max()) < 0.02


def test_a_format_without_harmonics_says_so(tmp_path: Path) -> None:
    scene = moving_scene(50, views=3)
    written = result(export_scene.run(scene, export_scene.Config(kind="splat"), tmp_path / "a.splat"))
    assert scene.canonical.sh_degree > 0 and "no colors that depend on the view" in written.text()
    with pytest.raises(InputError, match=r"STP-012"):
        result(export_scene.run(scene, export_scene.Config(kind="sog"), tmp_path / "a.splat"))


@pytest.mark.parametrize("kind", sorted(WRITES.keys() - {"ply"}))
def test_values_that_are_not_finite_are_not_written(kind: str, tmp_path: Path) -> None:
    g = varied(20)
    opacities = g.logit_opacities.clone()
    opacities[3] = float("nan")
    form = WRITTEN[kind]
    with pytest.raises(InputError, match=r"IO-033"):
        form.write(g.with_(logit_opacities=opacities), tmp_path / f"a{form.suffix}", AT_ZERO)
    assert not list(tmp_path.iterdir())


def test_a_sog_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"IO-118"):
        WRITTEN["sog"].write(varied(1).map(lambda t: t[:0]), tmp_path / "a.sog", AT_ZERO)


def test_shared_harmonics_are_the_means_of_similar_ones(tmp_path: Path) -> None:
    # 1024 different ones for 3000 Gaussians, in three dimensions that an optimal palette would give an error of a twentieth
    g, generator = varied(3000, 3), torch.Generator().manual_seed(5)
    kinds = torch.rand(3000, 3, generator=generator)
    g = g.with_(sh=torch.cat([g.sh[:, :1], kinds[:, None, :].expand(-1, 15, -1) * 0.5], dim=1))
    g = g.map(lambda t: t[spatial_order(g.means)])
    path = WRITTEN["sog"].write(g, tmp_path / "a.sog", AT_ZERO)
    for read in (read_splat(path), read_splat(splat_transform(path, tmp_path / "judged.ply"))):
        error = (read.sh[:, 1:] - g.sh[:, 1:]).square().mean().sqrt()
        assert float(error / g.sh[:, 1:].std()) < 0.12

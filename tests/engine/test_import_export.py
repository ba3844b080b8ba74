"""The import and export steps: every kind is written and, where it can be, comes back; wrong targets are named."""

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.io.imports.fourdgaussians import field_from_state
from engine.io.imports.fourdgaussians_folder import _load_state
from engine.io.ply import read_ply, write_ply
from engine.io.scene_file import load_scene
from engine.io.sequences import reading
from engine.io.spz import read_spz, write_spz
from engine.scene import Scene4D
from engine.steps import export_scene, import_scene
from tests.engine.test_head_steps import scene_of
from tests.scenes import moving_scene
from tests.tiny_head import tiny_head


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    made = moving_scene(40, views=3)
    return Scene4D.still(made.canonical, made.times, made.rig, made.bounds, made.background)


@pytest.mark.parametrize("kind", export_scene.SUFFIXES)
def test_every_kind_is_written_and_named_by_its_messages(kind, scene, tmp_path):
    if kind == export_scene.AVATAR:
        scene = scene_of(tiny_head())
    if kind == "4dgs":
        pytest.importorskip(
            "fourdgs", reason="the package fourdgs, which writes .4dgs files, is not installed"
        )
    config = export_scene.Config(kind=kind)
    target = tmp_path / f"out{export_scene.suffix(config)}"
    messages = list(export_scene.run(scene, config, target))
    assert isinstance(messages[0], m.Started)
    assert isinstance(messages[-1], m.Finished)
    written = messages[-1].value
    # a sequence has a description
    frames = len(scene.times) + 1 if export_scene.is_sequence(config) else 1
    assert len(written) == (4 if kind == export_scene.AVATAR else frames)
    on_disk = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert on_disk == set(written), "no temporary file is left"
    assert messages[0].total == [x.done for x in messages if isinstance(x, m.Progress)][-1]


def test_a_moment_is_the_scene_at_that_second(tmp_path):
    moving = moving_scene(40, views=2)
    for kind, read in (("ply", read_ply), ("spz", read_spz)):
        config = export_scene.Config(kind=kind, seconds=0.4)
        (path,) = m.result(export_scene.run(moving, config, tmp_path / f"a.{kind}"))
        assert float((read(path).means - moving.at(0.4).means).abs().max()) < 1e-5
    config = export_scene.Config(kind="ply sequence", moments=4)
    paths = m.result(export_scene.run(moving, config, tmp_path / "frames"))
    assert paths.pop().name == "sequence.json"
    for path, t in zip(paths, (0.0, 0.5, 1.0, 1.5), strict=True):
        assert torch.equal(read_ply(path).means, moving.at(t).means)


def test_a_scene_export_is_the_scene(scene, tmp_path):
    (path,) = m.result(export_scene.run(scene, export_scene.Config(kind="scene"), tmp_path / "a.safetensors"))
    assert torch.equal(load_scene(path).canonical.means, scene.canonical.means)


def test_wrong_targets_and_times_are_named(scene, tmp_path):
    def run(target, **config):
        return m.result(export_scene.run(scene, export_scene.Config(**config), target))

    with pytest.raises(InputError, match=r"\.ply"):
        run(tmp_path / "a.obj", kind="ply")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="folder"):
        run(tmp_path / "file", kind="ply sequence")
    with pytest.raises(InputError, match="seconds"):
        run(tmp_path / "a.ply", kind="ply", seconds=99.0)
    with pytest.raises(InputError, match="kind"):
        run(tmp_path / "a.obj", kind="obj")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["ply", "spz"])
def test_a_splat_file_comes_back_as_a_still_scene(kind, scene, tmp_path):
    (path,) = m.result(export_scene.run(scene, export_scene.Config(kind=kind), tmp_path / f"a.{kind}"))
    again = m.result(import_scene.run(path, import_scene.Config(duration=2.0)))
    assert again.duration == 2.0
    assert again.deformation.kind == "still"
    assert float((again.canonical.means - scene.canonical.means).abs().max()) < 1e-5
    pixels, depth = again.rig.project(again.canonical.means.double(), 0)
    assert bool((depth > 0).all())
    assert bool(((pixels > 0) & (pixels < 512)).all()), "the cameras look at the subject"


@pytest.mark.parametrize("kind", ["ply", "spz"])
def test_a_sequence_of_files_comes_back_as_the_moving_scene(kind, tmp_path):
    moving = moving_scene(40, views=2)  # 1.5 seconds
    config = export_scene.Config(kind=f"{kind} sequence", moments=4)
    written = m.result(export_scene.run(moving, config, tmp_path / "walk"))
    messages = list(import_scene.run(tmp_path / "walk", import_scene.Config(fps=2.0)))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == [1, 2, 3, 4] and len(written) == 5
    again = messages[-1].value
    assert again.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    for t in again.times.tolist():
        assert torch.allclose(again.at(t).means, moving.at(t).means, atol=1e-5)
    halfway = (moving.at(0.5).means + moving.at(1.0).means) / 2
    assert torch.allclose(again.at(0.75).means, halfway, atol=1e-5)
    held = m.result(import_scene.run(tmp_path / "walk", import_scene.Config(fps=2.0, blends_moments=False)))
    assert torch.allclose(held.at(0.75).means, moving.at(0.5).means, atol=1e-5)


def test_files_play_in_the_order_of_their_numbers(tmp_path):
    first = moving_scene(10, views=2).canonical
    for number in (10, 9, 100, 1):
        write_ply(first.with_(means=first.means * 0 + number), tmp_path / f"take2_frame{number}.ply")
    (tmp_path / ".hidden.ply").write_text("not read")
    scene = m.result(import_scene.run(tmp_path, import_scene.Config(fps=1.0)))
    assert [float(scene.at(t).means[0, 0]) for t in range(4)] == [1, 9, 10, 100]


def test_a_folder_that_is_no_sequence_is_named(tmp_path, monkeypatch):
    gaussians = moving_scene(10, views=2).canonical
    write_ply(gaussians.map(lambda t: t[:0]), tmp_path / "a.ply")
    with pytest.raises(InputError, match="none of its 1 files"):
        m.result(import_scene.run(tmp_path))
    write_ply(gaussians, tmp_path / "b.ply")
    assert len(m.result(import_scene.run(tmp_path)).canonical) == 10, "a moment may show nothing"
    monkeypatch.setattr(reading, "MOST_NUMBERS", 300)
    with pytest.raises(InputError, match=r"2 files such as b\.ply"):
        m.result(import_scene.run(tmp_path))
    write_spz(gaussians, tmp_path / "c.spz")
    with pytest.raises(InputError, match="several formats"):
        m.result(import_scene.run(tmp_path))


def test_what_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "empty", "nowhere"):
        with pytest.raises(InputError, match=name):
            m.result(import_scene.run(tmp_path / name))


def state(multires=(1, 2), base=(4, 6, 5, 7), depth=2, features=3, width=8):
    """A 4DGaussians state dict of any size, with values of our own."""
    g = torch.Generator().manual_seed(0)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    net, result = "deformation_net.", {"timenet.0.weight": torch.zeros(2, 2)}
    result[net + "grid.aabb"] = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    for level, factor in enumerate(multires):
        size = [*(b * factor for b in base[:3]), base[3]]
        for index, (a, b) in enumerate(pairs):
            result[f"{net}grid.grids.{level}.{index}"] = torch.rand(
                1, features, size[b], size[a], generator=g
            )

    def linear(name, inputs, outputs):
        result[f"{net}{name}.weight"] = torch.rand(outputs, inputs, generator=g)
        result[f"{net}{name}.bias"] = torch.rand(outputs, generator=g)

    for layer in range(max(depth, 1)):
        linear(f"feature_out.{2 * layer}", width if layer else features * len(multires), width)
    for head, outputs in (("pos", 3), ("scales", 3), ("rotations", 4), ("opacity", 1), ("shs", 48)):
        linear(f"{head}_deform.1", width, width)
        linear(f"{head}_deform.3", width, outputs)
    return result


@pytest.mark.parametrize("multires", [(1,), (1, 2), (1, 2, 4), (2, 3), (2, 4)])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_sizes_are_read_from_the_weights(multires, depth):
    found = field_from_state(state(multires, depth=depth), ("position", "sh")).settings
    sizes = [tuple(r * f for r in found.resolution[:3]) for f in found.multires]
    assert sizes == [tuple(r * f for r in (4, 6, 5)) for f in multires]
    assert (found.resolution[3], found.features, found.width) == (7, 3, 8)
    assert found.depth == max(depth, 1)
    assert found.heads == ("position", "sh")


def test_a_state_dict_that_does_not_fit_is_named():
    for key in ("grid.aabb", "grid.grids.0.0", "grid.grids.1.4", "feature_out.0.weight", "pos_deform.3.bias"):
        broken = {k: v for k, v in state().items() if k != f"deformation_net.{key}"}
        with pytest.raises(InputError, match=r"weights\.pth"):
            field_from_state(broken, ("position",), source="weights.pth")
        wrong = state() | {f"deformation_net.{key}": torch.zeros(1, 3, 9, 11)}
        with pytest.raises(InputError, match=r"weights\.pth"):
            field_from_state(wrong, ("position",), source="weights.pth")
    with pytest.raises(InputError):
        field_from_state({}, ("position",))


@pytest.mark.parametrize("strange", ["no strides", "sparse", "meta"])
def test_weights_that_claim_more_numbers_than_they_hold_are_refused(strange, tmp_path):
    """94 KB of zero strides would be written out as a scene of 17 GB."""
    huge = {
        "no strides": torch.zeros(1).expand(8192, 8192),
        "sparse": torch.zeros(8192, 8192).to_sparse(),
        "meta": torch.zeros(8192, 8192, device="meta"),
    }[strange]
    path = tmp_path / "deformation.pth"
    torch.save(state() | {"deformation_net.feature_out.2.weight": huge}, path)
    with pytest.raises(
        InputError, match=r"deformation\.pth: 'deformation_net.feature_out.2.weight' claims more"
    ):
        _load_state(path)
    torch.save(state(), path)
    assert set(_load_state(path)) == set(state())

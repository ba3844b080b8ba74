"""Scenes trained with hustvl/4DGaussians come in with the numbers that its own loader and renderer gave."""

import json

import pytest
import torch
from safetensors.torch import load_file

from engine import messages as m
from engine.errors import InputError
from engine.io.imports.cfg_args import read_cfg_args
from engine.io.scene_file import load_scene, save_scene
from engine.steps import import_scene


@pytest.fixture(scope="module")
def variants(fixtures_folder):
    found = sorted(
        path.parent for path in (fixtures_folder / "fourdgaussians_checkpoint").glob("*/expected.safetensors")
    )
    assert found
    return found


def imported(variant):
    return m.result(import_scene.run(variant / "scene"))


def test_canonical_values_are_bit_identical(variants):
    for variant in variants:
        raw, g = load_file(variant / "raw.safetensors"), imported(variant).canonical
        assert torch.equal(g.means, raw["xyz"]) and torch.equal(g.quats, raw["rotation"])
        assert torch.equal(g.log_scales, raw["scaling"]) and torch.equal(
            g.logit_opacities, raw["opacity"][:, 0]
        )
        assert torch.equal(g.sh, torch.cat([raw["features_dc"], raw["features_rest"]], dim=1))


def test_every_moment_matches_the_reference_renderer(variants):
    for variant in variants:
        expected, scene = load_file(variant / "expected.safetensors"), imported(variant)
        heads = json.loads((variant / "expected.json").read_text())["heads_enabled"]
        assert set(scene.deformation.settings.heads) == {name for name, on in heads.items() if on}
        for i, t in enumerate(expected["times"].tolist()):
            with torch.no_grad():
                moment = scene.at(t).activated()
            sign = (moment.quats * expected["rotations"][i]).sum(-1, keepdim=True).sign()
            pairs = {
                "means": moment.means,
                "opacities": moment.opacities[:, None],
                "rotations": moment.quats * sign,
                "scales": moment.scales,
                "shs": moment.sh,
            }
            for name, ours in pairs.items():
                theirs = expected[name][i]
                assert bool(((ours - theirs).abs() <= 2e-5 * (1 + theirs.abs())).all()), (
                    variant.name,
                    name,
                    t,
                )


def test_imported_scene_survives_saving_bit_for_bit(variants, tmp_path):
    for variant in variants:
        scene = imported(variant)
        again = load_scene(save_scene(scene, tmp_path / "scene.safetensors"))
        for t in (0.0, 0.4, 1.0):
            a, b = scene.at(t).tensors(), again.at(t).tensors()
            assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "text",
    [
        "Namespace(a=__import__('os').system('touch pwned'))",
        "__import__('os')",
        "Namespace(**{'a': 1})",
        "Namespace(a=[x for x in (1,)])",
        "print(1)",
        "Namespace(",
        "",
    ],
)
def test_settings_are_read_and_never_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfg_args").write_text(text)
    with pytest.raises(InputError, match="cfg_args"):
        read_cfg_args(tmp_path / "cfg_args")
    assert [path.name for path in tmp_path.iterdir()] == ["cfg_args"]


def test_a_pickle_with_code_is_refused(tmp_path, variants):
    import pickle
    import shutil

    shutil.copytree(variants[0] / "scene", tmp_path / "scene")
    weights = max((tmp_path / "scene" / "point_cloud").glob("iteration_*")) / "deformation.pth"
    weights.chmod(0o644)

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    weights.write_bytes(pickle.dumps({"deformation_net.grid.aabb": Trap()}))
    with pytest.raises(InputError, match=r"deformation\.pth"):
        m.result(import_scene.run(tmp_path / "scene"))
    assert not (tmp_path / "pwned").exists()


def test_missing_pieces_are_named(tmp_path, variants):
    import shutil

    with pytest.raises(InputError, match="is not a 4DGaussians or GaussianAvatars folder"):
        m.result(import_scene.run(tmp_path))
    shutil.copytree(variants[0] / "scene", tmp_path / "scene")
    (tmp_path / "scene").chmod(0o755)
    (tmp_path / "scene" / "cfg_args").unlink()
    with pytest.raises(InputError, match="cfg_args is missing"):
        m.result(import_scene.run(tmp_path / "scene"))
    whole = m.result(import_scene.run(tmp_path / "scene", import_scene.Config(heads="all")))
    assert len(whole.deformation.settings.heads) == 5

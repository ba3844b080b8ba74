"""Grade Scene: exact colors, the rest to the bit, all times alike, and presets that are the editor's own edits."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.cli import main
from engine.color import PRESETS, ColorTable, Grade, graded_sh
from engine.color.adjustments import LUMINANCE, to_display, to_linear
from engine.deform import FrozenAppearance, Graded, HexPlane, HexPlaneConfig, Masked, PerFrame
from engine.deform.graded import ABOVE, DEEPEST
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.io.selection_file import save_selection
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, Scene4D, Selection, Static, harmonics
from engine.steps import grade_scene
from engine.steps.grade_scene import Config
from tests.engine.test_cube_file import bent, random_colors, write_cube
from tests.scenes import moving_scene
from training.demo_clip.edits import EDITS

LOOKS = [name for name in PRESETS if name != "none"]


def grade(
    scene: Scene4D, table: Path | None = None, selection: Selection | None = None, **config: object
) -> Scene4D:
    return m.result(grade_scene.run(scene, Config(**config), selection, table))  # pyright: ignore[reportArgumentType]


def colored(count: int = 60, degree: int = 3, seed: int = 0) -> Scene4D:
    """A scene whose colors depend on the direction."""
    scene = moving_scene(count, seed=seed, sh_degree=degree)
    noise = 0.08 * torch.randn(scene.canonical.sh[:, 1:].shape, generator=torch.Generator().manual_seed(seed))
    sh = torch.cat([scene.canonical.sh[:, :1], noise], dim=1)
    return scene.with_(canonical=scene.canonical.with_(sh=sh))


def recoloring(scene: Scene4D, heads: tuple[str, ...] = ("position", "sh")) -> HexPlane:
    """A field that changes colors over time."""
    settings = HexPlaneConfig(2, (4, 5, 6, 3), (1, 2), 1, 8, heads, time_range=(0.0, 1.5))
    box = torch.tensor([[2.0, 2.0, 2.0], [-2.0, -2.0, -2.0]])
    return HexPlane.create(settings, box, torch.Generator().manual_seed(0), zero_init=False)


def base_colors(sh: torch.Tensor) -> torch.Tensor:
    return harmonics.dc_to_rgb(sh[:, 0])


# -- colors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", LOOKS)
def test_a_preset_is_the_exact_edit_of_its_name(preset: str) -> None:
    colors = random_colors()
    wanted = np.clip(EDITS[preset.replace(" ", "_")][1](colors.double().numpy()), 0, 1)
    np.testing.assert_allclose(Grade(preset=preset).apply(colors).numpy(), wanted, atol=1e-6)


def test_every_exact_edit_has_a_preset() -> None:
    assert {name.replace("_", " ") for name in EDITS} == set(PRESETS)


def test_a_stop_doubles_linear_light() -> None:
    colors = random_colors() * 0.6
    torch.testing.assert_close(
        to_linear(Grade(exposure=1).apply(colors)), 2 * to_linear(colors), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(to_display(to_linear(colors)), colors, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "change, warmer, greener",
    [({"temperature": 60.0}, 1, 0), ({"temperature": -40.0}, -1, 0), ({"tint": 20.0}, 0, -1)],
)
def test_light_is_colored_and_as_bright_as_before(
    change: dict[str, float], warmer: int, greener: int
) -> None:
    light = to_linear(Grade(**change).apply(torch.full((1, 3), 0.5)))[0].double()  # pyright: ignore[reportArgumentType]
    assert float(light @ torch.tensor(LUMINANCE).double()) == pytest.approx(
        float(to_linear(torch.tensor(0.5))), rel=1e-5
    )
    red, green, blue = light.tolist()
    if warmer:
        assert (red > green > blue) == (warmer > 0) and (red < green < blue) == (warmer < 0)
    if greener:
        assert green < red and green < blue


def test_a_temperature_of_113_mireds_is_light_of_3750_kelvin() -> None:
    """Against the linear sRGB of a body at 3750 K, from its chromaticity (CIE 1931: 0.3901, 0.3837)."""
    x, y = 0.3901, 0.3837
    xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    matrix = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    wanted = matrix @ xyz
    made = to_linear(Grade(temperature=112.9).apply(torch.full((1, 3), 0.5)))[0].numpy()
    np.testing.assert_allclose(made / made[1], wanted / wanted[1], rtol=0.06)


def test_contrast_turns_about_middle_gray_and_saturation_about_luma() -> None:
    gray = torch.full((1, 3), 0.4614)
    torch.testing.assert_close(Grade(contrast=1.7).apply(gray), gray)
    assert float(Grade(saturation=0).apply(random_colors()).std(dim=1).max()) < 1e-6
    torch.testing.assert_close(
        Grade(saturation=0).apply(random_colors()), Grade(preset="black and white").apply(random_colors())
    )


def test_strength_mixes_displayed_colors() -> None:
    colors = random_colors()
    half = Grade(preset="gold", strength=0.5).apply(colors)
    torch.testing.assert_close(half, (colors + Grade(preset="gold").apply(colors)) / 2)


# -- Gaussians --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_grade_of_a_constant_color_is_exact(degree: int) -> None:
    scene = moving_scene(60, sh_degree=degree)
    made = grade(scene, preset="gold", exposure=0.3).canonical.sh
    wanted = Grade(preset="gold", exposure=0.3).apply(base_colors(scene.canonical.sh))
    torch.testing.assert_close(base_colors(made), wanted, atol=2e-6, rtol=0)
    assert float(made[:, 1:].abs().max() if degree else 0) < 2e-6


@pytest.mark.parametrize("preset", ["night", "fog"])
def test_a_linear_grade_is_exact_in_every_direction(preset: str) -> None:
    sh = 0.5 * colored(degree=3).canonical.sh
    directions = harmonics.spread(200).float()
    before = harmonics.colors(sh[:, None], directions[None])
    # where nothing is clamped
    fits = ((before > 0.01) & (before < 0.99)).flatten(1).all(dim=1)
    assert int(fits.sum()) > 20
    made = harmonics.colors(graded_sh(sh, Grade(preset=preset).apply)[:, None], directions[None])
    torch.testing.assert_close(made[fits], Grade(preset=preset).apply(before)[fits], atol=1e-5, rtol=0)


def test_an_identity_table_leaves_the_bits(tmp_path: Path) -> None:
    scene = colored().with_(deformation=recoloring(moving_scene()))
    for number, table in enumerate([ColorTable.identity(33), ColorTable.identity(1024, True)]):
        made = grade(scene, table=write_cube(tmp_path / f"{number}.cube", table))
        assert made.deformation is scene.deformation
        assert torch.equal(made.background, scene.background)
        for name, tensor in scene.canonical.tensors().items():
            assert torch.equal(made.canonical.tensors()[name], tensor)


@pytest.mark.parametrize("config", [{}, {"preset": "gold", "strength": 0.0}])
def test_a_neutral_grade_leaves_the_bits(config: dict[str, object]) -> None:
    scene = colored()
    assert grade(scene, **config).canonical.sh is scene.canonical.sh


def test_the_scene_that_is_graded_is_not_changed() -> None:
    scene = colored()
    sh, background = scene.canonical.sh.clone(), scene.background.clone()
    made = grade(scene, preset="night")
    assert torch.equal(scene.canonical.sh, sh) and torch.equal(scene.background, background)
    for name in ("means", "log_scales", "quats", "logit_opacities"):
        assert made.canonical.tensors()[name] is scene.canonical.tensors()[name]
    assert made.history[-1]["step"] == "grade_scene" and made.history[-1]["config"]["preset"] == "night"


def test_a_table_of_a_file_grades_as_its_formula_does(tmp_path: Path) -> None:
    scene = moving_scene(80, sh_degree=0)
    path = write_cube(
        tmp_path / "look.cube", ColorTable.lattice(bent(ColorTable.identity(33).values)), 'TITLE "Look"'
    )
    made = grade(scene, table=path)
    torch.testing.assert_close(
        base_colors(made.canonical.sh), bent(base_colors(scene.canonical.sh)), atol=1e-3, rtol=0
    )
    assert "look.cube (Look)" in grade_scene.summary(made)


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 3])
def test_a_mask_keeps_the_rest_to_the_bit(degree: int) -> None:
    scene = colored(degree=degree)
    weights = torch.zeros(60)
    weights[:20], weights[20:30] = 1.0, 0.5
    made = grade(scene, selection=Selection(weights), preset="gold").canonical.sh
    whole = grade(scene, preset="gold").canonical.sh
    before = scene.canonical.sh
    assert torch.equal(made[30:], before[30:])
    torch.testing.assert_close(made[:20], whole[:20])
    torch.testing.assert_close(made[20:30], (before + whole)[20:30] / 2)


def test_a_mask_of_another_scene_is_refused() -> None:
    with pytest.raises(InputError, match="SCN-011"):
        grade(colored(), selection=Selection(torch.ones(9)), preset="gold")


# -- background -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preset, changes",
    [
        ("night", True),
        ("fog", True),
        ("golden hour", True),
        ("black and white", True),
        ("gold", False),
        ("blue", False),
    ],
)
def test_light_and_weather_change_the_background_and_materials_do_not(preset: str, changes: bool) -> None:
    scene = colored().with_(background=torch.tensor([0.2, 0.5, 0.9]))
    assert bool((grade(scene, preset=preset).background != scene.background).any()) == changes
    assert torch.equal(grade(scene, preset=preset, background="kept").background, scene.background)
    forced = grade(scene, preset=preset, background="graded").background
    torch.testing.assert_close(forced, Grade(preset=preset).apply(scene.background))
    masked = grade(scene, preset=preset, selection=Selection(torch.ones(60)))
    assert torch.equal(masked.background, scene.background)


# -- time -------------------------------------------------------------------------------------------------------------


def varying(kind: str) -> Scene4D:
    scene = colored(degree=1)
    if kind == "per frame":
        frames = [scene.canonical.with_(sh=scene.canonical.sh + 0.2 * i) for i in range(len(scene.times))]
        return scene.with_(deformation=PerFrame.of(frames, scene.times))
    field = recoloring(scene)
    return scene.with_(deformation=field if kind == "field" else Masked(field, torch.arange(60) % 2 > 0))


@pytest.mark.parametrize("kind", ["per frame", "field", "masked"])
def test_colors_that_change_over_time_are_graded_at_every_time(kind: str) -> None:
    scene = varying(kind)
    look = Grade(preset="gold")
    made = grade(scene, preset="gold")
    most = 0.0
    for second in scene.times.tolist():
        before, after = scene.at(second), made.at(second)
        wanted = graded_sh(before.sh, look.apply)
        assert torch.equal(before.means, after.means)
        # the kinks of a preset lie between the points of the stored lattice
        torch.testing.assert_close(base_colors(after.sh), base_colors(wanted), atol=5e-3, rtol=0)
        most = max(most, float((before.sh - scene.canonical.sh).detach().abs().max()))
    assert most > 0.1, "colors do change"


def test_colors_that_do_not_change_are_the_same_at_all_times() -> None:
    scene = colored()
    made = grade(scene, preset="bronze")
    assert made.deformation is scene.deformation
    assert all(torch.equal(made.at(t).sh, made.canonical.sh) for t in scene.times.tolist())
    frozen = FrozenAppearance(recoloring(scene))
    assert grade(scene.with_(deformation=frozen), preset="bronze").deformation is frozen
    shape = recoloring(scene, ("position", "scale"))
    assert grade(scene.with_(deformation=shape), preset="bronze").deformation is shape


def test_frozen_appearance_of_a_graded_scene_shows_the_graded_colors() -> None:
    made = grade(varying("field"), preset="gold")
    assert torch.equal(FrozenAppearance(made.deformation).deform(made.canonical, 1.0).sh, made.canonical.sh)


def test_a_masked_grade_keeps_the_rest_to_the_bit_at_all_times() -> None:
    scene = varying("per frame")
    weights = (torch.arange(60) < 30).float()
    made = grade(scene, selection=Selection(weights), preset="night")
    for second in scene.times.tolist():
        assert torch.equal(made.at(second).sh[30:], scene.at(second).sh[30:])


@pytest.mark.parametrize("kind", ["field", "masked"])
def test_a_graded_scene_is_saved_and_loaded_bit_for_bit(tmp_path: Path, kind: str) -> None:
    made = grade(grade(varying(kind), preset="gold"), exposure=1.0)
    assert isinstance(made.deformation, Graded)
    again = load_scene(save_scene(made, tmp_path / "a.safetensors") or tmp_path / "a.safetensors")
    for second in (0.0, 0.7):
        for name, tensor in made.at(second).tensors().items():
            assert torch.equal(again.at(second).tensors()[name], tensor)


class Shift:
    """All colors change by the same at every time."""

    kind = "shift"

    def __init__(self, change: float) -> None:
        self.change = change

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        return gaussians.with_(sh=gaussians.sh + self.change / harmonics.C0)


@pytest.mark.parametrize(
    "config",
    [{"exposure": -2.0}, {"preset": "black and white", "strength": 0.5}, {"preset": "gold"}],
    ids=str,
)
@pytest.mark.parametrize(("base", "change"), [(1.3, -0.5), (0.8, 0.5), (1.3, 0.9), (30.0, -29.5)])
def test_colors_above_one_that_change_are_graded_like_those_that_do_not(
    config: dict[str, object], base: float, change: float
) -> None:
    scene = moving_scene(4, sh_degree=0)
    sh = torch.full_like(scene.canonical.sh, (base - 0.5) / harmonics.C0)
    scene = scene.with_(canonical=scene.canonical.with_(sh=sh), deformation=Shift(change))
    made = base_colors(grade(scene, **config).at(0.5).sh)  # pyright: ignore[reportArgumentType]
    shown = torch.full_like(made, base + change)
    torch.testing.assert_close(made, Grade(**config).apply(shown), atol=3e-3, rtol=0)  # pyright: ignore[reportArgumentType]


def test_a_grade_of_an_older_file_is_a_lattice_over_0_to_1() -> None:
    made = grade(varying("field"), preset="gold").deformation
    assert isinstance(made, Graded) and made.above == ABOVE
    older = {name: value for name, value in made.config().items() if name != "above"}
    tensors = made.tensors() | {"table": made.table.values[:-ABOVE, :-ABOVE, :-ABOVE].contiguous()}
    again = Graded.from_parts(older, tensors)
    colors = random_colors()
    assert again.above == 0
    torch.testing.assert_close(again.recolored(colors), made.recolored(colors), atol=1e-5, rtol=0)
    for above in (-1, ABOVE + 1, 2.5, "16"):
        with pytest.raises(InputError, match="GRD-013"):
            Graded.from_parts({**older, "above": above}, made.tensors())


def test_motion_follows_gaussians_that_are_taken() -> None:
    made = grade(varying("field"), preset="gold")
    index = torch.tensor([5, 3, 3, 40])
    part = made.canonical.map(lambda t: t[index])
    torch.testing.assert_close(made.deformation.take(index).deform(part, 0.7).sh, made.at(0.7).sh[index])


def test_a_graded_scene_is_edited_through_its_grade() -> None:
    made = grade(varying("field"), preset="gold")
    assert isinstance(made.deformation, Graded)
    assert made.deformation.trainable() is made.deformation.inner
    sh = made.canonical.sh.clone().requires_grad_(True)
    made.deformation.deform(made.canonical.with_(sh=sh), 0.7).sh.sum().backward()
    torch.testing.assert_close(sh.grad, torch.ones_like(sh))


def test_too_many_grades_of_changing_colors_are_refused() -> None:
    scene = varying("field")
    for _ in range(DEEPEST):
        scene = grade(scene, exposure=0.1)
    with pytest.raises(InputError, match="GRD-011"):
        grade(scene, exposure=0.1)


# -- images -----------------------------------------------------------------------------------------------------------


def test_the_graded_scene_looks_like_the_graded_image() -> None:
    """Not exactly: pixels mix Gaussians. docs/benchmarks.md has the figures of real scenes."""
    scene = colored(200)
    rasterizer = choose("auto")

    def drawn(each: Scene4D) -> torch.Tensor:
        return render_gaussians(each.at(0.5), each.rig, rasterizer, each.background).rgb.clamp(0, 1)

    for preset, least in (("night", 45), ("fog", 45), ("gold", 30)):
        wanted = Grade(preset=preset).apply(drawn(scene))
        made = drawn(grade(scene, preset=preset, background="graded"))
        assert float(-10 * ((made - wanted) ** 2).mean().log10()) > least, preset


def test_every_number_has_its_neutral_value_as_default() -> None:
    assert Grade(
        **{f.name: getattr(Config(), f.name) for f in fields(Config) if f.name != "background"}
    ).is_neutral()


# -- command line -----------------------------------------------------------------------------------------------------


def test_the_verb_grades_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "scene.safetensors", tmp_path / "out.safetensors"
    scene = colored().with_(deformation=Static())
    save_scene(scene, source)
    save_selection(Selection((torch.arange(60) < 30).float()), tmp_path / "half.safetensors")
    table = write_cube(tmp_path / "look.cube", ColorTable.lattice(bent(ColorTable.identity(17).values)))
    words = [
        "grade",
        "--scene",
        source,
        "--lut",
        table,
        "--selection",
        tmp_path / "half.safetensors",
        "--exposure",
        -1,
    ]
    assert main([str(word) for word in (*words, "--out", out, "--json")]) == 0
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert report["notes"] == [
        "Graded the selected Gaussians: look.cube, exposure -1; strength 1, background 1.00 1.00 1.00."
    ]
    made = load_scene(out).canonical.sh
    assert torch.equal(made[30:], scene.canonical.sh[30:])
    assert bool((made[:30] != scene.canonical.sh[:30]).flatten(1).any(dim=1).all())


@pytest.mark.parametrize(
    "name, text, code", [("gone.cube", None, "GRD-017"), ("cut.cube", "LUT_3D_SIZE 9\n0 0 0", "GRD-008")]
)
def test_the_verb_refuses_a_bad_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, code: str
) -> None:
    save_scene(colored().with_(deformation=Static()), tmp_path / "scene.safetensors")
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = ["grade", "--scene", tmp_path / "scene.safetensors", "--lut", tmp_path / name]
    assert main([str(word) for word in (*words, "--out", tmp_path / "out.safetensors")]) != 0
    said = capsys.readouterr().err
    assert code in said and name in said and "Traceback" not in said
    assert not (tmp_path / "out.safetensors").exists()

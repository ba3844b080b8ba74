"""Gaussians are added, removed and relocated: what is stored for each one follows, and what is held stays."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.deform import FrozenAppearance, Masked, PerFrame, Static
from engine.render.rasterizer import RasterInfo
from engine.scene import Deformation, Selection
from engine.steps import fit_edits
from engine.steps.fit_edits import FitEdits
from engine.train.densify import DefaultStrategy, DensityControl, MCMCStrategy
from engine.train.parameters import NAMES, GaussianParameters, Lineage
from tests.edit_scenes import edited_views, field_scene
from tests.scenes import Swing, moving_scene
from tests.toy_motion import Drifting

COUNT = 12
RATES = dict.fromkeys(NAMES, 1e-3)
# step 100 of 110 lies after the 60 % from which edits densify
GROWS = fit_edits.Config(iterations=110, preview_every=0, densifies=True, preset="reference code")


@pytest.fixture(scope="module")
def scene():
    return field_scene()


@pytest.fixture(scope="module")
def views(scene):
    return edited_views(scene, (1, 2, 3, 5, 6, 7))


def named_parameters() -> GaussianParameters:
    """Gaussians told apart by their flat color, which no strategy changes; Adam remembers a step of all of them."""
    canonical = moving_scene(count=COUNT).canonical
    sh = canonical.sh.clone()
    sh[:, 0, 0] = torch.arange(COUNT).float()
    parameters = GaussianParameters(canonical.with_(sh=sh), RATES)
    sum(t.sum() for t in parameters.gaussians().tensors().values()).backward()
    parameters.set_rates(dict.fromkeys(NAMES, 0.0))
    parameters.step()
    return parameters


def names_of(parameters: GaussianParameters) -> list[int]:
    return parameters.tensors["sh_dc"][:, 0, 0].round().int().tolist()


def memory_of(parameters: GaussianParameters, name: str = "means") -> torch.Tensor:
    return parameters.optimizer.state[parameters.tensors[name]]["exp_avg"]


def info_of(wanted: list[int]) -> RasterInfo:
    """What a render would say had the Gaussians `wanted` large gradients on the screen."""
    gradient = torch.zeros(1, COUNT, 2)
    gradient[:, wanted] = 1.0
    return RasterInfo(torch.zeros(1, COUNT, 2), torch.ones(1, COUNT, dtype=torch.int32), gradient=[gradient])


def densify(strategy, parameters, wanted=(), rate=0.0) -> Lineage | None:
    """One visit of the strategy at half time."""
    control = DensityControl(strategy, parameters)
    infos = [(info_of(list(wanted)), 48, 40)]
    return control.after_step(parameters, infos, 50, 100, torch.Generator().manual_seed(0), rate)


def assert_follows(parameters: GaussianParameters, change: Lineage) -> None:
    assert names_of(parameters) == change.parents.tolist(), (
        "every Gaussian has the color of the one it came from"
    )
    moments = memory_of(parameters).abs().sum(dim=1)
    assert bool((moments[change.born] == 0).all()) and bool((moments[~change.born] > 0).all())


def test_cloned_and_split_gaussians_name_their_parents():
    parameters = named_parameters()
    with torch.no_grad():
        parameters.tensors["log_scales"][:6] = -5.0  # small: cloned; the others are split
        parameters.tensors["log_scales"][6:] = -1.0
    before = parameters.at(torch.arange(COUNT))
    change = densify(DefaultStrategy(extent=1.0, every=50, prune_large=9.0), parameters, [1, 4, 7, 9])
    assert change is not None
    assert_follows(parameters, change)
    kept = [i for i in range(COUNT) if i not in (7, 9)]
    assert change.parents.tolist() == [*kept, 1, 4, 7, 9, 7, 9]
    assert change.born.tolist() == [False] * 10 + [True] * 6
    now, parents = parameters.tensors, change.parents
    assert torch.equal(now["means"][10:12], before["means"][parents[10:12]]), "a clone lies on its parent"
    assert torch.allclose(now["log_scales"][12:].exp() * 1.6, before["log_scales"][parents[12:]].exp())


def test_pruned_gaussians_leave_no_descendants():
    parameters = named_parameters()
    with torch.no_grad():
        parameters.tensors["logit_opacities"][[0, 5]] = -12.0
    change = densify(DefaultStrategy(extent=1.0, every=50, prune_large=9.0), parameters)
    assert change is not None
    assert_follows(parameters, change)
    assert change.parents.tolist() == [i for i in range(COUNT) if i not in (0, 5)]
    assert not bool(change.born.any())


def test_a_relocated_gaussian_is_the_child_of_the_living_one():
    parameters = named_parameters()
    with torch.no_grad():
        parameters.tensors["logit_opacities"][[2, 3]] = -12.0
    change = densify(MCMCStrategy(budget=COUNT, every=50), parameters)
    assert change is not None
    assert names_of(parameters) == change.parents.tolist()
    assert change.born.nonzero().flatten().tolist() == [2, 3]
    living = [i for i in range(COUNT) if i not in (2, 3)]
    assert set(change.parents[[2, 3]].tolist()) <= set(living)
    assert change.parents[living].tolist() == living
    assert torch.equal(parameters.tensors["means"][2], parameters.tensors["means"][change.parents[2]])


def test_gaussians_added_up_to_the_budget_name_their_parents():
    parameters = named_parameters()
    change = densify(MCMCStrategy(budget=COUNT + 4, every=50, growth=2.0), parameters)
    assert change is not None
    assert len(parameters) == COUNT + 4 and names_of(parameters) == change.parents.tolist()
    assert change.parents[:COUNT].tolist() == list(range(COUNT))
    assert change.born.tolist() == [False] * COUNT + [True] * 4


def test_changes_that_follow_each_other_are_one():
    parameters = named_parameters()
    parameters.append(parameters.at(torch.tensor([3, 3])), torch.tensor([3, 3]))
    parameters.keep(torch.tensor([13, 3, 0]))
    parameters.relocate(torch.tensor([2]), torch.tensor([0]))
    change = parameters.drain_lineage()
    assert change is not None and change.parents.tolist() == [3, 3, 3] == names_of(parameters)
    assert change.born.tolist() == [True, False, True]
    assert parameters.drain_lineage() is None, "and is told once"


@pytest.mark.parametrize(
    "strategy",
    [
        DefaultStrategy(extent=1.0, every=50, reset_every=50, prune_large=0.1, large=0.01),
        MCMCStrategy(budget=COUNT + 6, every=50, growth=2.0),
    ],
    ids=["default", "mcmc"],
)
def test_held_gaussians_keep_their_bits_whatever_density_control_does(strategy):
    """One is dead, one huge, all have large gradients: free ones are split, reset, relocated and shaken."""
    parameters = named_parameters()
    with torch.no_grad():
        parameters.tensors["logit_opacities"][[0, 1, 10]] = -12.0
        parameters.tensors["logit_opacities"][2:6] = 5.0
        parameters.tensors["log_scales"][2] = 3.0
    held = torch.arange(COUNT) < 6
    parameters.held = held.clone()
    before = parameters.at(torch.arange(6))
    change = densify(strategy, parameters, range(COUNT), rate=1e-2)
    assert change is not None
    places = parameters.held.nonzero().flatten()
    assert change.parents[places].tolist() == list(range(6)), "none is removed, copied or taken as a parent"
    assert not bool(change.born[places].any()) and not set(change.parents[change.born].tolist()) & set(
        range(6)
    )
    for name, tensor in parameters.at(places).items():
        assert torch.equal(tensor, before[name]), name
    assert bool(change.born.any()) and len(parameters) > COUNT


def test_density_control_has_nothing_to_do_where_all_are_held():
    parameters = named_parameters()
    with torch.no_grad():
        parameters.tensors["logit_opacities"][0] = -12.0
    parameters.held[:] = True
    before = parameters.at(torch.arange(COUNT))
    for strategy in (DefaultStrategy(extent=1.0, every=50), MCMCStrategy(budget=99, every=50)):
        assert densify(strategy, parameters, range(COUNT), rate=1.0) is None
    assert all(torch.equal(t, before[name]) for name, t in parameters.tensors.items())


# -- motion -----------------------------------------------------------------------------------------------------------


def deformations(scene) -> dict[str, Deformation]:
    with torch.no_grad():
        book = PerFrame.of([scene.at(t) for t in (0.0, 0.5, 1.2)], torch.tensor([0.0, 0.5, 1.2]))
    velocity = torch.randn(len(scene.canonical), 3, generator=torch.Generator().manual_seed(1))
    return {
        "static": Static(),
        "hexplane": scene.deformation,
        "masked": Masked(scene.deformation, scene.canonical.means[:, 2] > 0),
        "per frame": book,
        "frozen appearance": FrozenAppearance(book),
        "from outside": Drifting(velocity),
    }


@pytest.mark.parametrize("kind", ["static", "hexplane", "masked", "per frame", "frozen appearance", "from outside"])  # fmt: skip
def test_the_motion_of_chosen_gaussians_is_the_chosen_part_of_the_motion(scene, kind):
    deformation = deformations(scene)[kind]
    index = torch.tensor([5, 0, 5, 199, 17])
    with torch.no_grad():
        for seconds in (0.0, 0.7, 2.0):
            whole = deformation.deform(scene.canonical, seconds).map(lambda t: t[index])
            part = deformation.take(index).deform(scene.canonical.map(lambda t: t[index]), seconds)
            for name, tensor in part.tensors().items():
                assert torch.allclose(tensor, whole.tensors()[name], atol=1e-5), name
    assert type(deformation.take(index)) is type(deformation)


def test_a_field_over_space_returns_itself(scene):
    index = torch.tensor([0])
    field = scene.deformation
    assert field.take(index) is field and Masked(field, torch.ones(200) > 0).take(index).inner is field
    assert FrozenAppearance(field).take(index).inner is field


def test_a_deformation_says_what_of_it_can_be_trained(scene):
    found = {name: d.trainable() for name, d in deformations(scene).items()}
    assert found["hexplane"] is found["masked"] is scene.deformation
    assert FrozenAppearance(scene.deformation).trainable() is scene.deformation
    assert found["static"] is Swing().trainable() is None
    assert isinstance(found["per frame"], PerFrame) and isinstance(found["frozen appearance"], PerFrame)
    assert PerFrame(torch.zeros(1).double(), {}).trainable() is None, "nothing in it changes"


# -- edits ------------------------------------------------------------------------------------------------------------


def grown(scene, views, selection=None, config=GROWS) -> FitEdits:
    """An edit right after it added Gaussians."""
    work = FitEdits(scene, views, config, selection, "cpu")
    for _ in range(100):
        work.step()
    assert len(work) > len(scene.canonical)
    return work


@pytest.mark.parametrize("kind", ["masked", "per frame", "frozen appearance", "from outside"])
def test_motion_stored_for_each_gaussian_survives_densification(scene, views, kind):
    deformation = deformations(scene)[kind]
    before = {name: t.clone() for name, t in deformation.tensors().items()}
    work = grown(scene.with_(deformation=deformation), views)
    made = work.result()
    wanted = deformation.take(work.origin)
    assert type(made.deformation) is type(deformation)
    for name, tensor in made.deformation.tensors().items():
        assert torch.equal(tensor, wanted.tensors()[name]), name
    now = made.at(0.7)
    assert len(now) == len(made.canonical) > len(scene.canonical)
    assert torch.equal(now.means, work.gaussians_at(0.7).means), "the result moves as it did in training"
    assert all(torch.equal(t, before[name]) for name, t in deformation.tensors().items())


def test_a_selection_survives_densification(scene, views):
    """New Gaussians have their parent's weight; those of weight 0 keep every bit, and none comes from them."""
    z = scene.canonical.means[:, 2]
    weights = torch.where(z > 0.4, 1.0, torch.where(z > 0, 0.5, 0.0))
    work = grown(scene, views, Selection(weights))
    assert work.constraint is not None
    inherited = weights[work.origin]
    assert torch.equal(work.constraint.held, (inherited == 0).nonzero().flatten())
    assert torch.equal(work.constraint.slowed, (inherited == 0.5).nonzero().flatten())
    assert bool((weights[work.origin[len(scene.canonical) :]] > 0).all())
    for _ in range(10):
        work.step()
    made = work.result()
    outside = (weights[work.origin] == 0).nonzero().flatten()
    assert work.origin[outside].tolist() == (weights == 0).nonzero().flatten().tolist()
    for name, tensor in made.canonical.tensors().items():
        original = scene.canonical.tensors()[name][weights == 0]
        assert torch.equal(tensor[outside], original), name


def test_a_child_of_half_weight_takes_half_a_step(scene, views):
    half = Selection(torch.full((len(scene.canonical),), 0.5))
    work = grown(scene, views, half)
    start = work.parameters.detached()
    whole = FitEdits(scene, views, GROWS, None, "cpu")
    whole.load_state(*_state_without_selection(work))
    for one in (work, whole):
        one.step()
    step, full = (
        work.parameters.detached().means - start.means,
        whole.parameters.detached().means - start.means,
    )
    moved = full.abs() > 1e-7
    assert bool(moved[len(scene.canonical) :].any())
    assert torch.allclose(step, full / 2, atol=1e-6)


def _state_without_selection(work: FitEdits):
    tensors, numbers = work.state()
    return {name: t.clone() for name, t in tensors.items()}, numbers


def test_an_edit_of_nothing_but_held_gaussians_is_idle(scene, views):
    nothing = Selection(torch.zeros(len(scene.canonical)))
    made = m.result(fit_edits.run(scene, views, replace(GROWS, iterations=5), nothing))
    assert all(
        torch.equal(t, scene.canonical.tensors()[name]) for name, t in made.canonical.tensors().items()
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", ["masked", "per frame", "hexplane"])
def test_densifying_with_a_selection_on_a_gpu_gives_the_scene_back_where_it_was(scene, views, kind):
    moving = scene.with_(deformation=deformations(scene)[kind])
    weights = scene.canonical.means[:, 2].clamp(0, 1)
    made = m.result(fit_edits.run(moving, views, GROWS, Selection(weights), "cuda"))
    assert len(made.canonical) > len(scene.canonical) and made.device.type == "cpu"
    assert all(t.device.type == "cpu" for t in made.deformation.tensors().values())
    assert len(made.at(0.5)) == len(made.canonical)

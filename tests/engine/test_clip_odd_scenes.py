"""Clips of scenes that are not quite as they should be: floaters, odd times, noise, colors that a clip does not hold."""

import pytest
import torch

from engine import messages as m
from engine.deform import PerFrame
from engine.errors import InputError
from engine.playback import bake_parts, samples
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import decode_player_file
from engine.scene import Gaussians, Scene4D
from engine.steps import bake_clip
from tests.scenes import Swing, moving_scene


def baked(scene: Scene4D, **config) -> bake_clip.Baked:
    return m.result(bake_clip.run(scene, bake_clip.Config(**config)))


def played(moments: list[Gaussians], blends: bool = True) -> Scene4D:
    scene, times = moving_scene(len(moments[0]), views=2), torch.arange(len(moments)).double()
    return scene.with_(
        canonical=moments[0], times=times, deformation=PerFrame.of(moments, times, blends=blends)
    )


def error(scene: Scene4D, made: bake_clip.Baked, player_file: PlayerFile) -> float:
    return max(
        float(
            (player_file.at(t).means.double() - scene.at(t).means[made.indices].double()).norm(dim=-1).max()
        )
        / player_file.radius
        for t in scene.times.tolist()
    )


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("most", [300_000, 30])
def test_a_floater_far_away_costs_the_others_no_precision(distance, most):
    scene = moving_scene(60, moments=9, views=2)
    means = scene.canonical.means.clone()
    means[7] = torch.tensor([distance, 0.0, -distance])
    scene = scene.with_(canonical=scene.canonical.with_(means=means))
    made = baked(scene, most=most)
    player_file = decode_player_file(made.data, "a")
    assert error(scene, made, player_file) <= player_file.max_error <= 0.002
    if distance > 1e3:
        assert 7 not in made.indices.tolist() and "1 of 60" in player_file.notes[0]
    elif most > 60:
        assert 7 in made.indices.tolist() and not player_file.notes
    assert len(player_file.base) == min(most, 59 if distance > 1e3 else 60)


def test_the_subject_is_kept_however_far_from_the_origin_it_lies():
    scene = moving_scene(60, moments=5, views=2)
    away = scene.canonical.with_(means=scene.canonical.means + 1e4)
    scene = scene.with_(canonical=away, bounds=scene.bounds + 1e4)
    made = baked(scene)
    assert len(made.player_file.base) == 60
    assert error(scene, made, made.player_file) <= made.player_file.max_error


@pytest.mark.parametrize("times", [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [1.0, 0.5, 0.0]])
def test_times_that_do_not_ascend_are_refused_before_anything_is_baked(times):
    scene = moving_scene(20, views=2).with_(times=torch.tensor(times, dtype=torch.float64))
    with pytest.raises(InputError, match="not in ascending order"):
        baked(scene)


def test_noise_between_jumps_is_not_taken_for_motion():
    still = moving_scene(40, views=2).canonical
    jumped = [still.with_(means=still.means + 0.3 + 1e-7 * i) for i in range(8)]
    player_file = baked(played([still, *jumped], blends=False)).player_file
    assert player_file.motion.interpolation == "hold"
    torch.testing.assert_close(player_file.at(0.99).means, player_file.at(0.0).means)


def test_changes_that_a_clip_does_not_hold_are_told():
    still = moving_scene(40, views=2).canonical
    moments = []
    for i in range(5):
        sh = still.sh.clone()
        sh[:, 1:] += 0.2 * i
        moments.append(still.with_(sh=sh))
    scene = played(moments)
    assert any("View-dependent color" in note for note in baked(scene).player_file.notes)
    assert not baked(scene, sh_degree=0).player_file.notes  # nothing of it is kept anyway
    assert not baked(played([still] * 5)).player_file.notes


def test_a_title_that_is_no_text_is_written_all_the_same():
    made = m.result(bake_clip.run(moving_scene(20, views=2), title='a\udcff"</script>'))
    assert decode_player_file(made.data, "a").title == 'a?"</script>'


def test_slow_motion_follows_the_scene_between_its_moments(monkeypatch):
    scene = moving_scene(60, moments=10, views=2).with_(deformation=Swing(period=0.45))
    halfway = ((scene.times[1:] + scene.times[:-1]) / 2).tolist()

    def between(made):
        return error(scene.with_(times=torch.tensor(halfway)), made, made.player_file)

    made = baked(scene)
    assert error(scene, made, made.player_file) <= made.player_file.max_error <= 0.002
    assert between(made) < 0.004 and len(made.player_file.motion.knots) > 10
    # where Gaussians are too many for that, a knot a moment is the most
    monkeypatch.setattr(bake_parts, "BETWEEN", 0)
    least = baked(scene)
    assert error(scene, least, least.player_file) <= least.player_file.max_error <= 0.002
    assert len(least.player_file.motion.knots) == 10 and between(least) > 0.05
    # what is straight between its moments needs no more
    bent = played([scene.at(t) for t in scene.times.tolist()])
    player_file = baked(bent).player_file
    assert player_file.motion.interpolation == "linear" and len(player_file.motion.knots) == 10


def test_a_scene_of_very_many_is_asked_at_its_moments_alone(monkeypatch):
    asked = []

    class Counted(Swing):
        def deform(self, gaussians, seconds):
            asked.append(seconds)
            return super().deform(gaussians, seconds)

    scene = moving_scene(60, moments=9, views=2).with_(deformation=Counted())
    baked(scene)
    many = len(asked)
    asked.clear()
    monkeypatch.setattr(samples, "MANY", 60 * 18 - 1)
    made = baked(scene)
    assert len(asked) == many - 8 and error(scene, made, made.player_file) <= 0.002

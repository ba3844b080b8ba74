"""The reconstruction model: tokens and frames, what its maps mean, what pruning and strides leave, and its file."""

import json
from dataclasses import replace

import pytest
import torch

from engine.errors import InputError
from engine.files.safetensors_writer import write_tensors
from engine.generation.reconstruction import Pass, reconstruct
from engine.generation.video_flow import video_flow
from engine.models import reconstruction as ldrm
from engine.models.loading import on_meta
from engine.models.reconstruction import files, gaussian_maps, matching, tokens, upsample
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Gaussians, plucker_rays, relative_to_first, rotations
from engine.scene.cameras import look_at

UP = torch.tensor([0.0, -1, 0])
PIXELS = ldrm.pixels_format(4, 8)
TINY = ldrm.LdrmConfig(
    latent=PIXELS,
    patch=1,
    width=24,
    blocks=2,
    heads=2,
    deconv_channels=(12, 10, 8),
    head_channels=16,
    time_stride=4,
    space_stride=2,
    distance=2.0,
    opacity_bias=1.0,
    match_channels=8,
)
OURS = replace(TINY, image_input=True, lifetimes=True, correspondences="correlation")


def path(frames: int = 5, size: tuple[int, int] = (24, 16), step: float = 0.1) -> Cameras:
    """A path sideways, past a scene around the origin."""
    width, height = size
    K = torch.tensor([[20.0, 0, width / 2], [0, 20, height / 2], [0, 0, 1]], dtype=torch.float64)
    poses = [look_at(torch.tensor([step * i, 0.2, -2]), torch.zeros(3), UP) for i in range(frames)]
    names = tuple(str(i) for i in range(frames))
    return Cameras(torch.stack(poses), K.expand(frames, 3, 3), (size,) * frames, names)


def model_of(config: ldrm.LdrmConfig, seed: int = 0) -> ldrm.Ldrm:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ldrm.Ldrm(config).eval()


def inputs(frames: int = 5, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, rays and video of random pixels."""
    video = torch.rand(batch, frames, 16, 24, 3, generator=torch.Generator().manual_seed(1))
    rays = plucker_rays(relative_to_first(path(frames))).float()[None].expand(batch, -1, -1, -1, -1)
    return ldrm.pixels_to_latents(video, PIXELS), rays, video


def stirred(model: ldrm.Ldrm) -> ldrm.Ldrm:
    """With a deformation head that does something."""
    with torch.no_grad():
        model.head_def.out.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(2))
    return model


# -- tokens and frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "latent, patch, frames, size",
    [
        (ldrm.COGVIDEOX, 2, 9, (32, 48)),
        (ldrm.WAN_2_2, 2, 5, (64, 32)),
        (ldrm.WAN_2_1, 1, 1, (16, 16)),
        (PIXELS, 1, 13, (16, 24)),
    ],
)
def test_tokens_are_the_latent_grid_and_frames_those_of_the_video(latent, patch, frames, size):
    height, width = size
    cell = latent.space_factor * patch
    stages = cell.bit_length() - 1
    config = replace(TINY, latent=latent, patch=patch, deconv_channels=(8,) * stages)
    n, h, w = latent.latents(frames), height // latent.space_factor, width // latent.space_factor
    z = torch.randn(1, latent.channels, n, h, w)
    rays = plucker_rays(path(frames, (width, height))).float()[None]
    patches, poses = tokens.token_inputs(z, rays, config)
    assert patches.shape[:4] == poses.shape[:4] == (1, n, h // patch, w // patch)
    assert poses.shape[-1] == 6 * latent.time_factor * cell**2
    features = upsample.Upsampler(config)(torch.randn(1, n, h // patch, w // patch, 24))
    assert features.shape[1:4] == (latent.time_factor * (n - 1) + 1, height, width)


def test_pixels_as_latents_lose_nothing_and_the_first_frame_is_alone():
    video = torch.rand(2, 9, 16, 24, 3)
    z = ldrm.pixels_to_latents(video, PIXELS)
    assert z.shape == (2, PIXELS.channels, 3, 2, 3)
    torch.testing.assert_close(ldrm.latents_to_pixels(z, PIXELS), video, atol=1e-6, rtol=0)
    changed = video.clone()
    changed[:, 1:] = 0
    torch.testing.assert_close(ldrm.pixels_to_latents(changed, PIXELS)[:, :, 0], z[:, :, 0])


def test_a_stride_computes_the_same_features_and_only_those():
    up = upsample.Upsampler(TINY)
    x = torch.randn(1, 3, 2, 3, TINY.width)
    whole = up(x)
    for time, space in ((1, 2), (2, 1), (4, 4)):
        torch.testing.assert_close(
            up(x, time, space), whole[:, ::time, ::space, ::space], atol=1e-6, rtol=1e-5
        )


def test_the_first_frame_depends_on_no_later_latent():
    up = upsample.Upsampler(TINY)
    x = torch.randn(1, 3, 2, 3, TINY.width)
    later = x.clone()
    later[:, 1:] = 0
    torch.testing.assert_close(up(x)[:, 0], up(later)[:, 0])


def test_camera_centers_come_back_from_rays():
    cameras = path(5)
    torch.testing.assert_close(
        tokens.ray_origins(plucker_rays(cameras).float()), cameras.centers.float(), atol=1e-5, rtol=0
    )


# -- what the maps mean -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correspondences", ["none", "correlation", "flow"])
def test_an_untrained_deformation_head_is_the_identity_and_renders_the_static_scene(correspondences):
    model = model_of(replace(TINY, correspondences=correspondences))
    z, rays, _ = inputs()
    found = model(z, rays)
    flow = torch.rand(1, 2, 2, 8, 12, 3) if correspondences == "flow" else None
    motion = model.motion(found, torch.tensor([1.0, 3.0]), flow)
    assert not bool(motion.shifts.any() or motion.growth.any())
    assert bool((motion.turns == torch.tensor(gaussian_maps.IDENTITY)).all())
    drawn = [drawn_image(gaussian_maps.moved(found.gaussians, m, 1)) for m in (None, motion)]
    torch.testing.assert_close(drawn[1], drawn[0], atol=1e-6, rtol=0)


def drawn_image(activated):
    gaussians = Gaussians.from_activated(activated)
    with torch.no_grad():
        return render_gaussians(gaussians, relative_to_first(path(1)), choose("auto")).rgb[0]


def test_a_turn_is_applied_in_the_gaussians_own_axes():
    model = model_of(TINY)
    z, rays, _ = inputs()
    maps = model(z, rays).gaussians
    turn = rotations.normalise(torch.tensor([0.9, 0.1, -0.3, 0.2]))
    zero = torch.zeros(*maps.means.shape[:2], 1, *maps.means.shape[2:])
    motion = ldrm.Motion(zero, turn.expand(*zero.shape[:-1], 4), zero)
    q0, q1 = (gaussian_maps.moved(maps, m, 0).quats for m in (None, motion))
    wanted = rotations.quats_to_matrices(q0) @ rotations.quats_to_matrices(turn)
    torch.testing.assert_close(rotations.quats_to_matrices(q1), wanted, atol=1e-5, rtol=0)
    still = ldrm.Motion(zero, torch.tensor(gaussian_maps.IDENTITY).expand(*zero.shape[:-1], 4), zero)
    torch.testing.assert_close(gaussian_maps.moved(maps, still, 0).quats, q0)


def test_two_paths_with_one_first_camera_put_a_still_wall_in_one_place():
    # a wall at z = 3 of the first camera
    for step in (0.1, -0.25):
        cameras = relative_to_first(path(5, step=step))
        rays = plucker_rays(cameras).float()[None]
        origins, directions = tokens.ray_origins(rays), rays[..., 3:]
        distances = (3 - origins[:, :, None, None, 2]) / directions[..., 2]
        raw = torch.zeros(*rays.shape[:-1], gaussian_maps.GAUSSIAN_CHANNELS)
        raw[..., 0] = (distances / TINY.distance).log()
        angles = tokens.pixel_angles(rays)
        maps = gaussian_maps.gaussian_maps(raw, origins, directions, angles, torch.arange(5), TINY)
        torch.testing.assert_close(maps.means[..., 2], torch.full_like(distances, 3.0), atol=1e-4, rtol=0)
        for t in range(5):
            pixels, _ = cameras.project(maps.means[0, t].reshape(-1, 3).double(), t)
            torch.testing.assert_close(pixels[1], torch.tensor([1.5, 0.5]).double(), atol=1e-3, rtol=0)


def test_a_match_moves_a_point_onto_the_ray_that_shows_it_by_the_shortest_way():
    rays = plucker_rays(path(1)).float()
    means = 0.3 * torch.randn(1, 1, 4, 6, 3)
    pixels = torch.rand(1, 1, 4, 6, 2)
    points = torch.randn(1, 8, 12, 3)
    found = matching.lifted(means, pixels, rays, points, torch.rand(1, 1, 4, 6, 2))
    moved = (means + found[..., :3]).reshape(-1, 3).double()
    seen, depth = path(1).project(moved, 0)
    inside = ((pixels > 0.1) & (pixels < 0.9)).all(-1).reshape(-1)
    wanted = pixels.reshape(-1, 2).double() * torch.tensor([24.0, 16.0]).double()
    assert float((seen - wanted)[inside].abs().max()) < 0.1 and bool((depth > 0).all())
    direction = matching.sampled(rays, pixels)[..., 3:]
    assert float((found[..., :3] * direction).sum(-1).abs().max()) < 1e-3
    torch.testing.assert_close(means + found[..., 3:6], matching.sampled(points, pixels))


def test_correlation_finds_cells_that_moved():
    head = model_of(replace(TINY, correspondences="correlation")).head_def
    features = torch.nn.functional.normalize(torch.randn(1, 8, 12, 8), dim=-1)
    with torch.no_grad():
        head.match.sharpness.fill_(5.0)
        found = head.compare(features[:, None], features.roll(2, 2))
    shift = (found.pixels - matching.cell_centers(8, 12, features.device).view(8, 12, 2))[0, 0, :, :9]
    torch.testing.assert_close(shift.mean((0, 1)), torch.tensor([2 / 12, 0.0]), atol=0.01, rtol=0)
    assert float(found.quality[0, 0, :, :9, 1].mean()) > 0.9


def test_gaussians_fade_away_from_their_own_frame():
    model = model_of(OURS)
    z, rays, video = inputs()
    found = model(z, rays, video)
    assert found.gaussians.frames.tolist() == [0, 4]
    presence = model.motion(found, torch.arange(5.0)).presence
    assert presence is not None
    assert bool((presence[:, 0, 0] == 1).all() and (presence[:, 1, 4] == 1).all())
    assert bool((presence[:, 0].diff(dim=1) < 0).all() and (presence[:, 1].diff(dim=1) > 0).all())


def test_what_hardly_moves_stands_still():
    shifts = torch.tensor([[0.004, 0, 0], [0.006, 0, 0]]).view(1, 1, 1, 1, 2, 3)
    turns = rotations.normalise(torch.tensor([1.0, 0.1, 0, 0])).expand(1, 1, 1, 1, 2, 4)
    settled = ldrm.Motion(shifts, turns, 0 * shifts + 0.1).settled(0.005)
    assert not bool(settled.shifts[..., 0, :].any() or settled.growth[..., 0, :].any())
    torch.testing.assert_close(settled.shifts[..., 1, :], shifts[..., 1, :])
    assert settled.turns[..., 0, :].flatten().tolist() == list(gaussian_maps.IDENTITY)


def test_pruning_changes_no_pixel_by_more_than_its_bound():
    generator = torch.Generator().manual_seed(0)
    count, least = 400, 0.005
    opacities = torch.where(torch.rand(count, generator=generator) < 0.5, 0.6, 0.0049)
    means = torch.rand(count, 3, generator=generator) - 0.5
    rgb = torch.rand(count, 3, generator=generator)
    quats = torch.randn(count, 4, generator=generator)
    shape = (1, 1, 20, 20)
    maps = ldrm.GaussianMaps(
        means.view(*shape, 3), rotations.normalise(quats).view(*shape, 4), torch.full((*shape, 3), 0.08),
        opacities.view(shape), rgb.view(*shape, 3), torch.ones(shape), None, torch.zeros(1),
    )  # fmt: skip
    whole = gaussian_maps.moved(maps, None, 0)
    index = ldrm.kept(maps, least)
    cameras = path(1)
    rasterizer = choose("auto")

    def draw(rows):
        gaussians = Gaussians.from_activated(whole).map(lambda x: x[rows])
        return render_gaussians(gaussians, cameras, rasterizer).rgb[0]

    apart = (draw(torch.arange(count)) - draw(index)).abs().amax()
    removed = count - len(index)
    assert 0 < removed < count
    assert 0 < float(apart) <= 1 - (1 - least) ** removed + 1e-5


# -- the whole model --------------------------------------------------------------------------------------------------


def test_the_full_size_builds_without_memory_and_has_its_number_of_parameters():
    model = on_meta(ldrm.Ldrm)
    config = model.config
    assert (config.blocks, config.width, gaussian_maps.DEFORMATION_CHANNELS) == (16, 1024, 10)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts["blocks"] == 16 * (12 * 1024**2 + 15 * 1024)
    assert sum(counts.values()) == 220_781_206
    wan = on_meta(
        lambda: ldrm.Ldrm(replace(config, latent=ldrm.WAN_2_2, deconv_channels=(256, 128, 64, 64, 64)))
    )
    assert wan.embed.latent.in_features == 48 * 4


def test_every_parameter_learns():
    model = stirred(model_of(OURS))
    z, rays, video = inputs()
    found = model(z, rays, video)
    motion = model.motion(found, torch.tensor([1.0, 2.0]))
    a = gaussian_maps.moved(found.gaussians, motion, 1)
    total = sum(
        x.square().sum() for x in (a.means, a.quats[:, :3], a.scales, a.opacities, a.sh, motion.pixels)
    )
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]


@pytest.mark.parametrize("config", [TINY, OURS], ids=["paper", "ours"])
def test_a_pass_gives_the_scene_that_the_maps_say(config):
    model = stirred(model_of(config))
    z, rays, video = inputs()
    cameras, seconds = path(5), torch.arange(5).double() / 8
    scene = reconstruct(model, z[0], cameras, seconds, Pass(saves_half=False), video[0])
    with torch.no_grad():
        found = model(z, rays, video)
        motion = model.motion(found, torch.arange(5.0)).settled(config.min_motion)
    assert len(scene.canonical) == 2 * 8 * 12 and scene.deformation.kind == "flipbook"
    pose = cameras.camera_to_world[0].float()
    for t in range(5):
        wanted = gaussian_maps.moved(found.gaussians, motion, t)
        now = scene.at(float(seconds[t])).activated()
        torch.testing.assert_close(now.means, wanted.means @ pose[:3, :3].T + pose[:3, 3], atol=1e-5, rtol=0)
        torch.testing.assert_close(now.opacities, wanted.opacities, atol=1e-5, rtol=0)
        torch.testing.assert_close(now.scales, wanted.scales, atol=1e-6, rtol=1e-3)
        turned = pose[:3, :3] @ rotations.quats_to_matrices(wanted.quats)
        torch.testing.assert_close(rotations.quats_to_matrices(now.quats), turned, atol=1e-4, rtol=0)


def test_a_world_in_another_unit_gives_the_same_scene_in_that_unit():
    model = stirred(model_of(TINY))
    z, _, _ = inputs()
    cameras = path(5)
    larger = cameras.world_to_camera.clone()
    larger[:, :3, 3] *= 10
    larger = Cameras(larger, cameras.K, cameras.sizes, cameras.names)
    seconds = torch.arange(5).double()
    one, ten = (
        reconstruct(model, z[0], c, seconds, Pass(unit=u, saves_half=False)).at(2.0).activated()
        for c, u in ((cameras, 1.0), (larger, 10.0))
    )
    torch.testing.assert_close(ten.means, 10 * one.means, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ten.scales, 10 * one.scales, atol=1e-5, rtol=1e-4)


def test_coarser_strides_give_fewer_gaussians():
    model = model_of(TINY)
    z, _, _ = inputs(9)
    seconds = torch.arange(9).double()
    counts = [
        len(reconstruct(model, z[0], path(9), seconds, Pass(time_stride=t, space_stride=s)).canonical)
        for t, s in ((None, None), (8, None), (8, 4))
    ]
    assert counts == [3 * 96, 2 * 96, 2 * 24]


# -- flow from the video ----------------------------------------------------------------------------------------------

SHIFT = torch.tensor([1.5, -0.75])


def sliding(frames: int = 6, size: tuple[int, int] = (64, 48)) -> torch.Tensor:
    """A pattern of waves [T, H, W, 3] that moves by `SHIFT` pixels (x, y) from frame to frame."""
    y, x = torch.meshgrid(torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5, indexing="ij")
    generator = torch.Generator().manual_seed(5)
    waves, phases = 0.9 * torch.randn(7, 2, generator=generator), 6.3 * torch.rand(7, generator=generator)
    video: list[torch.Tensor] = []
    for t in range(frames):
        places = torch.stack([x, y], dim=-1) - t * SHIFT
        video.append(0.5 + 0.06 * (places @ waves.T + phases).sin().sum(-1))
    return torch.stack(video)[..., None].expand(-1, -1, -1, 3).clamp(0, 1)


def slid(frames: int, every: int, space: int, skip: int, size: tuple[int, int] = (64, 48)) -> torch.Tensor:
    """Where the cells of every n-th frame of `sliding` are in its frames, (x, y) in 0..1 [A, T, h, w, 2]."""
    x, y = ((torch.arange(0, s // space, skip) + 0.5) * space for s in size)
    cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    passed = torch.arange(frames) - torch.arange(0, frames, every)[:, None]
    return (cells + passed[..., None, None, None] * SHIFT) / torch.tensor(size)


@pytest.mark.parametrize("every, space, skip", [(4, 2, 1), (2, 4, 2), (1, 8, 1)])
def test_flow_of_a_video_says_where_each_cell_of_each_frame_goes(every, space, skip):
    found, wanted = video_flow(sliding(), every, space, skip), slid(6, every, space, skip)
    assert found.shape == (*wanted.shape[:4], 3)
    seen, off = found[..., 2] == 1, (found[..., :2] - wanted) * torch.tensor([64, 48])
    assert float(seen.float().mean()) > 0.7 and float(off[seen].norm(dim=-1).quantile(0.9)) < 0.3
    own = torch.arange(len(found)), torch.arange(0, 6, every)
    torch.testing.assert_close(found[own][..., :2], wanted[own])
    assert bool(seen[own].all())
    # what leaves the image is not followed any more
    assert not bool(seen[(wanted < -0.01).any(-1) | (wanted > 1.01).any(-1)].any())


@pytest.mark.parametrize("skip", [1, 2])
def test_a_model_that_reads_flow_finds_it_in_the_video(skip):
    model = stirred(model_of(replace(TINY, correspondences="flow")))
    video = sliding(5)
    z = ldrm.pixels_to_latents(video[None], PIXELS)[0]
    seconds, settings = torch.arange(5).double(), Pass(space_stride=2 * skip, saves_half=False)

    def means(flow: torch.Tensor | None, given: torch.Tensor | None = video) -> torch.Tensor:
        return reconstruct(model, z, path(5, (64, 48)), seconds, settings, given, flow).at(3.0).means

    found, own = means(None), video_flow(video, 4, 2, skip)
    torch.testing.assert_close(found, means(own), atol=0, rtol=0)
    right, seen = slid(5, 4, 2, skip), own[..., 2:]
    exact = torch.where(seen > 0, right, own[..., :2])
    still = torch.cat([right[:, :1].expand_as(right), torch.ones_like(seen)], dim=-1)
    off_exact, off_still = (
        float((found - means(flow)).abs().median()) for flow in (torch.cat([exact, seen], dim=-1), still)
    )
    assert off_exact < 0.2 * off_still
    with pytest.raises(InputError, match="REC-007"):
        means(None, None)
    with pytest.raises(InputError, match=r"4 frames of 64×48.*5 cameras.*GEN-052"):
        means(None, video[:4])


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_refused():
    model = model_of(OURS)
    z, rays, video = inputs()
    cases = {
        "REC-001": lambda: PIXELS.latents(7),
        "REC-003": lambda: model(z[:, :16], rays, video),
        "REC-004": lambda: tokens.token_inputs(z, rays, replace(TINY, patch=2, deconv_channels=(8,) * 4)),
        "REC-005": lambda: model(z, rays[:, :4], video),
        "REC-006": lambda: model(z, rays, video, time_stride=2),
        "REC-007": lambda: flow_without_flow(z, rays),
        "REC-008": lambda: model(z, rays),
    }
    for code, call in cases.items():
        with pytest.raises(InputError) as error:
            call()
        assert error.value.code == code, code
    with pytest.raises(InputError, match="use 5 or 9"):
        PIXELS.latents(7)


def flow_without_flow(z, rays):
    model = model_of(replace(TINY, correspondences="flow"))
    return model.motion(model(z, rays), torch.tensor([1.0]))


# -- the file ---------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same_model(tmp_path):
    model = stirred(model_of(OURS))
    path_ = tmp_path / "ldrm.safetensors"
    branch = {"patch_embed.weight": torch.randn(3, 2)}
    ldrm.save_ldrm(model, path_, branch)
    names = set(files.read_header(path_).shapes)
    prefixes = (
        "ldrm.embed.",
        "ldrm.blocks.1.",
        "ldrm.deconv.3.",
        "ldrm.head_gs.",
        "ldrm.head_def.",
        "backbone_cam.",
    )
    assert all(any(name.startswith(p) for name in names) for p in prefixes)
    everything = (*prefixes, "ldrm.blocks.", "ldrm.deconv.")
    assert all(name.startswith(everything) for name in names)
    again = ldrm.load_ldrm(path_)
    assert again.config == model.config
    z, rays, video = inputs()
    with torch.no_grad():
        a, b = (m.motion(m(z, rays, video), torch.tensor([2.0])).shifts for m in (model, again))
    assert torch.equal(a, b)
    assert torch.equal(files.load_camera_branch(path_)["patch_embed.weight"], branch["patch_embed.weight"])


def test_files_that_are_not_what_they_say_are_refused(tmp_path):
    model = model_of(TINY)
    file = tmp_path / "ldrm.safetensors"
    state = {f"ldrm.{name}": value for name, value in model.state_dict().items()}
    described = {"config": json.dumps(model.config.to_json())}
    first = next(iter(state))

    def refused(tensors, metadata, code, word):
        write_tensors(file, tensors, metadata)
        with pytest.raises(InputError, match=word) as error:
            ldrm.load_ldrm(file)
        assert error.value.code == code

    refused({n: t for n, t in state.items() if n != first}, described, "MOD-001", "1 of .* missing")
    refused({**state, "extra": torch.zeros(1)}, described, "MOD-001", "1 are unknown")
    refused({**state, first: torch.zeros(2)}, described, "MOD-001", "another shape")
    refused(state, {}, "REC-009", "no description")
    for change, word in (
        ({"kind": "other"}, "kind is"),
        ({"plucker": "direction,moment"}, "rays are ordered"),
        ({"width": 25}, "cannot be split"),
        ({"blocks": "two"}, "blocks is"),
        ({"depth": 2}, "depth is unknown"),
        ({"deconv_channels": [8]}, "deconv_channels"),
        ({"correspondences": "guess"}, "correspondences is"),
    ):
        refused(state, {"config": json.dumps(model.config.to_json() | change)}, "REC-002", word)

"""Makes the pictures of the help pages from real runs on what ships.

    python tools/help_pictures.py [--scene FILE] [--avatar FILE] [NODE …]

web/docs/pictures/<node id>.jpg, each of at most 60 KB, and one of the guide's, capture_plan. Without --scene the demo
clip is trained first (about three minutes on two cores), without --avatar the talking head (as long). Pictures of the
canvas itself come from help_canvas.py.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import textwrap
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
from engine import messages as m  # noqa: E402
from engine.capture.readers import LoadOptions, load_video  # noqa: E402
from engine.diffusion.loading import embedded, load  # noqa: E402
from engine.figures.color_maps import depth_picture, flow_picture, marked  # noqa: E402
from engine.figures.contact_sheets import before_and_after, below, sheet  # noqa: E402
from engine.figures.drawing import theme, width_of, write  # noqa: E402
from engine.heads import Head, triangle_frames  # noqa: E402
from engine.heads.landmarks import FaceFrame, motion_of_faces  # noqa: E402
from engine.io.heads import load_head  # noqa: E402
from engine.io.scene_file import load_scene  # noqa: E402
from engine.masks.lift import render_selection  # noqa: E402
from engine.messages import result  # noqa: E402
from engine.render import choose, render_gaussians  # noqa: E402
from engine.render.mesh import visible_faces  # noqa: E402
from engine.scene import Cameras, Scene4D, ViewSet  # noqa: E402
from engine.steps import (  # noqa: E402
    align_depth,
    camera_embedding,
    camera_path,
    capture_images,
    decode_latents,
    delta_edit,
    drive_head,
    edit_head,
    edit_views,
    evaluate_edit,
    evaluate_scene,
    export_scene,
    fit_edits,
    fit_scene,
    grade_scene,
    head_masks,
    import_scene,
    latents_to_scene,
    lift_mask,
    lift_video,
    pose_head,
    preflight,
    prepare_gpu,
    refine_score,
    render_scene,
    scene_views,
    sheet_to_views,
    splat_to_scene,
    train_latents,
    views_to_sheet,
)

PICTURES = REPOSITORY / "web" / "docs" / "pictures"
GUIDE = REPOSITORY / "docs" / "pictures"
CLIP = REPOSITORY / "assets" / "clips" / "walker"
HEAD_CLIP = REPOSITORY / "assets" / "clips" / "talking_head"
DRIVER = HEAD_CLIP / "driver" / "flame_param.npz"
FRONT = 3  # the view in front of the talking head
MOST_BYTES = 60_000
WIDTH = 640
GOLD, LEAVE = "turn it into a gold statue", "leave it as it is"
VIEWS = "0 2 4"  # what is shown of an edit
INK = theme("dark")


def save(picture: Image.Image, node: str) -> Path:
    """As web/docs/pictures/<node>.jpg (the guide's own: docs/pictures), in the best quality below MOST_BYTES."""
    if picture.width > WIDTH:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data = b""
    for quality in range(88, 30, -6):
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        data = buffer.getvalue()
        if len(data) <= MOST_BYTES:
            break
    path = (PICTURES if node.startswith("GS4D_") else GUIDE) / f"{node}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lines_of_text(lines: list[str], size: int = 12) -> Image.Image:
    """Lines of words on the dark page."""
    wide = max(width_of(line, size) for line in lines) + 24
    picture = Image.new("RGB", (wide, len(lines) * (size + 6) + 20), INK.paper)
    pen = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        write(pen, (12, 10 + i * (size + 6)), line, size, INK.text)
    return picture


class Studio:
    """The clip, the scene and the edits that the pictures show; each is made when it is first asked for."""

    def __init__(self, scene: Path | None, avatar: Path | None) -> None:
        self.file, self.avatar_file = scene, avatar

    @cached_property
    def video(self) -> Any:
        return load_video(CLIP)

    @cached_property
    def scene(self) -> Scene4D:
        if self.file is not None:
            return load_scene(self.file)
        return result(fit_scene.run(self.video, fit_scene.Config(iterations=4300)))

    @cached_property
    def head(self) -> Head:
        return load_head(motion=HEAD_CLIP)

    @cached_property
    def avatar(self) -> Scene4D:
        if self.avatar_file is not None:
            return load_scene(self.avatar_file)
        config = fit_scene.Config(iterations=1500, budget=14000, max_seconds=180, preview_every=0)
        return result(fit_scene.run(load_video(HEAD_CLIP), config, head=self.head))

    @cached_property
    def model(self) -> Any:
        return load(embedded())

    @cached_property
    def edited(self) -> ViewSet:
        config = edit_views.Config(prompt=GOLD, detail="from originals")
        return result(edit_views.run(self.scene, self.model, config, self.video))

    @cached_property
    def gold(self) -> Scene4D:
        return result(fit_edits.run(self.scene, self.edited, fit_edits.Config(iterations=200)))

    @cached_property
    def field(self) -> Any:
        config = train_latents.Config(iterations=300, moments="0", resolution=208)
        return result(train_latents.run(self.scene, self.model, config, self.video, checkpoint=None))

    @cached_property
    def gold_field(self) -> Any:
        config = delta_edit.Config(
            source_prompt=LEAVE, prompt=GOLD, iterations=50, guidance_scale=1.4, image_guidance_scale=1.0,
            feature_lr=0.1, weighting="picture", min_timestep=0.6, max_timestep=1.0, moments="0",
        )  # fmt: skip
        return result(delta_edit.run(self.field, self.model, config))

    @torch.no_grad()
    def draw(self, scene: Scene4D, view: int, share: float) -> Tensor:
        """[H, W, 3] of a scene through a captured camera, at a share of its time."""
        return self.at(scene, view, float(scene.times[0] + (scene.times[-1] - scene.times[0]) * share))

    @torch.no_grad()
    def at(self, scene: Scene4D, view: int, seconds: float) -> Tensor:
        """The same at a time in seconds."""
        picture = render_gaussians(
            scene.at(seconds), scene.rig[view], choose("auto", "cpu"), scene.background
        )
        return picture.rgb[0].clamp(0, 1)


def load_multi_view_video(studio: Studio) -> Image.Image:
    video, stacks = studio.video, []
    for view in range(0, video.views, 2):
        frame = video.source.read(view, 0)
        mask = frame.mask.float()[..., None].expand(-1, -1, 3) / 255
        stacks.append([frame.image.float() / 255, mask])
    names = [video.cameras.names[view] for view in range(0, video.views, 2)]
    return sheet(stacks, names, len(stacks), "pictures and masks of one moment", width=WIDTH)


def capture_images_pictures(studio: Studio) -> Image.Image:
    made = result(capture_images.run(studio.video, capture_images.Config("0 3 6 9", "0 12")))
    names = [f"view {view}, frame {moment}" for view, moment in made.pairs]
    return sheet([[image] for image in made.images], names, 8, "the batch, in order", width=WIDTH)


def add_depth_pictures(studio: Studio) -> Image.Image:
    """Depth of a trained scene instead of a network's."""
    config = capture_images.Config("0 3 6 9", "0")
    images = result(capture_images.run(studio.video, config)).images
    path = [studio.scene.rig[view] for view in (0, 3, 6, 9)]
    now, rasterizer = studio.scene.at(0.0), choose("auto", studio.scene.device)
    drawn = [render_gaussians(now, camera, rasterizer, want_depth=True) for camera in path]
    depth = torch.cat([each.depth * (each.alpha > 0.5) for each in drawn])
    shades = depth_picture(depth, (depth > 0).float())
    stacks = [list(pair) for pair in zip(images, shades, strict=True)]
    return sheet(
        stacks, [f"view {v}" for v in (0, 3, 6, 9)], 4, "images and their depth: near is bright", width=WIDTH
    )


def preflight_check(studio: Studio) -> Image.Image:
    messages = list(preflight.run(studio.video))
    preview = [message.image for message in messages if isinstance(message, m.Preview)][-1]
    report = messages[-1].value
    words = [line[:105].replace("×", "x") for line in report.text().splitlines()]  # the font lacks the sign
    return below(sheet([[preview]], width=WIDTH), lines_of_text(words))


def lift_video_pictures(studio: Studio) -> Image.Image:
    """A room made in code, filmed by a moving camera: what was found, and the scene from beside its path."""
    from tests.filmed_room import Room, beside, film_clip, scrambled, walk

    clip = film_clip(Room(), walk(24))
    messages = list(lift_video.run(clip.images, scrambled(clip.depth), config=lift_video.Config(fov=60)))
    preview = [message.image for message in messages if isinstance(message, m.Preview)][-1]
    scene = messages[-1].value.scene
    stacks = [[drawn(scene, beside(scene.rig[12], degrees), 12)] for degrees in (-20, -10, 10, 20)]
    captions = [f"{degrees:+d} degrees" for degrees in (-20, -10, 10, 20)]
    title = "frame 12 from cameras beside the path; black: not seen in any frame"
    return below(sheet([[preview]], width=WIDTH), sheet(stacks, captions, 4, title, width=WIDTH))


def drawn(scene: Scene4D, camera: Cameras, frame: int) -> Tensor:
    with torch.no_grad():
        gaussians = scene.at(float(scene.times[frame]))
        return render_gaussians(gaussians, camera, choose("auto"), scene.background).rgb[0].clamp(0, 1)


def train_scene(studio: Studio) -> Image.Image:
    at, seen = (50, 200, 600, 1500), []
    config = fit_scene.Config(iterations=1500, preview_every=50)
    for message in fit_scene.run(studio.video, config):
        if isinstance(message, m.Preview) and message.done in at:
            seen.append((message.done, message.image))
    stacks = [[image] for _, image in seen]
    return sheet(stacks, [f"step {done}" for done, _ in seen], 2, "captured and rendered", width=WIDTH)


def training_settings(studio: Studio) -> Image.Image:
    stacks, words = [], []
    small = load_video(CLIP, LoadOptions(frame_step=3))
    for order in ("all at once", "outwards"):
        for weight in (0.0, 0.1):
            config = fit_scene.Config(iterations=500, order=order, mask_weight=weight, preview_every=0)
            scene = result(fit_scene.run(small, config))
            stacks.append([studio.draw(scene, 4, 0.5)])
            words.append(f"{order}, mask {weight:g}")
    return sheet(stacks, words, 4, "four settings after 500 steps", width=WIDTH)


def import_4d_scene(studio: Studio) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "walker"
        result(export_scene.run(studio.scene, export_scene.Config(kind="ply sequence", moments=5), target))
        scene = result(import_scene.run(target, import_scene.Config(up="z up", fps=2)))
    path = camera_path.make(scene, camera_path.Config(frames=5, fps=2.0, width=208, height=260))
    made = result(render_scene.run(scene, path, render_scene.Config(background="grey")))
    return sheet(
        [[one] for one in made.images], columns=5, title="a folder of five .ply files, orbited", width=WIDTH
    )


def camera_path_plan(studio: Studio) -> Image.Image:
    scene, side = studio.scene, 300
    reach = 1.35 * float(scene.rig.centers[:, :2].norm(dim=1).max())
    plans = Image.new("RGB", (2 * side, side + 24), INK.paper)
    pen = ImageDraw.Draw(plans)

    def at(center: Tensor, left: int, vertical: int) -> tuple[float, float]:
        middle = float(scene.rig.centers[:, 2].mean()) if vertical == 2 else 0.0
        x, y = float(center[0]), float(center[vertical]) - middle
        return left + side / 2 + x / reach * side / 2, side / 2 - y / reach * side / 2

    for left, vertical, title in ((0, 1, "from above"), (side, 2, "from the side")):
        for i, (kind, more) in enumerate((("orbit", {}), ("rig", {}), ("spiral", {"view": 0}))):
            path = camera_path.make(scene, camera_path.Config(kind=kind, frames=90, **more))
            line = [at(c, left, vertical) for c in path.cameras.centers]
            pen.line(line, fill=INK.curves[i], width=2)
            write(pen, (left + 8 + i * 70, side + 5), kind, 13, INK.curves[i])
        for center in scene.rig.centers:
            x, y = at(center, left, vertical)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=INK.quiet)
        write(pen, (left + side - 8, 8), title, 13, INK.quiet, "ra")
        x, y = left + side / 2, side / 2
        pen.line((x - 6, y, x + 6, y), fill=INK.text)
        pen.line((x, y - 6, x, y + 6), fill=INK.text)
    return plans


def align_depth_pictures(_: Studio) -> Image.Image:
    "A ball above a floor, in code: the depth of what ships needs a trained scene."
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 180), torch.linspace(-1.1, 1.1, 198), indexing="ij")
    metric = 2 / (rows + 0.3).clamp(min=0.2)
    ball = (rows + 0.1).square() + columns.square() < 0.3
    metric = torch.where(
        ball, 2.2 - (0.3 - (rows + 0.1).square() - columns.square()).clamp(min=0).sqrt(), metric
    )[None]
    relative = 0.4 / metric + 0.1
    noise = torch.rand(metric.shape, generator=torch.Generator().manual_seed(0))
    spoiled = torch.where(noise < 0.25, metric * (1 + 4 * noise), metric)
    aligned = align_depth.make(relative, spoiled).depth
    images = [relative[0][..., None].expand(-1, -1, 3).clamp(0, 1)]
    images += [depth_picture(each, torch.ones_like(each))[0] for each in (spoiled, aligned)]
    return sheet([[one] for one in images], ["disparity", "reference", "aligned depth"], 3, width=WIDTH)


def camera_embedding_pictures(_: Studio) -> Image.Image:
    config = camera_path.Config(kind="arc right", frames=17, amount=3.0, width=208, height=112)
    made = camera_embedding.make(camera_path.make(None, config))
    # the last frame of each latent frame, as moment and direction
    rays = made.rays[0].unflatten(0, (2, 3, 4))[:, :, 3].permute(2, 0, 3, 4, 1) / 2 + 0.5
    names = [f"latent frame {i}" for i in range(len(rays))]
    title = "arc right by 90°: moments above, directions below, as colors"
    return sheet([list(one.clamp(0, 1)) for one in rays], names, columns=5, title=title, width=WIDTH)


def render_4d_scene(studio: Studio) -> Image.Image:
    path = camera_path.make(studio.scene, camera_path.Config(frames=8, width=208, height=260))
    made = result(
        render_scene.run(studio.scene, path, render_scene.Config(wants_depth=True, wants_flow=True))
    )
    mask = made.alpha[2][..., None].expand(-1, -1, 3)
    kinds = [made.images[2], mask, depth_picture(made.depth, made.alpha)[2], flow_picture(made.flow)[2]]
    return sheet([[one] for one in kinds], ["image", "mask", "depth", "flow"], 4, width=WIDTH)


def evaluate_4d_scene(studio: Studio) -> Image.Image:
    made = result(evaluate_scene.run(studio.scene, studio.video, evaluate_scene.Config(every=8, pictures=2)))
    rows = below(
        *[sheet([[row]], width=WIDTH, headers=("input", "render", "depth", "error")) for row in made.pictures]
    )
    return below(rows, lines_of_text(made.text().splitlines()[:1]))


def moments(studio: Studio, scene: Scene4D, title: str, view: int = 4, count: int = 6) -> Image.Image:
    shares = [i / count for i in range(count)]
    stacks = [[studio.draw(scene, view, share)] for share in shares]
    span = float(scene.times[-1] - scene.times[0])
    return sheet(stacks, [f"{share * span:.2f} s" for share in shares], count, title, width=WIDTH)


def scene_to_splat(studio: Studio) -> Image.Image:
    return moments(studio, studio.scene, "six moments: a batch of six splats")


def splat_to_4d_scene(studio: Studio) -> Image.Image:
    sampled = [studio.scene.at(seconds) for seconds in (0.0, 0.6, 1.2)]
    stacks, words = [], []
    for blends in (True, False):
        scene = splat_to_scene.make(sampled, splat_to_scene.Config(fps=2.0, up="z up", blends_moments=blends))
        for share in (0.0, 0.25, 0.5):
            stacks.append([studio.draw(scene.with_(rig=studio.scene.rig), 4, share)])
            words.append(f"{share:g}, {'blended' if blends else 'not blended'}")
    return sheet(stacks, words, 6, "between two of three splats", width=WIDTH)


def export_4d_scene(studio: Studio) -> Image.Image:
    sizes: list[tuple[str, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("ply sequence", "spz sequence", "4dgs", "scene", "html", "clip", "ply", "spz"):
            config = export_scene.Config(kind=kind)
            target = Path(folder) / (kind.replace(" ", "_") + export_scene.suffix(config))
            written = result(export_scene.run(studio.scene, config, target))
            sizes.append((kind, sum(Path(path).stat().st_size for path in written)))
    sizes.sort(key=lambda pair: -pair[1])
    row, left, room = 26, 130, 380
    picture = Image.new("RGB", (WIDTH, row * len(sizes) + 40), INK.paper)
    pen = ImageDraw.Draw(picture)
    count, span = len(studio.scene.canonical), len(studio.scene.times)
    write(pen, (12, 10), f"{count} Gaussians, {span} moments: megabytes of each kind", 14, INK.text)
    for i, (kind, size) in enumerate(sizes):
        top = 36 + i * row
        write(pen, (left - 10, top + 4), kind, 13, INK.text, "ra")
        pen.rectangle(
            (left, top + 3, left + 2 + room * size / sizes[0][1], top + row - 6), fill=INK.curves[0]
        )
        write(pen, (left + 10 + room * size / sizes[0][1], top + 4), f"{size / 1e6:.2f}", 13, INK.quiet)
    return picture


def load_guidance(studio: Studio) -> Image.Image:
    stacks, words = [], []
    asked = (
        "make it night",
        "make it foggy",
        "turn it into a gold statue",
        "turn it into a marble statue",
        "make it red",
    )
    for prompt in asked:
        config = edit_views.Config(prompt=prompt, views="0")
        made = result(edit_views.run(studio.scene, studio.model, config, studio.video))
        if not stacks:
            stacks.append([made.originals[0]])
            words.append("original")
        stacks.append([made.images[0]])
        words.append(prompt.removeprefix("turn it into a ").removeprefix("make it "))
    return sheet(stacks, words, 6, "what the model that ships makes of one picture", width=WIDTH)


def scene_views_pictures(studio: Studio) -> Image.Image:
    made = result(scene_views.run(studio.scene, scene_views.Config(views="0 2 4 6", originals="rendered")))
    masks = [alpha[..., None].expand(-1, -1, 3) for alpha in made.alphas]
    stacks = [list(pair) for pair in zip(made.images, masks, strict=True)]
    return sheet(stacks, [f"view {v}, moment {t}" for v, t in zip(made.views, made.moments, strict=True)], 4,
                 "images and mask", width=WIDTH)  # fmt: skip


def on_sheets(studio: Studio) -> ViewSet:
    """Four captured views on a sheet."""
    config = scene_views.Config(views="0 2 4 7")
    views = result(scene_views.run(studio.scene, config, studio.video))
    return views_to_sheet.run(views, views_to_sheet.Config())


def overlaid(sheets: Tensor) -> Tensor:
    """Sheets under an overlay of one color: an editor that needs no weights."""
    color = torch.tensor([0.06, 0.22, 0.82])
    return torch.where(sheets <= 0.5, 2 * sheets * color, 1 - 2 * (1 - sheets) * (1 - color))


def views_to_sheet_pictures(studio: Studio) -> Image.Image:
    (page,) = views_to_sheet.sheets(on_sheets(studio))
    return sheet([[page], [overlaid(page)]], ["sheet", "edited sheet"], 2, width=WIDTH)


def sheet_to_views_pictures(studio: Studio) -> Image.Image:
    laid_out = on_sheets(studio)
    pages = overlaid(views_to_sheet.sheets(laid_out))
    views = sheet_to_views.run(laid_out, pages)
    edited = result(fit_edits.run(studio.scene, views, fit_edits.Config(iterations=400)))
    stacks = [
        [pages[0]],
        *([studio.draw(edited, view, share)] for view, share in ((0, 0.0), (5, 0.3), (9, 0.6))),
    ]
    words = ["edited sheet", "scene, edited frame", "30% of the clip later", "60% of the clip later"]
    return sheet(stacks, words, 4, width=WIDTH)


def edit_views_pictures(studio: Studio) -> Image.Image:
    made, keep = studio.edited, slice(0, 5)
    words = [f"view {v}" for v in made.views[keep]]
    return before_and_after(made.originals[keep], made.images[keep], words)


def lift_mask_pictures(studio: Studio) -> Image.Image:
    views = result(scene_views.run(studio.scene, scene_views.Config(views="0 4", originals="rendered")))
    masks = torch.zeros(views.images.shape[:3])
    masks[:, masks.shape[1] * 45 // 100 :] = (views.alphas[:, masks.shape[1] * 45 // 100 :] > 0.5).float()
    selection = result(lift_mask.run(studio.scene, views, masks))
    seconds = [float(studio.scene.times[0]) + 0.5 * studio.scene.duration]
    stacks, words = [], []
    for i in range(len(views)):
        stacks.append([marked(views.images[i], masks[i], masks[i])])
        words.append(f"mask on view {views.views[i]}")
    for view in (2, 7):
        weight = render_selection(
            studio.scene, selection, studio.scene.rig[view], seconds, choose("auto", "cpu")
        )[0]
        stacks.append([marked(studio.draw(studio.scene, view, 0.5), weight)])
        words.append(f"selected, view {view}, later")
    return sheet(stacks, words, 4, "painted on two pictures, true in all views and moments", width=WIDTH)


def fit_edits_pictures(studio: Studio) -> Image.Image:
    stacks, words = [], []
    for share in (0.0, 0.25, 0.5, 0.75):
        stacks.append([studio.draw(studio.scene, 4, share), studio.draw(studio.gold, 4, share)])
        words.append("edited moment" if not share else f"{share:.0%} of the clip later")
    return sheet(stacks, words, 4, "one moment was edited, all follow", width=WIDTH)


def refine_pictures(studio: Studio) -> Image.Image:
    config = refine_score.Config(prompt=GOLD, iterations=60)
    refined = result(refine_score.run(studio.gold, studio.model, config, studio.video, original=studio.scene))
    stacks = [[studio.draw(scene, 7, 0.5)] for scene in (studio.scene, studio.gold, refined)]
    return sheet(stacks, ["scene", "fitted to edited views", "and refined, 60 steps"], 3, width=WIDTH)


def grade_pictures(studio: Studio) -> Image.Image:
    looks = ("gold", "marble", "night", "golden hour", "fog", "black and white")
    scenes = {"scene": studio.scene}
    scenes |= {name: result(grade_scene.run(studio.scene, grade_scene.Config(preset=name))) for name in looks}
    scenes["one stop brighter, bluer"] = result(
        grade_scene.run(studio.scene, grade_scene.Config(exposure=1.0, temperature=-40.0))
    )
    stacks = [[studio.draw(scene, 4, 0.3)] for scene in scenes.values()]
    return sheet(stacks, list(scenes), 4, "the demo scene graded", width=WIDTH)


def train_latents_pictures(studio: Studio) -> Image.Image:
    at, seen = (20, 100, 300), []
    config = train_latents.Config(iterations=300, moments="0", resolution=208, preview_every=20)
    for message in train_latents.run(studio.scene, studio.model, config, studio.video):
        if isinstance(message, m.Preview) and message.done in at:
            seen.append((message.done, message.image))
    return sheet([[image] for _, image in seen], [f"step {done}" for done, _ in seen], 3,
                 "the picture, and the decoded field", width=WIDTH)  # fmt: skip


def decoded(studio: Studio, field: Any, **more: Any) -> ViewSet:
    config = decode_latents.Config(views=VIEWS, **more)
    return result(decode_latents.run(field, studio.model, config))


def delta_edit_pictures(studio: Studio) -> Image.Image:
    made = decoded(studio, studio.gold_field)
    return before_and_after(made.originals, made.images, [f"view {v}" for v in made.views])


def decode_pictures(studio: Studio) -> Image.Image:
    plain, refined = decoded(studio, studio.field, is_refined=False), decoded(studio, studio.field)
    stacks = [[plain.originals[0]], [plain.images[0]], [refined.images[0]]]
    return sheet(stacks, ["the scene", "decoded, layer off", "decoded, layer on"], 3, width=WIDTH)


def latents_to_scene_pictures(studio: Studio) -> Image.Image:
    config = latents_to_scene.Config(iterations=200, moments="0")
    scene = result(latents_to_scene.run(studio.gold_field, studio.model, config))
    return moments(studio, scene, "an ordinary scene, at all its moments")


def evaluate_edit_pictures(studio: Studio) -> Image.Image:
    config = evaluate_edit.Config(every=100, pictures=4)
    made = result(evaluate_edit.run(studio.gold, studio.scene, studio.edited, None, config))
    words = ("original", "edited scene", "target", "difference")
    quarter = made.pictures.shape[2] // 4
    # views that were edited
    rows = [row for row in made.pictures if row[:, 2 * quarter : 3 * quarter].min() < 0.5]
    return below(*[sheet([[row]], width=WIDTH, headers=words) for row in rows[:2]])


def shaded(vertices: Tensor, faces: Tensor, cameras: Cameras, view: int) -> Tensor:
    """[H, W, 3] of a mesh in gray, lit from the camera, on white."""
    # twice the size, then averaged: smooth edges
    large = cameras.resized(tuple((2 * w, 2 * h) for w, h in cameras.sizes))
    found = visible_faces(vertices, faces, large, view)
    normals = triangle_frames(vertices, faces).axes[:, :, 1]
    toward = cameras.centers[view].float() - vertices.mean(0)
    light = (normals @ (toward / toward.norm())).clamp(min=0)
    gray = torch.where(found >= 0, 0.15 + 0.7 * light[found.clamp(min=0)], 1.0)
    small = torch.nn.functional.avg_pool2d(gray[None, None], 2)[0, 0]
    return small[..., None].expand(-1, -1, 3)


def face(image: Tensor) -> Tensor:
    """The part of an image of the talking head that shows its face."""
    return image[5:195, 20:172]


def load_head_pictures(studio: Studio) -> Image.Image:
    model, rig = studio.head.model, studio.avatar.rig
    still = studio.head.motion.frames(slice(0, 1))
    zeros = {
        name: torch.zeros_like(t)
        for name, t in still.tensors().items()
        if name not in ("times", "translation")
    }
    still = still.with_(**zeros)
    stacks = [[face(shaded(model.pose(still)[0], model.faces, rig, FRONT))]]
    words = ["neutral"]
    for name in ("mouthSmileLeft", "jawOpen", "mouthPucker", "browInnerUp", "eyeBlinkRight"):
        expr = torch.zeros_like(still.expr)
        expr[0, model.expression_names.index(name)] = 1
        stacks.append([face(shaded(model.pose(still.with_(expr=expr))[0], model.faces, rig, FRONT))])
        words.append(name)
    return sheet(stacks, words, 6, "the bundled head and five of its 52 expressions", width=WIDTH)


def head_mask_pictures(studio: Studio) -> Image.Image:
    stacks, words = [], []
    for part in ("expression", "eye area", "lips", "brows", "skin", "hair"):
        config = head_masks.Config(part=part, view_numbers=str(FRONT), frame_numbers="12")
        mask = result(head_masks.run(studio.avatar, studio.head, config=config)).masks[0]
        seconds = float(studio.avatar.times[12])
        stacks.append([face(marked(studio.at(studio.avatar, FRONT, seconds), mask, mask))])
        words.append(part)
    return sheet(stacks, words, 6, "parts of the head, drawn from its mesh", width=WIDTH)


def pose_head_pictures(studio: Studio) -> Image.Image:
    smile = "mouthSmileLeft = 0.9; mouthSmileRight = 0.9"
    asked: list[tuple[str, dict[str, Any]]] = [
        ("as captured", {}),
        ("smile 0.9", {"expressions": smile}),
        ("jaw 15", {"jaw": 15.0}),
        ("gaze 25", {"gaze_sideways": 25.0}),
        ("blink", {"expressions": "eyeBlinkLeft = 1; eyeBlinkRight = 1"}),
        ("turn 20", {"turn": 20.0}),
    ]
    stacks = []
    for _, more in asked:
        posed = pose_head.run(studio.avatar, studio.head, pose_head.Config(**more))
        stacks.append([face(studio.at(posed, FRONT, float(posed.times[0])))])
    return sheet(stacks, [words for words, _ in asked], 6, "one frame, posed", width=WIDTH)


def drive_head_pictures(studio: Studio) -> Image.Image:
    driver = load_head(motion=DRIVER, frames_per_second=12)
    driven = drive_head.run(studio.avatar, studio.head, driver)
    stacks, words = [], []
    for frame in torch.linspace(0, len(driven.times) - 1, 6).long().tolist():
        mesh = driver.vertices(driver.motion.frames(slice(frame, frame + 1)))[0]
        seconds = float(driven.times[frame])
        above = shaded(mesh, driver.model.faces, studio.avatar.rig, FRONT)
        stacks.append([face(above), face(studio.at(driven, FRONT, seconds))])
        words.append(f"{seconds:.2f} s")
    return sheet(stacks, words, 6, "another person drives the avatar", width=WIDTH)


def landmarks_pictures(studio: Studio) -> Image.Image:
    model, rig = studio.head.model, studio.avatar.rig
    asked: list[tuple[str, dict[str, float]]] = [
        ("no score", {}),
        ("jawOpen 0.6", {"jawOpen": 0.6}),
        ("mouthSmile 0.9", {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}),
        ("eyeBlinkLeft 1", {"eyeBlinkLeft": 1.0}),
        ("browInnerUp 1", {"browInnerUp": 1.0}),
        ("mouthPucker 0.9", {"mouthPucker": 0.9}),
    ]
    motion, _ = motion_of_faces([FaceFrame(scores) for _, scores in asked], model, 25)
    place = studio.head.motion.canonical()
    still = {n: getattr(place, n).expand(len(asked), -1) for n in ("rotation", "translation")}
    vertices = model.pose(motion.with_(**still))
    stacks = [[face(shaded(mesh, model.faces, rig, FRONT))] for mesh in vertices]
    return sheet(stacks, [words for words, _ in asked], 6, "scores of a face, and the head", width=WIDTH)


def edit_head_pictures(studio: Studio) -> Image.Image:
    config = edit_head.Config(prompt="turn it into a bronze statue", levels="999", preview_every=0)
    edited = result(edit_head.run(studio.avatar, studio.head, studio.model, config))
    driver = load_head(motion=DRIVER, frames_per_second=12)
    both = [drive_head.run(scene, studio.head, driver) for scene in (studio.avatar, edited)]
    stacks, words = [], []
    for frame in torch.linspace(0, len(driver.motion) - 1, 6).long().tolist():
        seconds = float(both[0].times[frame])
        stacks.append([face(studio.at(scene, FRONT, seconds)) for scene in both])
        words.append(f"{seconds:.2f} s")
    return sheet(stacks, words, 6, "an avatar and its edit, driven by another person", width=WIDTH)


def capture_plan(studio: Studio) -> Image.Image:
    """For the guide, not a node: where eight phones stand, every second one raised."""
    side, count = 300, 8
    picture = Image.new("RGB", (2 * side + 20, side), INK.paper)
    pen = ImageDraw.Draw(picture)
    low, high = INK.curves[0], INK.curves[2]
    for i in range(count):
        angle = 2 * math.pi * (i + 0.5) / count
        x, y = side / 2 + 0.4 * side * math.sin(angle), side / 2 - 0.4 * side * math.cos(angle)
        color = high if i % 2 else low
        toward = math.atan2(side / 2 - y, side / 2 - x)
        for turn in (-0.3, 0.3):
            far = (x + 62 * math.cos(toward + turn), y + 62 * math.sin(toward + turn))
            pen.line((x, y, *far), fill=INK.line)
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color)
    pen.ellipse((side / 2 - 12, side / 2 - 12, side / 2 + 12, side / 2 + 12), outline=INK.text, width=2)
    write(pen, (side / 2, side / 2 + 16), "subject", 12, INK.text, "ma")
    write(pen, (side / 2, 8), "from above: 45 degrees from one to the next", 13, INK.quiet, "ma")
    left, floor = side + 20, side - 40
    pen.line((left, floor, left + side, floor), fill=INK.line, width=2)
    middle = left + side / 2
    pen.rounded_rectangle((middle - 12, floor - 130, middle + 12, floor), 10, outline=INK.text, width=2)
    for x, height, color, name in (
        (left + 40, 90, low, "chest height"),
        (left + side - 40, 185, high, "raised"),
    ):
        pen.line((x, floor, x, floor - height), fill=INK.line, width=3)
        pen.ellipse((x - 6, floor - height - 6, x + 6, floor - height + 6), fill=color)
        for aim in (-118, -8):
            pen.line((x, floor - height, middle, floor + aim), fill=INK.line)
        write(pen, (x, floor + 8), name, 12, color, "ma")
    write(pen, (middle, 8), "from the side: all of the subject in each picture", 13, INK.quiet, "ma")
    return picture


def prepare_gpu_report(_: Studio) -> Image.Image:
    report = result(prepare_gpu.run(prepare_gpu.Config(steps=5)))
    lines: list[str] = []
    for line in report.text().splitlines():
        lines += textwrap.wrap(line, 84, subsequent_indent="  ", drop_whitespace=False)
    return lines_of_text(lines, 13)


MADE: dict[str, Callable[[Studio], Image.Image]] = {
    "GS4D_LoadMultiViewVideo": load_multi_view_video,
    "GS4D_PreflightCheck": preflight_check,
    "GS4D_PrepareGPU": prepare_gpu_report,
    "GS4D_CaptureImages": capture_images_pictures,
    "GS4D_AddDepth": add_depth_pictures,
    "GS4D_Train4DScene": train_scene,
    "GS4D_TrainingSettings": training_settings,
    "GS4D_LiftVideo": lift_video_pictures,
    "GS4D_Import4DScene": import_4d_scene,
    "GS4D_CameraPath": camera_path_plan,
    "GS4D_AlignDepth": align_depth_pictures,
    "GS4D_CameraEmbedding": camera_embedding_pictures,
    "GS4D_Render4DScene": render_4d_scene,
    "GS4D_EvaluateScene": evaluate_4d_scene,
    "GS4D_SceneToSplat": scene_to_splat,
    "GS4D_SplatToScene": splat_to_4d_scene,
    "GS4D_Export4DScene": export_4d_scene,
    "GS4D_LoadGuidance": load_guidance,
    "GS4D_SceneViews": scene_views_pictures,
    "GS4D_ViewsToSheet": views_to_sheet_pictures,
    "GS4D_SheetToViews": sheet_to_views_pictures,
    "GS4D_EditViews": edit_views_pictures,
    "GS4D_LiftMask": lift_mask_pictures,
    "GS4D_FitEdits": fit_edits_pictures,
    "GS4D_RefineScore": refine_pictures,
    "GS4D_GradeScene": grade_pictures,
    "GS4D_TrainLatentField": train_latents_pictures,
    "GS4D_DeltaEdit": delta_edit_pictures,
    "GS4D_DecodeLatents": decode_pictures,
    "GS4D_LatentsToScene": latents_to_scene_pictures,
    "GS4D_EvaluateEdit": evaluate_edit_pictures,
    "GS4D_LoadHead": load_head_pictures,
    "GS4D_HeadRegionMask": head_mask_pictures,
    "GS4D_PoseHead": pose_head_pictures,
    "GS4D_HeadFromLandmarks": landmarks_pictures,
    "GS4D_EditHeadAvatar": edit_head_pictures,
    "GS4D_DriveHead": drive_head_pictures,
    "capture_plan": capture_plan,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=Path, help="a trained scene of the demo clip")
    parser.add_argument("--avatar", type=Path, help="a trained scene of the talking head")
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="only these")
    arguments = parser.parse_args()
    studio = Studio(arguments.scene, arguments.avatar)
    for node in arguments.nodes or MADE:
        path = save(MADE[node](studio), node)
        print(f"{path.relative_to(REPOSITORY)}  {path.stat().st_size / 1000:.0f} KB", flush=True)


if __name__ == "__main__":
    main()

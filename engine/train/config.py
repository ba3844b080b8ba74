"""Training parameters of a scene. The node's inputs, the flags and the history in the scene come from these fields."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number, text, validate
from ..losses.geometric import DEPTH_LOSSES
from ..render import rasterizer_field
from .motions import NAMES as MOTIONS
from .presets import QUALITIES, kept


@dataclass(frozen=True)
class FitConfig:
    """Defaults suit a small capture on a CPU; `quality` has presets for other machines (see presets.py)."""

    iterations: int = number(
        7000, 1, 1_000_000, "Number of training steps. More is sharper and takes longer; typical 3000–30000."
    )
    budget: int = number(
        12_000,
        16,
        5_000_000,
        "Largest number of Gaussians in the scene. More shows finer detail, trains and renders slower.",
        label="max Gaussians",
    )
    motion: str = choice(
        "small",
        MOTIONS,
        "Size of the deformation field: none trains a static scene, small is fast, dnerf to dynerf are the paper's presets. "
        "per_frame stores an offset of every Gaussian at every frame instead.",
    )
    initialization: str = choice(
        "auto",
        ("auto", "points", "silhouettes", "random"),
        "Where the first Gaussians are placed: the capture's points, the visual hull of its masks, or at random in the "
        "bounds.",
        id="initialisation",
    )
    sh_degree: int = number(
        1,
        0,
        3,
        "Spherical harmonics degree: how much color may change with the viewing angle. 0 is matte, 3 shows highlights "
        "and is slower.",
        label="SH degree",
    )
    background: str = choice(
        "auto", ("auto", "white", "black", "grey"), "Background color; auto uses the capture's."
    )
    max_seconds: float = number(
        0.0,
        0.0,
        1e7,
        "Stops after this many seconds and returns the scene as it is. 0 runs all iterations.",
        words={0: "no limit"},
    )
    preview_every: int = number(
        100, 0, 100_000, "Steps between two preview images. 0 shows none.", words={0: "never"}
    )
    seed: int = number(0, 0, 2**63 - 1, "Random seed. The same seed and inputs give the same scene.")

    density: str = choice(
        "fixed budget",
        ("fixed budget", "adaptive", "none"),
        "Densification: fixed budget relocates unused Gaussians (MCMC), adaptive splits by image gradients (3DGS), "
        "none keeps the first Gaussians.",
        label="densification",
        advanced=True,
    )
    initial_count: int = number(
        8000,
        16,
        1_000_000,
        "Number of Gaussians at the start.",
        label="initial Gaussians",
        advanced=True,
    )
    coarse_fraction: float = number(
        0.1,
        0.0,
        1.0,
        "Fraction of the iterations that train a static scene on all frames before the deformation is trained.",
        advanced=True,
    )
    views_per_step: int = number(
        2, 1, 64, "Images of one frame per training step. More is smoother and slower.", advanced=True
    )
    time_resolution: int = number(
        0,
        0,
        1000,
        "Resolution of the deformation field along time. More follows faster motion. 0 uses half the number of frames.",
        words={0: "auto"},
        advanced=True,
    )
    ssim_weight: float = number(
        0.2, 0.0, 1.0, "Weight of D-SSIM against L1. More favors crisp texture; typical 0.2.", label="SSIM weight",
        advanced=True,
    )  # fmt: skip
    mask_weight: float = number(
        0.1,
        0.0,
        10.0,
        "Weight of the mask loss, for captures with masks. More removes haze around the subject.",
        advanced=True,
    )
    plane_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Multiplies the smoothness losses of the motion. More gives smoother, less lively motion.",
        label="smoothness weight",
        advanced=True,
    )
    start_scale: float = number(
        0.5,
        0.1,
        1.0,
        "Image scale at the start of training. Smaller is faster; detail arrives later.",
        advanced=True,
    )
    full_size_at: float = number(
        0.4,
        0.0,
        1.0,
        "Fraction of the iterations after which images have full resolution.",
        label="full resolution at",
        advanced=True,
    )
    still_threshold: float = number(
        0.0005,
        0.0,
        0.1,
        "Gaussians that move less than this fraction of the scene radius are frozen, which saves time. 0 freezes none.",
        label="static threshold",
        advanced=True,
    )
    hold_out_every: int = number(
        0,
        0,
        1000,
        "Hold out every n-th frame to evaluate interpolation; 0 trains on all frames.",
        words={0: "none"},
        advanced=True,
    )
    keeps_test_views_out: bool = flag(
        True, "Trains without the capture's test views, so that they can be evaluated.", label="hold out test views",
        advanced=True,
    )  # fmt: skip
    bounds: str = text(
        "",
        "Box around the subject in world units, as 'x0 y0 z0 x1 y1 z1'. Empty estimates it from the capture.",
        advanced=True,
    )
    position_lr: float = number(
        4e-4, 0.0, 1.0, "Learning rate of positions, relative to the scene's extent.", id="position_rate", advanced=True
    )  # fmt: skip
    scale_lr: float = number(1e-2, 0.0, 1.0, "Learning rate of log scales.", id="scale_rate", advanced=True)
    rotation_lr: float = number(1e-3, 0.0, 1.0, "Learning rate of quaternions.", id="rotation_rate", advanced=True)  # fmt: skip
    opacity_lr: float = number(0.05, 0.0, 1.0, "Learning rate of opacity logits.", id="opacity_rate", advanced=True)  # fmt: skip
    color_lr: float = number(
        2.5e-3,
        0.0,
        1.0,
        "Learning rate of base colors; view-dependent SH bands use 1/20 of it.",
        id="color_rate",
        advanced=True,
    )
    grid_lr: float = number(
        1e-2,
        0.0,
        1.0,
        "Learning rate of the deformation field's planes. More learns motion sooner and less smoothly.",
        id="grid_rate",
        advanced=True,
    )
    network_lr: float = number(
        5e-4, 0.0, 1.0, "Learning rate of the deformation field's network.", id="network_rate", advanced=True
    )
    checkpoint_seconds: float = number(
        60.0, 1.0, 1e6, "Seconds between two checkpoints.", label="checkpoint every (seconds)", advanced=True
    )
    rasterizer: str = rasterizer_field()
    order: str = choice(
        "auto",
        ("auto", "outwards", "all at once"),
        "Order in which frames are learned: outwards starts at one frame and adds its neighbors, which follows large "
        "motion; all at once is the paper's; auto goes outwards where at least four views share a frame.",
        label="frame order",
        advanced=True,
    )
    outwards_until: float = number(
        0.5,
        0.0,
        1.0,
        "Fraction of the iterations after which all frames take part, when learning outwards.",
        label="all frames from",
        advanced=True,
    )
    head_lr: float = number(
        0.0,
        0.0,
        100.0,
        "With a head connected: multiplies the learning rates of its expression, pose and translation, which corrects "
        "inaccurate tracking. Typical 1; 0 keeps the head parameters.",
        label="head fine-tuning",
        words={0: "off"},
        advanced=True,
        since="0.2",
    )

    start_motion: str = choice(
        "trained",
        ("trained", "frozen"),
        "With a start scene connected: trained goes on training its motion, frozen keeps it and trains the Gaussians alone.",
        advanced=True,
        since="0.2",
    )

    depth_weight: float = number(
        0.0,
        0.0,
        100.0,
        "Weight of the depth loss, for captures with depth maps, whose scale and shift play no part. More follows the depth "
        "maps more closely; typical 0.05–0.5; 0 does not use them.",
        advanced=True,
        since="0.2",
    )
    depth_loss: str = choice(
        "correlation",
        tuple(DEPTH_LOSSES),
        "Depth loss: correlation is 1 minus Pearson's correlation, aligned is the mean difference after scale and shift are "
        "fitted, which ignores outliers more.",
        advanced=True,
        since="0.2",
    )
    track_weight: float = number(
        0.0,
        0.0,
        100.0,
        "Weight of the track loss, for captures with tracked points. More moves the scene with them; typical 0.1–2; 0 does "
        "not use them.",
        advanced=True,
        since="0.2",
    )
    quality: str = choice(
        "custom",
        QUALITIES,
        "Preset for iterations, max Gaussians, motion, SH degree, densification and learning rates. It replaces the values "
        "that are at their defaults; values that you change win. custom changes nothing; draft is a quick look; standard is "
        "made for a GPU; paper has 4DGaussians' published values; auto is standard on a GPU and custom on a CPU.",
        since="0.2",
    )
    quality_keeps: str = text(
        "",
        "Parameters that quality must not change although they are at their defaults, such as 'SH degree, motion'.",
        advanced=True,
        since="0.2",
    )
    averaged: float = number(
        0.15,
        0.0,
        0.5,
        "Fraction of the iterations, at the end, whose parameters are averaged: this removes the noise of single steps. 0 "
        "keeps the values of the last step.",
        label="averaged end",
        words={0: "off"},
        advanced=True,
        since="0.3",
    )
    min_views: int = number(
        0,
        0,
        64,
        "Number of views that must show a Gaussian: Gaussians that fewer show float unchecked between the cameras, and are "
        "recycled. Higher leaves fewer floaters, but holes where few cameras look; typical 2. auto uses 2 in captures with masks "
        "where at least six views share a frame and look from one side; 1 keeps all Gaussians.",
        label="views per Gaussian",
        words={0: "auto", 1: "off"},
        advanced=True,
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)
        kept(self)

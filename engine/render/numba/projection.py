"""EWA splatting: the projection of Gaussians to ellipses, its analytic gradient, and the depth order.

Source: Zwicker et al. 2001, eq. 31; Kerbl et al. 2023, eq. 5. Conventions are gsplat 1.5's: the ray direction is clamped
at 1.3 fields of view inside the Jacobian, eps2d is added to the covariance's diagonal, Gaussians with opacity below 1/255
are dropped. All arithmetic is float64, whatever the arrays' type: it costs little and gains a digit.
"""
# pyright: basic

from __future__ import annotations

import math

import numpy as np

from ...kernels.build import kernel, part

LOG2E = 1.4426950408889634
LOG_255 = 5.541263545158426
TILE = 16
# mean x, y; conic a, b, c (times log2 e, and a, c halved); log2 opacity
GEOMETRY = 6


@part
def _rotation(w, x, y, z):
    return (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip


@part
def _jacobian(x, y, z, camera, width, height):
    """Ray direction clamped to 1.3 fields of view (u, v; whether it was), and the Jacobian's four non-zero entries."""
    fx, fy, cx, cy = camera[12], camera[13], camera[14], camera[15]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    u, v = x / z, y / z
    clamped_u = min(max(u, -cx / fx - margin_x), (width - cx) / fx + margin_x)
    clamped_v = min(max(v, -cy / fy - margin_y), (height - cy) / fy + margin_y)
    return fx / z, -fx * clamped_u / z, fy / z, -fy * clamped_v / z, clamped_u != u, clamped_v != v


@kernel
def project(first, last, splats, views, settings, ellipses):
    """Items are (camera, Gaussian): fills `ellipses` (Ellipses) from `splats` (Splats)."""
    means, quats, scales, opacities = splats.means, splats.quats, splats.scales, splats.opacities
    cameras, width, height = views.cameras, views.width, views.height
    near, far, eps2d, antialiased = settings.near, settings.far, settings.eps2d, settings.antialiased
    geometry, depths, radii, tiles = ellipses.geometry, ellipses.depths, ellipses.radii, ellipses.tiles
    count = means.shape[0]
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for item in range(first, last):
        b = item // count
        n = item - b * count
        camera = cameras[b]
        radii[item] = 0
        depths[item] = 0.0
        for k in range(4):
            tiles[item, k] = 0
        for k in range(GEOMETRY):
            geometry[item, k] = 0.0
        mx, my, mz = np.float64(means[n, 0]), np.float64(means[n, 1]), np.float64(means[n, 2])
        z = camera[6] * mx + camera[7] * my + camera[8] * mz + camera[11]
        if not (z >= near and z <= far and z > 0.0):
            continue
        x = camera[0] * mx + camera[1] * my + camera[2] * mz + camera[9]
        y = camera[3] * mx + camera[4] * my + camera[5] * mz + camera[10]
        qw, qx = np.float64(quats[n, 0]), np.float64(quats[n, 1])
        qy, qz = np.float64(quats[n, 2]), np.float64(quats[n, 3])
        length = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz) + 1e-30
        R = _rotation(qw / length, qx / length, qy / length, qz / length)
        j00, j02, j11, j12, _, _ = _jacobian(x, y, z, camera, width, height)
        xx, xy, yy = 0.0, 0.0, 0.0
        # Σ = P Pᵀ with P = J · camera rotation · R · diag(scale)
        for k in range(3):
            s = np.float64(scales[n, k])
            a, b_, c = R[k] * s, R[3 + k] * s, R[6 + k] * s
            cz = camera[6] * a + camera[7] * b_ + camera[8] * c
            px = j00 * (camera[0] * a + camera[1] * b_ + camera[2] * c) + j02 * cz
            py = j11 * (camera[3] * a + camera[4] * b_ + camera[5] * c) + j12 * cz
            xx += px * px
            xy += px * py
            yy += py * py
        blurred_x, blurred_y = xx + eps2d, yy + eps2d
        det = blurred_x * blurred_y - xy * xy
        opacity = np.float64(opacities[n])
        if not det > 0.0:
            continue
        if antialiased:
            opacity *= math.sqrt(max(0.0, xx * yy - xy * xy) / det)
        if not opacity >= 1.0 / 255.0:
            continue
        log_opacity = math.log(opacity)
        extent = min(3.33, math.sqrt(2.0 * max(0.0, log_opacity + LOG_255)))
        u, v = camera[12] * x / z + camera[14], camera[13] * y / z + camera[15]
        reach_x, reach_y = extent * math.sqrt(blurred_x), extent * math.sqrt(blurred_y)
        radius_x, radius_y = math.ceil(reach_x), math.ceil(reach_y)
        if not (u + radius_x > 0 and u - radius_x < width and v + radius_y > 0 and v - radius_y < height):
            continue
        radii[item] = min(max(radius_x, radius_y), 2147483647)
        depths[item] = z
        geometry[item, 0] = u
        geometry[item, 1] = v
        geometry[item, 2] = 0.5 * LOG2E * blurred_y / det
        geometry[item, 3] = -LOG2E * xy / det
        geometry[item, 4] = 0.5 * LOG2E * blurred_x / det
        geometry[item, 5] = LOG2E * log_opacity
        # pixel centers within reach; the margin covers rounding to float32
        x0 = max(0.0, math.ceil(u - reach_x - 0.51))
        y0 = max(0.0, math.ceil(v - reach_y - 0.51))
        x1 = min(width - 1.0, math.floor(u + reach_x - 0.49))
        y1 = min(height - 1.0, math.floor(v + reach_y - 0.49))
        if x0 <= x1 and y0 <= y1:
            tiles[item, 0] = int(x0) // TILE
            tiles[item, 1] = int(y0) // TILE
            tiles[item, 2] = min(int(x1) // TILE + 1, tiles_x)
            tiles[item, 3] = min(int(y1) // TILE + 1, tiles_y)


@kernel
def order(first, last, keys, tiles, ids, counts):
    """Items are cameras: sorts the Gaussians that touch a tile by depth (ties by index).

    keys [B, N] are depths read as integers (depths are positive, so both orders agree). A radix sort of 11 bits per pass;
    a pass in which all keys agree is skipped. Fills ids [B, N] and counts [B].
    """
    n = keys.shape[1]
    bits = keys.itemsize * 8
    for b in range(first, last):
        a, spare = np.empty(n, np.int32), np.empty(n, np.int32)
        seen = 0
        for i in range(n):
            if tiles[b, i, 2] > tiles[b, i, 0]:
                a[seen] = i
                seen += 1
        histogram = np.empty(2048, np.int64)
        for shift in range(0, bits, 11):
            histogram[:] = 0
            for i in range(seen):
                histogram[(keys[b, a[i]] >> shift) & 2047] += 1
            total, most = 0, 0
            for d in range(2048):
                here = histogram[d]
                most = max(most, here)
                histogram[d] = total
                total += here
            if most == seen:
                continue
            for i in range(seen):
                digit = (keys[b, a[i]] >> shift) & 2047
                spare[histogram[digit]] = a[i]
                histogram[digit] += 1
            a, spare = spare, a
        ids[b, :seen] = a[:seen]
        counts[b] = seen


@kernel
def unproject(first, last, splats, views, settings, geometry, slots, per_camera, shape_wanted, gradients):
    """Items are Gaussians: adds the gradients of their slots in a fixed order and propagates them through `project`.

    Reads `slots` (Slots) and writes `gradients` (Gradients). per_camera: whether each camera has its own features.
    Without shape_wanted only the features' gradient is computed.
    """
    means, quats, scales, opacities = splats.means, splats.quats, splats.scales, splats.opacities
    cameras, width, height = views.cameras, views.width, views.height
    eps2d, antialiased = settings.eps2d, settings.antialiased
    starts, values = slots.starts, slots.values
    g_means2d, g_means, g_quats = gradients.means2d, gradients.means, gradients.quats
    g_scales, g_opacities, g_features = gradients.scales, gradients.opacities, gradients.features
    channels = values.shape[1] - GEOMETRY
    count = means.shape[0]
    sums = np.empty(values.shape[1], np.float64)
    g_scale, g_R = np.empty(3), np.empty(9)
    P = np.empty((2, 3))
    # camera rotation · R · diag(scale)
    W = np.empty((3, 3))
    for n in range(first, last):
        qw, qx = np.float64(quats[n, 0]), np.float64(quats[n, 1])
        qy, qz = np.float64(quats[n, 2]), np.float64(quats[n, 3])
        length = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz) + 1e-30
        qw, qx, qy, qz = qw / length, qx / length, qy / length, qz / length
        R = _rotation(qw, qx, qy, qz)
        g_opacity = 0.0
        gx, gy, gz = 0.0, 0.0, 0.0
        g_scale[:] = 0.0
        g_R[:] = 0.0
        for b in range(cameras.shape[0]):
            item = b * count + n
            if starts[item] == starts[item + 1]:
                continue
            sums[:] = 0.0
            for slot in range(starts[item], starts[item + 1]):
                for k in range(sums.shape[0]):
                    sums[k] += values[slot, k]
            row = item if per_camera else n
            for k in range(channels):
                g_features[row, k] += sums[GEOMETRY + k]
            if not shape_wanted:
                continue
            camera = cameras[b]
            mx, my, mz = np.float64(means[n, 0]), np.float64(means[n, 1]), np.float64(means[n, 2])
            x = camera[0] * mx + camera[1] * my + camera[2] * mz + camera[9]
            y = camera[3] * mx + camera[4] * my + camera[5] * mz + camera[10]
            z = camera[6] * mx + camera[7] * my + camera[8] * mz + camera[11]
            j00, j02, j11, j12, stuck_u, stuck_v = _jacobian(x, y, z, camera, width, height)
            # recover the conic from the values that `project` stored
            qa = np.float64(geometry[item, 2]) * (2.0 / LOG2E)
            qb = np.float64(geometry[item, 3]) * (1.0 / LOG2E)
            qc = np.float64(geometry[item, 4]) * (2.0 / LOG2E)
            gu = qa * sums[1] + qb * sums[2]
            gv = qb * sums[1] + qc * sums[2]
            g_means2d[item, 0] = gu
            g_means2d[item, 1] = gv
            # dL/dΣ = −Q G Q with G the symmetric gradient of the conic: (−Mxx/2, −Mxy/2, −Myy/2)
            ga, gb, gc = 0.5 * sums[3], 0.5 * sums[4], 0.5 * sums[5]
            ta, tb = qa * ga + qb * gb, qa * gb + qb * gc
            tc, td = qb * ga + qc * gb, qb * gb + qc * gc
            s_xx, s_xy, s_yy = ta * qa + tb * qb, ta * qb + tb * qc, tc * qb + td * qc
            xx, xy, yy = 0.0, 0.0, 0.0
            for k in range(3):
                s = np.float64(scales[n, k])
                for i in range(3):
                    W[i, k] = s * (
                        camera[3 * i] * R[k] + camera[3 * i + 1] * R[3 + k] + camera[3 * i + 2] * R[6 + k]
                    )
                P[0, k] = j00 * W[0, k] + j02 * W[2, k]
                P[1, k] = j11 * W[1, k] + j12 * W[2, k]
                xx += P[0, k] * P[0, k]
                xy += P[0, k] * P[1, k]
                yy += P[1, k] * P[1, k]
            if antialiased:
                # opacity' = opacity · r with r² = det(Σ)/det(Σ + eps2d); d log r = ½ (adj Σ/det Σ − Q) : dΣ
                det = max(xx * yy - xy * xy, 1e-30)
                blurred = (xx + eps2d) * (yy + eps2d) - xy * xy
                g_opacity += (
                    sums[0]
                    * math.sqrt(max(0.0, xx * yy - xy * xy) / blurred)
                    * np.exp2(-np.float64(geometry[item, 5]))
                )
                s_xx += 0.5 * sums[0] * (yy / det - qa)
                s_xy += 0.5 * sums[0] * (-xy / det - qb)
                s_yy += 0.5 * sums[0] * (xx / det - qc)
            else:
                g_opacity += sums[0] / np.float64(opacities[n])
            # dL/dJ
            h00, h02, h11, h12 = 0.0, 0.0, 0.0, 0.0
            for k in range(3):
                p0 = 2.0 * (s_xx * P[0, k] + s_xy * P[1, k])
                p1 = 2.0 * (s_xy * P[0, k] + s_yy * P[1, k])
                h00 += p0 * W[0, k]
                h02 += p0 * W[2, k]
                h11 += p1 * W[1, k]
                h12 += p1 * W[2, k]
                c0, c1, c2 = j00 * p0, j11 * p1, j02 * p0 + j12 * p1
                s = np.float64(scales[n, k])
                # through the camera's rotation
                for i in range(3):
                    g = camera[i] * c0 + camera[3 + i] * c1 + camera[6 + i] * c2
                    g_scale[k] += g * R[3 * i + k]
                    g_R[3 * i + k] += g * s
            fx, fy = camera[12], camera[13]
            cam_x, cam_y = gu * fx / z, gv * fy / z
            cam_z = -(gu * fx * x + gv * fy * y) / (z * z)
            cam_z -= (h00 * fx + h11 * fy) / (z * z)
            if stuck_u:
                cam_z -= h02 * j02 / z
            else:
                cam_x -= h02 * fx / (z * z)
                cam_z -= 2.0 * h02 * j02 / z
            if stuck_v:
                cam_z -= h12 * j12 / z
            else:
                cam_y -= h12 * fy / (z * z)
                cam_z -= 2.0 * h12 * j12 / z
            gx += camera[0] * cam_x + camera[3] * cam_y + camera[6] * cam_z
            gy += camera[1] * cam_x + camera[4] * cam_y + camera[7] * cam_z
            gz += camera[2] * cam_x + camera[5] * cam_y + camera[8] * cam_z
        g_means[n, 0], g_means[n, 1], g_means[n, 2] = gx, gy, gz
        g_opacities[n] = g_opacity
        for k in range(3):
            g_scales[n, k] = g_scale[k]
        r = g_R
        dw = 2 * (qx * (r[7] - r[5]) + qy * (r[2] - r[6]) + qz * (r[3] - r[1]))
        dx = 2 * (-2 * qx * (r[4] + r[8]) + qy * (r[1] + r[3]) + qz * (r[2] + r[6]) + qw * (r[7] - r[5]))
        dy = 2 * (qx * (r[1] + r[3]) - 2 * qy * (r[0] + r[8]) + qz * (r[5] + r[7]) + qw * (r[2] - r[6]))
        dz = 2 * (qx * (r[2] + r[6]) + qy * (r[5] + r[7]) - 2 * qz * (r[0] + r[4]) + qw * (r[3] - r[1]))
        # the length of a quaternion has no effect, so its gradient is orthogonal to it
        along = qw * dw + qx * dx + qy * dy + qz * dz
        g_quats[n, 0] = (dw - along * qw) / length
        g_quats[n, 1] = (dx - along * qx) / length
        g_quats[n, 2] = (dy - along * qy) / length
        g_quats[n, 3] = (dz - along * qz) / length

"""Objects from images and videos: sampling of canonical Gaussians, and their alignment with a video."""

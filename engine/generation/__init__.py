"""Objects from images: sampling of canonical Gaussians."""

"""A clip of one camera, with depth, as a moving scene: static background from all frames, moving parts along their tracks."""

"""What a fit is pulled by, and what it is judged by. Torch alone; images [B, C, H, W] in 0..1 unless noted."""

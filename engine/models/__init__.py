"""Networks: those of published papers in plain PyTorch, by paper, and one of this project (`latent_refiner`)."""

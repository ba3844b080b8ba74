// Colors of the pack's sockets and wires. A palette of the frontend has none for types that it does not know.

import { colorTypes } from "./host.js";

// told apart at a glance, also by people who do not see red and green alike: what wires often carry is far apart in lightness
colorTypes({
  GS4D_SCENE: "#f2a541",
  GS4D_VIDEO: "#4f9bd9",
  GS4D_VIEWS: "#7fd1c7",
  GS4D_CAMERA_PATH: "#b8d35c",
  GS4D_SELECTION: "#e86f68",
  GS4D_GUIDANCE: "#b48be0",
  GS4D_SEGMENTATION: "#9a7fc4",
  GS4D_VARIATION: "#8f79b8",
  GS4D_IMAGE_TO_4D: "#a993d6",
  GS4D_TRELLIS: "#c3aee6",
  GS4D_LATENT_FIELD: "#f07ab0",
  GS4D_HEAD: "#e8d174",
  GS4D_TRAINING_SETTINGS: "#a3a8b0",
});

// One picture per node: the Vue renderer keeps the last live preview beside the image that a node returned.

import { keepOnePicture, onNodes } from "./host.js";

onNodes("gs4d.pictures", (type) => type.startsWith("GS4D_"), (node) => ({ executed: () => keepOnePicture(node) }));

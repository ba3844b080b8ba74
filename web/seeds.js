// Seeds that change after each run, for nodes whose every run may well be another try.

import { addControl, language } from "./host.js";
import { translator } from "./words.js";

const TRIES = ["CanonicalFromImage", "VariationDiffusion", "GenerateFromImage", "EditViews", "EditHeadAvatar"].map((name) => `GS4D_${name}`);
const KEPT = "gs4d_seed"; // the property with the control's value, where it is not "fixed"

/** Have the seed change after each run if wanted. The schema says nothing of it, for then saved graphs would lose their numbers. */
export function varySeed(node) {
  const seed = node.widgets?.find((widget) => widget.name === "seed"), text = translator(language());
  const control = TRIES.includes(node.comfyClass ?? node.type) && seed && addControl(node, seed);
  if (!control) return {};
  control.label = text("seed after each run");
  control.tooltip = text("What becomes of the seed when the graph is queued. A run that was canceled goes on only with its own seed.");
  return {
    configured() {
      const kept = node.properties?.[KEPT];
      control.value = control.options.values.includes(kept) ? kept : "fixed";
    },
    serialized(data) {
      const { [KEPT]: _, ...others } = data.properties ?? {};
      data.properties = control.value === "fixed" ? others : { ...others, [KEPT]: control.value };
    },
  };
}

// Which widget of a refused node is marked. ComfyUI reports what a node's own check says once for every widget that was
// checked; nodes/checks.py puts the label of the wrong one first.

import { onRefused } from "./host.js";

onRefused((type) => type.startsWith("GS4D_"), (errors, inputs) => {
  const ofCheck = (error) => error.type === "custom_validation_failed";
  const id = (error) => error.extra_info?.input_name;
  const isNamed = (error) => {
    const label = inputs[id(error)]?.display_name ?? id(error);
    return error.details?.startsWith(`${id(error)} - ${label}: `);
  };
  const named = errors.filter((error) => ofCheck(error) && isNamed(error));
  return named.length ? errors.filter((error) => !ofCheck(error) || named.includes(error)) : errors;
});

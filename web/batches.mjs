// Draws many Gaussians in each instance. Spark draws one, but software GL sets up every instance like a draw of its own,
// which takes most of a frame. Order and image stay the same to the bit.

const GAUSSIANS = 128; // in an instance: more gain nothing
const CORNERS = [[-1, -1], [1, -1], [1, 1], [-1, 1]]; // as Spark's own quad has them
const TRIANGLES = [0, 1, 2, 0, 2, 3];

/** Let a SparkRenderer that has not drawn yet draw in batches; false where its shader is an unknown one, which is left as it is. */
export function drawInBatches(spark) {
  const shader = batched(spark.material.vertexShader);
  if (!shader) return false;
  const { geometry, uniforms } = spark, { position } = geometry.attributes, { index } = geometry;
  const corners = new Float32Array(GAUSSIANS * CORNERS.length * 3), indices = new Uint16Array(GAUSSIANS * TRIANGLES.length);
  for (let k = 0; k < GAUSSIANS; k++) {
    corners.set(CORNERS.flatMap(([x, y]) => [x, y, k]), k * CORNERS.length * 3);
    indices.set(TRIANGLES.map((i) => k * CORNERS.length + i), k * TRIANGLES.length);
  }
  geometry.setAttribute("position", new position.constructor(corners, 3));
  geometry.setIndex(new index.constructor(indices, 1));
  spark.material.vertexShader = shader;
  uniforms.gs4dCount = { value: 0 };
  const prepare = spark.onBeforeRender;
  spark.onBeforeRender = (...about) => {
    prepare.apply(spark, about);
    uniforms.gs4dCount.value = spark.activeSplats;
    geometry.instanceCount = Math.ceil(spark.activeSplats / GAUSSIANS);
  };
  return true;
}

/** Spark's vertex shader, which takes the place in the order from instance and corner; null where it looks different. */
function batched(shader) {
  const main = "void main() {";
  if (shader.split(main).length !== 2 || !shader.includes("gl_InstanceID")) return null;
  const [before, after] = shader.split(main);
  const at = `int gs4dAt = gl_InstanceID * ${GAUSSIANS} + int(position.z);`;
  // outside of the clip volume, as Spark has it for what it leaves out
  const none = "if (gs4dAt >= gs4dCount) { gl_Position = vec4(0.0, 0.0, 2.0, 1.0); return; }";
  return `${before}uniform int gs4dCount;\n${main}\n${at}\n${none}\n${after.replaceAll("gl_InstanceID", "gs4dAt")}`;
}

// What web/splats.js needs of three and Spark; everything else is left out of the bundle.
export { DataArrayTexture, NearestFilter, PerspectiveCamera, Scene, Vector2, Vector4, WebGLRenderer } from "three";
export {
  RGBAIntegerFormat, RedIntegerFormat, UnsignedByteType, UnsignedShortType, UnsignedIntType,
} from "three";
export { SparkRenderer, SplatMesh, dyno } from "@sparkjsdev/spark";

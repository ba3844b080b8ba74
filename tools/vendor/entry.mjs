// What web/splats.mjs needs of three and Spark; everything else is left out of the bundle.
export {
  DataArrayTexture, NearestFilter, PerspectiveCamera, RedIntegerFormat, RGBAIntegerFormat, Scene, UnsignedByteType,
  UnsignedShortType, Vector4, WebGLRenderer,
} from "three";
export { SparkRenderer, SplatMesh, dyno } from "@sparkjsdev/spark";

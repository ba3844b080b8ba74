// Bundles three and Spark into web/vendor/spark.mjs (one module, no outside address) and copies their licences.
// In this folder: npm ci && npm run build
import { readFileSync, mkdirSync, writeFileSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "..", "web", "vendor");
const modules = join(here, "node_modules");
const version = (name) => JSON.parse(readFileSync(join(modules, name, "package.json"), "utf8")).version;
const parts = [
  { name: "three", path: "three", home: "https://threejs.org" },
  { name: "Spark", path: "@sparkjsdev/spark", home: "https://sparkjs.dev" },
  { name: "fflate (inside Spark)", path: "fflate", home: "https://101arrowz.github.io/fflate" },
];

const head = parts.map((p) => `${p.name} ${version(p.path)} (MIT)`).join(", ");
const { outputFiles } = await build({
  entryPoints: [join(here, "entry.mjs")],
  bundle: true, format: "esm", target: "es2022", platform: "browser", minify: true, charset: "ascii",
  legalComments: "none", write: false,
  // the host has a three of its own, and each would warn of the other
  define: { "window.__THREE__": "globalThis.__GS4D_THREE__" },
  banner: { js: `/* ${head}: licences in LICENSES.txt beside this file. Built by tools/vendor/build.mjs. */` },
});
const text = outputFiles[0].text;

const place = (name, content) => {
  writeFileSync(join(out, `${name}.partial`), content);
  renameSync(join(out, `${name}.partial`), join(out, name));
};
mkdirSync(out, { recursive: true });
place("spark.mjs", text);
const licence = (p) => {
  const found = ["LICENSE", "LICENSE.md", "LICENSE.txt"].map((f) => join(modules, p.path, f))
    .find((f) => { try { return statSync(f).isFile(); } catch { return false; } });
  if (!found) throw new Error(`${p.name} ships no licence file`);
  return `${p.name} ${version(p.path)}\n${p.home}\n\n${readFileSync(found, "utf8").trim()}\n`;
};
place("LICENSES.txt", `spark.mjs holds:\n\n${parts.map(licence).join(`\n${"-".repeat(80)}\n\n`)}`);
console.log(`spark.mjs ${(text.length / 1e6).toFixed(2)} MB, ${(gzipSync(text).length / 1e6).toFixed(2)} MB gzipped`);

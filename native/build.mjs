// Builds build/nines.node with the machine's C compiler against the N-API headers from npm: no node-gyp,
// nothing downloaded.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

const here = import.meta.dirname;
const { include_dir: include } = createRequire(import.meta.url)("node-api-headers");
const sources = existsSync(join(here, "src"))
  ? readdirSync(join(here, "src")).map((name) => join(here, "src", name))
  : [];
const target = join(here, "build", "nines.node");
const newest = Math.max(0, ...[...sources, import.meta.filename].map((file) => statSync(file).mtimeMs));

if (sources.length > 0 && !(existsSync(target) && statSync(target).mtimeMs > newest)) {
  mkdirSync(join(here, "build"), { recursive: true });
  const flags = [
    "-shared",
    "-fPIC",
    "-O2",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fvisibility=hidden",
    "-DNAPI_VERSION=8",
  ];
  const c = sources.filter((name) => name.endsWith(".c"));
  const { status } = spawnSync(process.env.CC ?? "cc", [...flags, "-I", include, ...c, "-o", target], {
    stdio: "inherit",
  });
  process.exit(status ?? 1);
}

// `npm run package`: nines-VERSION-linux-ARCH.tar.gz, which a node needs Node for and nothing else: the compiled program,
// the native part, and of the npm packages those that a running node loads. Nothing is fetched.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync } from "node:fs";

process.chdir(new URL("../", import.meta.url).pathname);
const read = (file) => JSON.parse(readFileSync(file, "utf8"));
const { version } = read("package.json");
// A package within another goes with it.
const dependencies = Object.entries(read("package-lock.json").packages).flatMap(([path, { dev, link }]) =>
  /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) && !dev && !link && existsSync(path) ? [path] : [],
);
const parts = [
  "dist",
  "native/build/nines.node",
  "packaging",
  "docs/reference/site.schema.json",
  "LICENSE",
  "package.json",
];
const name = `nines-${version}-linux-${process.arch}.tar.gz`;
chmodSync("dist/cli/main.js", 0o755);
// Readable also for the process that orders certificates, which runs as nobody, whatever the umask was here.
const modes = ["--owner=0", "--group=0", "--numeric-owner", "--mode=u+rw,a+rX,go-w"];
const { status } = spawnSync(
  "tar",
  [
    "-czf",
    name,
    "--sort=name",
    ...modes,
    "--exclude=.tsbuildinfo",
    `--transform=s,^,nines-${version}/,`,
    "--",
    ...parts,
    ...dependencies,
  ],
  { stdio: "inherit" },
);
if (status !== 0) process.exit(1);
console.log(name);

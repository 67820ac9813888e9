// The directions of the design: base <- config, linux, contracts <- capability rooms <- daemon, lab, api <- cli.
const capability =
  "^src/(health|balancing|redundancy|forwarding|proxy|sessions|gslb|database|scaling|availability)/";
const pure = "/(wire|packet|machine|policy)[a-z0-9-]*[.]ts$";
module.exports = {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    {
      name: "base-knows-nothing",
      severity: "error",
      from: { path: "^src/base/", pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: "^src/base/" },
    },
    {
      name: "linux-knows-base",
      severity: "error",
      from: { path: "^src/linux/", pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: "^src/(base|linux)/" },
    },
    {
      name: "config-knows-base",
      comment: "config also reads the balancing names it validates; nothing else",
      severity: "error",
      from: { path: "^src/config/", pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: "^src/(base|config)/" },
    },
    {
      name: "contracts-know-base-and-config",
      severity: "error",
      from: { path: "^src/contracts/", pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: "^src/(base|contracts|config)/" },
    },
    {
      name: "rooms-do-not-know-each-other",
      comment: "a room declares ports in its own words; daemon/ composes. balancing is pure and shared.",
      severity: "error",
      from: { path: capability, pathNot: "\\.test\\.ts$" },
      to: {
        path: capability,
        pathNot: ["^src/$1/", "^src/balancing/"],
      },
    },
    {
      name: "rooms-do-not-know-who-composes-them",
      severity: "error",
      from: { path: capability },
      to: { path: "^src/(daemon|lab|api|cli)/" },
    },
    {
      name: "composers-do-not-know-the-cli",
      severity: "error",
      from: { path: "^src/(daemon|lab|api)/" },
      to: { path: "^src/cli/" },
    },
    {
      name: "pure-files-import-no-node",
      severity: "error",
      from: { path: pure },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "kernel-only-in-linux",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/linux/" },
      to: { path: "(^|/)(native/build|@nines/native)" },
    },
    {
      name: "no-tests-in-source",
      severity: "error",
      from: { path: "^src/", pathNot: "(\\.test\\.ts$|/testing/)" },
      to: { path: "(\\.test\\.ts$|/testing/)" },
    },
    { name: "no-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node"],
      extensions: [".ts", ".js"],
    },
  },
};

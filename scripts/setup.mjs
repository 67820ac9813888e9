// Makes a machine ready: npm packages, the native part, the compiled program, and Debian's packages for the lab
// and the tests.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";

/** Programs that the lab and the tests call, and the Debian package of each. */
const needed = {
  demo: { cc: "gcc", ip: "iproute2", nft: "nftables", unshare: "util-linux" },
  tests: {
    conntrack: "conntrack",
    conntrackd: "conntrackd",
    curl: "curl",
    haproxy: "haproxy",
    keepalived: "keepalived",
    nginx: "nginx-light",
    openssl: "openssl",
    pebble: "pebble",
    pgrep: "procps",
    scram: "scram",
    slowhttptest: "slowhttptest",
    socat: "socat",
    "stress-ng": "stress-ng",
    systemctl: "systemd",
    tcpdump: "tcpdump",
    tshark: "tshark",
    varnishtest: "varnish",
  },
};

const onPath = (program) =>
  [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"].some((dir) =>
    existsSync(`${dir}/${program}`),
  );

const run = (command, args, options = {}) =>
  spawnSync(command, args, { stdio: "inherit", ...options }).status === 0;

/**
 * Packages bring servers that Debian starts at once (nginx on port 80, keepalived). A test machine must not
 * get running servers from us: policy-rc.d refuses the start while we install, where nobody has one already.
 */
function withoutStartingServers(install) {
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  if (ours) {
    writeFileSync(policy, "#!/bin/sh\nexit 101\n");
    chmodSync(policy, 0o755);
  }
  try {
    return install();
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
}

function installPackages(packages) {
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "ignore", "inherit"],
  };
  const flags = ["-qq", "-y", "--no-install-recommends", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"];
  const attempts = 3;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    if (
      run("apt-get", ["update", "-qq"], options) &&
      run("apt-get", ["install", ...flags, ...packages], options)
    ) {
      return true;
    }
    console.error(`apt-get failed (attempt ${attempt} of ${attempts})`);
    if (attempt < attempts) spawnSync("sleep", [String(attempt * 5)]);
  }
  return false;
}

/** The Debian packages that are not there yet. */
const missingPackages = (programs) => [
  ...new Set(Object.entries(programs).flatMap(([program, name]) => (onPath(program) ? [] : [name]))),
];

/** Leaves the machine ready to run, or says the exact command that is missing. Without what only tests need,
 * those tests are skipped and counted. */
export function setUp({ tests = false } = {}) {
  const missing = missingPackages({ ...needed.demo, ...(tests ? needed.tests : {}) });
  if (missing.length > 0) {
    const command = `apt-get install -y ${missing.join(" ")}`;
    if (process.getuid() === 0 && existsSync("/usr/bin/apt-get")) {
      console.log(`installing: ${missing.join(" ")}`);
      if (!withoutStartingServers(() => installPackages(missing))) console.error(`could not: ${command}`);
    } else {
      console.error(`missing: ${missing.join(" ")}. To install: sudo ${command}`);
    }
  }
  if (missingPackages(needed.demo).length > 0) process.exit(1);
  if (!existsSync("node_modules/.package-lock.json") && !run("npm", ["ci", "--no-audit", "--no-fund"]))
    process.exit(1);
  if (!run("npm", ["run", "build", "--silent"])) process.exit(1);
}

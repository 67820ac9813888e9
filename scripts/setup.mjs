// Makes a machine ready: npm packages, the native part, the compiled program, and Debian's packages for the lab
// and the tests.
import { spawn } from "node:child_process";
import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { endOnSignals, ended } from "./leash.mjs";

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
    tshark: "tshark",
    varnishtest: "varnish",
  },
};

const onPath = (program) =>
  [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"].some((dir) =>
    existsSync(`${dir}/${program}`),
  );

const run = async (command, args, options = {}) =>
  (await ended(spawn(command, args, { stdio: "inherit", ...options }))) === 0;

/**
 * Packages bring servers that Debian starts at once (nginx on port 80, keepalived). A test machine must not
 * get running servers from us: policy-rc.d refuses the start while we install, where nobody has one already.
 */
async function withoutStartingServers(install) {
  const policy = "/usr/sbin/policy-rc.d";
  if (existsSync(policy)) return install();
  const remove = () => rmSync(policy, { force: true });
  process.on("exit", remove);
  writeFileSync(policy, "#!/bin/sh\nexit 101\n");
  chmodSync(policy, 0o755);
  try {
    return await install();
  } finally {
    remove();
    process.off("exit", remove);
  }
}

async function installPackages(packages) {
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "ignore", "inherit"],
  };
  const flags = ["-qq", "-y", "--no-install-recommends", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"];
  const attempts = 3;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    if (
      (await run("apt-get", ["update", "-qq"], options)) &&
      (await run("apt-get", ["install", ...flags, ...packages], options))
    ) {
      return true;
    }
    console.error(`apt-get failed (attempt ${attempt} of ${attempts})`);
    if (attempt < attempts) await sleep(attempt * 5000);
  }
  return false;
}

/** The Debian packages that are not there yet. */
const missingPackages = (programs) => [
  ...new Set(Object.entries(programs).flatMap(([program, name]) => (onPath(program) ? [] : [name]))),
];

async function debian(tests) {
  const missing = missingPackages({ ...needed.demo, ...(tests ? needed.tests : {}) });
  if (missing.length > 0) {
    const command = `apt-get install -y ${missing.join(" ")}`;
    if (process.getuid() === 0 && existsSync("/usr/bin/apt-get")) {
      console.log(`installing: ${missing.join(" ")}`);
      if (!(await withoutStartingServers(() => installPackages(missing))))
        console.error(`could not: ${command}`);
    } else {
      console.error(`missing: ${missing.join(" ")}. To install: sudo ${command}`);
    }
  }
  if (missingPackages(needed.demo).length > 0) process.exit(1);
}

async function npm(meanwhile) {
  if (
    !existsSync("node_modules/.package-lock.json") &&
    !(await run("npm", ["ci", "--no-audit", "--no-fund"]))
  )
    process.exit(1);
  if (!(await run("npx", ["tsc", "-b"]))) process.exit(1);
  await meanwhile?.();
}

/**
 * Leaves the machine ready to run, or says the exact command that is missing. Without what only tests need,
 * those tests are skipped and counted. `meanwhile` runs once the program is compiled and needs none of Debian's
 * packages, whose installation takes a minute on a machine that has none.
 */
export async function setUp({ tests = false, meanwhile } = {}) {
  const undo = endOnSignals();
  await Promise.all([debian(tests), npm(meanwhile)]);
  // The native part needs a compiler.
  if (!(await run("npm", ["run", "build", "--silent"]))) process.exit(1);
  undo();
}

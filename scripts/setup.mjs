// Makes a machine ready: npm packages, the native part, the compiled program and, for tests, Debian's packages.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Programs that the lab and the tests call, and the Debian package of each. */
const needed = {
  demo: { ip: "iproute2", unshare: "util-linux", cc: "gcc" },
  tests: {
    nft: "nftables",
    keepalived: "keepalived",
    tshark: "tshark",
    curl: "curl",
    "stress-ng": "stress-ng",
    openssl: "openssl",
    scram: "scram",
    haproxy: "haproxy",
    nginx: "nginx-light",
  },
};

const onPath = (program) =>
  [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"].some((dir) =>
    existsSync(`${dir}/${program}`),
  );

function run(command, args, options = {}) {
  const { status } = spawnSync(command, args, { stdio: "inherit", ...options });
  return status === 0;
}

function installPackages(packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const apt = ["-qq", "-y", "--no-install-recommends", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"];
  for (let attempt = 1; attempt <= 3; attempt++) {
    const options = { env, stdio: ["ignore", "ignore", "inherit"] };
    if (
      run("apt-get", ["update", "-qq"], options) &&
      run("apt-get", ["install", ...apt, ...packages], options)
    )
      return true;
    console.error(`apt-get failed (attempt ${attempt} of 3)`);
    spawnSync("sleep", [String(attempt * 5)]);
  }
  return false;
}

/** Leaves the machine ready to run, or ends the process with the exact command that is missing. */
export async function setUp({ tests = false } = {}) {
  const wanted = { ...needed.demo, ...(tests ? needed.tests : {}) };
  const missing = [
    ...new Set(
      Object.entries(wanted)
        .filter(([program]) => !onPath(program))
        .map(([, name]) => name),
    ),
  ];
  if (missing.length > 0) {
    if (process.getuid() !== 0) {
      console.error(`missing: ${missing.join(" ")}; run: sudo apt-get install -y ${missing.join(" ")}`);
      if (!tests) process.exit(1);
    } else if (existsSync("/usr/bin/apt-get")) {
      console.log(`installing ${missing.join(" ")}`);
      installPackages(missing);
    }
  }
  if (!existsSync("node_modules/.package-lock.json") && !run("npm", ["ci", "--no-audit", "--no-fund"]))
    process.exit(1);
  if (!run("npm", ["run", "build", "--silent"])) process.exit(1);
}

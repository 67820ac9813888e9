/**
 * For system tests: runs a scenario (a script) as the first process of fresh network, mount and process
 * namespaces. Everything it makes goes with it, interruptions included.
 */
import { execFileSync, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Whether this machine lets us make namespaces and has the tools; the tests are skipped otherwise. */
export const canNamespace = (...tools: readonly string[]): boolean => {
  try {
    execFileSync("unshare", ["-mnpf", "--kill-child", "true"], { stdio: "ignore" });
    for (const tool of ["ip", ...tools]) execFileSync("which", [tool], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};

/**
 * Answers what the scenario handed to `finish`. Rejects with its output when it fails. `tell` hears what it says
 * meanwhile, on standard error. It sees the /proc of the outside as /run/host-proc.
 */
export function runScenario<T>(
  scenario: URL,
  timeout = 40_000,
  args: readonly string[] = [],
  tell?: (text: string) => void,
): Promise<T> {
  const prepare =
    'mount -t tmpfs tmpfs /run && mkdir /run/netns /run/host-proc && mount --bind /proc /run/host-proc && mount -t proc proc /proc && mount -t sysfs sysfs /sys && ip link set lo up && exec "$@"';
  const child = spawn(
    "unshare",
    [
      "-mnpf",
      "--kill-child",
      "bash",
      "-c",
      prepare,
      "bash",
      process.execPath,
      "--import",
      "tsx",
      fileURLToPath(scenario),
      ...args,
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let out = "";
  let noise = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => {
    noise += chunk.toString();
    tell?.(chunk.toString());
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
  return new Promise((resolve, reject) => {
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const result = /^RESULT (.*)$/m.exec(out)?.[1];
      if (code === 0 && result !== undefined) resolve(JSON.parse(result) as T);
      else reject(new Error(`the scenario ended with ${code ?? signal}:\n${out}${noise}`));
    });
  });
}

/** In a scenario: hands the result over and ends. */
export function finish(result: unknown): never {
  process.stdout.write(`\nRESULT ${JSON.stringify(result)}\n`);
  process.exit(0);
}

/** In a scenario: a command line without a shell; its output. Throws when it fails. */
export function sh(line: string): string {
  const [command = "", ...args] = line.split(" ").filter((word) => word !== "");
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/**
 * A namespace on a wire of its own to this one: `name` has the address `far`, this end `near`, both with a
 * prefix length; the default route of `name` leads here.
 */
export function attach(name: string, near: string, far: string): void {
  const six = far.includes(":");
  const flag = six ? "-6" : "-4";
  if (!sh("ip netns list").includes(name)) {
    sh(`ip netns add ${name}`);
    sh(`ip link add v-${name} type veth peer name eth0 netns ${name}`);
    sh(`ip -n ${name} link set lo up`);
    sh(`ip netns exec ${name} sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0`);
    sh(`ip -n ${name} link set eth0 up`);
    sh(`ip link set v-${name} up`);
  }
  sh(`ip addr add ${near} dev v-${name} ${six ? "nodad" : ""}`);
  sh(`ip -n ${name} addr add ${far} dev eth0 ${six ? "nodad" : ""}`);
  sh(`ip -n ${name} ${flag} route add default via ${near.split("/")[0] ?? ""}`);
}

export const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));

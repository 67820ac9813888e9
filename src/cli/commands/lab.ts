import type { Command } from "commander";
import { OperationalError } from "../../base/errors.ts";
import type { DrillRun } from "../../contracts/drills.ts";
import { endOfLab } from "../lab-end.ts";

interface UpOptions {
  detach?: boolean;
  subject: DrillRun["subject"];
}

/** The lab that is meant: the only one, or the one of that name. */
async function theLab(name: string | undefined): Promise<{ name: string; pid: number }> {
  const { runningLabs } = await import("../../lab/outer.ts");
  const labs = runningLabs();
  const fitting = name === undefined ? labs : labs.filter((one) => one.name === name);
  const [only] = fitting;
  if (only !== undefined && fitting.length === 1) return only;
  const known =
    labs.length === 0
      ? "no lab is up; `nines lab up SITE` starts one"
      : `up: ${labs.map((one) => one.name).join(", ")}; choose with --lab`;
  throw new OperationalError(
    "NOT_FOUND",
    name === undefined || labs.length === 0 ? known : `no lab "${name}" is up (${known})`,
  );
}

export function registerLab(program: Command): void {
  const lab = program
    .command("lab")
    .description("a whole site of namespaces on this machine, for drills and for looking around");

  lab
    .command("up")
    .description("build the lab of a site and keep it up until Ctrl-C or `nines lab down`")
    .argument("<site>", "the site file, with a lab: section")
    .option("-d, --detach", "return once it serves")
    .option("--subject <name>", "what runs on the nodes: nines or keepalived", "nines")
    .action(async (site: string, options: UpOptions) => {
      const { loadSite } = await import("../../config/load.ts");
      const loaded = await loadSite(site);
      const { insideLab, repeatDetached, repeatInLab, runningLabs } = await import("../../lab/outer.ts");
      const name = loaded.site.site;
      if (insideLab()) {
        const { keepUp } = await import("../../lab/stay.ts");
        await keepUp(loaded.site, site, options.subject).catch(endOfLab);
        return;
      }
      if (runningLabs().some((one) => one.name === name))
        throw new OperationalError(
          "CONFLICT",
          `the lab "${name}" is up already; \`nines lab down --lab ${name}\` ends it`,
        );
      if (options.detach === true) await repeatDetached(name);
      else process.exitCode = await repeatInLab(name);
    });

  lab
    .command("exec")
    .description("run a command on a host of the lab: nines lab exec lb1 -- ip address")
    .argument("<host>", "a node, backend or client; `wires` is where the bridges are")
    .argument("<command...>", "the command, behind --")
    .option("--lab <name>", "which lab, where several are up")
    .action(async (host: string, command: string[], options: { lab?: string }) => {
      const { pid } = await theLab(options.lab);
      const { enterLab } = await import("../../lab/outer.ts");
      process.exitCode = await enterLab(pid, host === "wires" ? undefined : host, command);
    });

  lab
    .command("down")
    .description("end the lab and everything in it")
    .option("--lab <name>", "which lab, where several are up")
    .action(async (options: { lab?: string }) => {
      const { name, pid } = await theLab(options.lab);
      const { endLab } = await import("../../lab/outer.ts");
      await endLab(pid);
      console.log(`lab ${name} is down`);
    });

  lab
    .command("list")
    .description("list the labs that are up")
    .action(async () => {
      const { runningLabs } = await import("../../lab/outer.ts");
      for (const { name, pid } of runningLabs()) console.log(`${name}\t${pid}`);
    });
}

import { CommandExit } from "./exit-codes.ts";

const PORT = 7410;

export interface ControlOptions {
  readonly control?: string;
  readonly controlName?: string;
  readonly controlCa?: string;
  readonly controlTokenFile?: string;
}
export interface ControlTarget {
  readonly host: string;
  readonly port: number;
  readonly name: string | undefined;
  readonly caFile: string | undefined;
  readonly tokenFile: string;
  /** From the environment; never from the command line, which every user of the host can read. */
  readonly token: string | undefined;
}

/** `host`, `host:port`, `[2001:db8::1]:port`; undefined where no node on another host is meant. */
export function parseControl(
  options: ControlOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ControlTarget | undefined {
  const text = options.control ?? environment["NINES_CONTROL"];
  if (text === undefined || text === "") return undefined;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? PORT);
  if (host === undefined || port < 1 || port > 65_535)
    throw new CommandExit(
      "usage",
      `--control ${text}: expected a host, host:port, or [2001:db8::1]:port for an IPv6 address`,
    );
  const token = environment["NINES_CONTROL_TOKEN"];
  const tokenFile = options.controlTokenFile ?? environment["NINES_CONTROL_TOKEN_FILE"];
  if (token === undefined && tokenFile === undefined)
    throw new CommandExit(
      "usage",
      "--control needs the site's control token: --control-token-file FILE, or NINES_CONTROL_TOKEN in the environment",
    );
  return {
    host,
    port,
    name: options.controlName ?? environment["NINES_CONTROL_NAME"],
    caFile: options.controlCa ?? environment["NINES_CONTROL_CA"],
    tokenFile: tokenFile ?? "",
    token: options.controlTokenFile === undefined ? token : undefined,
  };
}

/** The lab's side of the prober process. */
import { type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { OperationalError } from "../base/errors.ts";
import type { EstablishedOutcome } from "../contracts/drills.ts";
import type { StreamSpec } from "./probe/stream.ts";
import type { Observation } from "./policy.ts";
import { entryCommand, start } from "./shell.ts";

export type ProberOrder =
  { readonly type: "begin"; readonly streams: readonly StreamSpec[] } | { readonly type: "end" };

export type ProberReport =
  | { readonly type: "ready" | "begun" }
  /** due, done, error. */
  | {
      readonly type: "rows";
      readonly stream: string;
      readonly rows: readonly (readonly [number, number, string?])[];
    }
  | {
      readonly type: "ended";
      readonly lag: number;
      readonly kept: Readonly<{ [stream: string]: EstablishedOutcome }>;
    };

export class Prober {
  readonly child: ChildProcess;
  readonly #waiting = new Map<string, (report: ProberReport) => void>();
  #observations = new Map<string, Observation[]>();
  #specs: readonly StreamSpec[] = [];

  /** `realTime`: a prober that is starved with the rest measures itself. */
  constructor(client: string, realTime: boolean) {
    const chrt = realTime ? ["chrt", "--rr", "20"] : [];
    this.child = start(["ip", "netns", "exec", client, ...chrt, ...entryCommand("prober-entry")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.child.stdin?.on("error", () => {});
    createInterface({ input: this.child.stdout! }).on("line", (line) =>
      this.#hear(JSON.parse(line) as ProberReport),
    );
    this.child.on("close", () => this.#waiting.clear());
  }

  #hear(report: ProberReport): void {
    if (report.type !== "rows") {
      this.#waiting.get(report.type)?.(report);
      this.#waiting.delete(report.type);
      return;
    }
    const list = this.#observations.get(report.stream) ?? [];
    for (const [due, done, error] of report.rows)
      list.push(error === undefined ? { due, done } : { due, done, error });
    this.#observations.set(report.stream, list);
  }

  #hears<T extends ProberReport["type"]>(
    type: T,
    within: number,
  ): Promise<Extract<ProberReport, { type: T }>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new OperationalError("TIMEOUT", `the prober did not say "${type}" within ${within} ms`)),
        within,
      );
      this.#waiting.set(type, (report) => {
        clearTimeout(timer);
        resolve(report as Extract<ProberReport, { type: T }>);
      });
    });
  }

  #order(order: ProberOrder): void {
    this.child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  async ready(): Promise<void> {
    await this.#hears("ready", 10_000);
  }

  async begin(streams: readonly StreamSpec[]): Promise<void> {
    this.#observations = new Map();
    this.#specs = streams;
    this.#order({ type: "begin", streams });
    await this.#hears("begun", 60_000);
  }

  /** What was settled since `begin`, by stream. */
  get observations(): ReadonlyMap<string, readonly Observation[]> {
    return this.#observations;
  }

  get specs(): readonly StreamSpec[] {
    return this.#specs;
  }

  /**
   * Whether every stream has answers since then, and none failed. `fresh` leaves established
   * connections out: those that died stay dead; and arriving ones are judged when they are over.
   */
  goodSince(since: number, fresh: boolean): boolean {
    return this.#specs.every(({ stream, kind }) => {
      if (kind === "arriving" || (fresh && kind.startsWith("established"))) return true;
      const recent = (this.#observations.get(stream) ?? []).filter(({ due }) => due >= since);
      return recent.length > 0 && recent.every(({ error }) => error === undefined);
    });
  }

  async end(): Promise<Extract<ProberReport, { type: "ended" }>> {
    this.#order({ type: "end" });
    return this.#hears("ended", 30_000);
  }

  stop(): void {
    this.child.kill("SIGKILL");
  }
}

import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { type Clock, type Timer, addTime, seconds } from "../../base/time.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import { type Issued, checkAnswer, issuedOf, requestFor, responderOf, stapleName } from "./answers.ts";
import type { AskResponder } from "./ask.ts";
import { type Validity, askAt } from "./policy-staple.ts";

/** The certificates of a service whose responders are asked. */
export interface StapleWish {
  readonly service: string;
  /** PEM files with the chain; those that are not there are left for later. */
  readonly files: readonly string[];
}

export interface StapleKeeperOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Where answers are kept, for the workers and for the next start. */
  readonly directory: string;
  readonly ask: AskResponder;
  readonly notice: (event: string, fields: Record<string, unknown>) => void;
}

interface Known {
  readonly service: string;
  readonly issued: Issued;
  readonly url: string;
  readonly chance: number;
  kept: Validity | undefined;
  /** When this process got what is kept, as wall time. */
  asked: number | undefined;
  trouble: { failures: number; at: number } | undefined;
}

/** Certificates are replaced now and then, and answers last for days. */
const LOOK_EVERY = seconds(30);

/** Fetches OCSP responses before those that it has end, and keeps them as files. */
export class StapleKeeper {
  readonly #options: StapleKeeperOptions;
  /** By the name of the file that keeps the answer. */
  readonly #known = new Map<string, Known>();
  /** Which of them a service has; two may have the same. */
  readonly #names = new Map<string, Set<string>>();
  readonly #counts = new Map<string, { fetched: number; failed: number }>();
  /** What was said of a file that cannot be asked about, so that it is said once. */
  readonly #told = new Map<string, string>();
  #wishes: readonly StapleWish[] = [];
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(options: StapleKeeperOptions) {
    this.#options = options;
  }

  /** After every site. */
  update(wishes: readonly StapleWish[]): void {
    const same = JSON.stringify(wishes) === JSON.stringify(this.#wishes);
    this.#wishes = wishes;
    if (!same) void this.look();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Asks for what is due. One look at a time. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#timer?.cancel();
      const { clock } = this.#options;
      if (!this.#stopped && this.#wishes.length > 0)
        this.#timer = clock.setTimer(addTime(clock.monotonic(), LOOK_EVERY), () => void this.look());
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const names = new Set<string>();
    this.#names.clear();
    for (const { service, files } of this.#wishes) {
      const own = new Set<string>();
      for (const file of files) {
        const name = await this.#read(service, file);
        if (name !== undefined) own.add(name);
      }
      this.#names.set(service, own);
      for (const name of own) names.add(name);
    }
    for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
    await this.#tidy(names);
    for (const [name, known] of this.#known) {
      const due = askAt(known.kept, known.asked, known.trouble, known.chance);
      if (!this.#stopped && due <= this.#options.clock.wall()) await this.#fetch(name, known);
    }
  }

  async #read(service: string, file: string): Promise<string | undefined> {
    let pem: string;
    try {
      pem = await readFile(file, "latin1");
    } catch {
      // The workers say what cannot be read; one that is ordered may come later.
      return undefined;
    }
    const issued = issuedOf(pem);
    const url = issued.ok ? responderOf(issued.value.certificate) : undefined;
    if (!issued.ok || url === undefined) {
      this.#cannot(service, file, issued.ok ? "the certificate names no responder" : issued.error);
      return undefined;
    }
    this.#told.delete(file);
    const name = stapleName(issued.value.certificate);
    if (!this.#known.has(name)) {
      const chance = this.#options.random.next();
      const kept = await this.#kept(name, issued.value);
      const known = { service, issued: issued.value, url, chance, kept };
      this.#known.set(name, { ...known, asked: undefined, trouble: undefined });
    }
    return name;
  }

  #cannot(service: string, file: string, reason: string): void {
    if (this.#told.get(file) === reason) return;
    this.#told.set(file, reason);
    this.#options.notice("ocsp.failed", { service, file, reason });
  }

  /** An answer of before a restart is as good as a new one. */
  async #kept(name: string, issued: Issued): Promise<Validity | undefined> {
    try {
      const bytes = await readFile(join(this.#options.directory, name));
      const checked = checkAnswer(bytes, issued, this.#options.clock.wall());
      return checked.ok ? checked.value : undefined;
    } catch {
      return undefined;
    }
  }

  async #fetch(name: string, known: Known): Promise<void> {
    const { clock, ask, notice } = this.#options;
    const { service, issued, url } = known;
    const count = this.#countOf(service);
    try {
      const question = requestFor(issued);
      if (!question.ok) throw new OperationalError("MESSAGE_INVALID", question.error);
      const bytes = await ask(url, question.value, issued.issuer);
      const checked = checkAnswer(bytes, issued, clock.wall());
      if (!checked.ok) throw new OperationalError("MESSAGE_INVALID", `${url}: ${checked.error}`);
      await this.#write(name, bytes);
      known.kept = checked.value;
      known.asked = clock.wall();
      known.trouble = undefined;
      count.fetched++;
      const until = new Date(checked.value.nextUpdate).toISOString();
      notice("ocsp.fetched", { service, until, reason: "the one before was due, or there was none" });
    } catch (error) {
      if (this.#stopped) return;
      count.failed++;
      const failures = (known.trouble?.failures ?? 0) + 1;
      known.trouble = { failures, at: clock.wall() };
      notice("ocsp.failed", { service, reason: messageOf(error), failures });
    }
  }

  #countOf(service: string): { fetched: number; failed: number } {
    let count = this.#counts.get(service);
    if (count === undefined) this.#counts.set(service, (count = { fetched: 0, failed: 0 }));
    return count;
  }

  /** As a whole: a worker may look at any moment. */
  async #write(name: string, bytes: Uint8Array): Promise<void> {
    const { directory } = this.#options;
    const made = join(directory, `${name}.new`);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(made, bytes, { mode: 0o600 });
    await rename(made, join(directory, name));
  }

  /** Answers for certificates that have been replaced go. */
  async #tidy(names: ReadonlySet<string>): Promise<void> {
    const { directory } = this.#options;
    const there = await readdir(directory).catch((): string[] => []);
    for (const name of there) if (!names.has(name)) await rm(join(directory, name), { force: true });
  }

  samples(): MetricSample[] {
    return [...new Set(this.#wishes.map(({ service }) => service))].flatMap((service): MetricSample[] => {
      const ends = [...(this.#names.get(service) ?? [])].map(
        (name) => this.#known.get(name)?.kept?.nextUpdate ?? 0,
      );
      const count = this.#countOf(service);
      return [
        {
          name: "nines_proxy_ocsp_expiry_seconds",
          help: "When the first fetched OCSP response of a service ends, in seconds since 1970; 0 while one is missing.",
          kind: "gauge",
          labels: { service },
          value: ends.length === 0 ? 0 : Math.min(...ends) / 1000,
        },
        ...(["fetched", "failed"] as const).map((result): MetricSample => ({
          name: "nines_proxy_ocsp_fetches_total",
          help: "OCSP responses asked for, by result.",
          kind: "counter",
          labels: { service, result },
          value: count[result],
        })),
      ];
    });
  }
}

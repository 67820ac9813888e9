import { deepStrictEqual, ok } from "node:assert";
import { type Socket, connect } from "node:net";
import { type Random, chance, randomInt, seededRandom } from "../../base/random.ts";
import { latin1 } from "../engine/channel.ts";
import { Http1Reader, Signal } from "../http1/machine.ts";
import { FieldNames } from "../http1/wire-names.ts";
import { sleep, startProxy, startRaw } from "./harness.ts";
import { fuzzed, split } from "./mutate.ts";
import { read, testLimits } from "./reading.ts";

/** One stream to the parser: it throws nothing, keeps little, and finds the same however the bytes come. */
export function fuzzParser(seed: number): void {
  const random = seededRandom(seed);
  const role = chance(random, 0.5) ? "request" : "response";
  const bytes = fuzzed(random, role);
  const pieces = split(random, bytes);
  deepStrictEqual(read(role, pieces), read(role, [bytes]), `seed ${seed}: depends on how the bytes came`);
  const reader = new Http1Reader(role, new FieldNames(), testLimits, latin1);
  for (const piece of pieces) {
    reader.feed(piece, 0, piece.length);
    for (let signal = reader.next(); signal !== Signal.need; signal = reader.next())
      if (signal === Signal.fault) return;
    ok(reader.pending <= testLimits.head + 1, `seed ${seed}: ${reader.pending} bytes kept`);
  }
}

export interface EngineFuzz {
  /** One connection with a fuzzed stream, to a backend that answers with another. */
  connection(seed: number): Promise<void>;
  /** Waits until nothing is under way any more; says what stays, if something does. */
  settled(): Promise<string | undefined>;
  statuses(): Record<string, number>;
}

/** A whole proxy in this process. Its backend says what the client's seed makes of it. */
export async function startEngineFuzz(): Promise<EngineFuzz> {
  let answers: Random = seededRandom(1);
  const backend = await startRaw((socket) => {
    socket.on("data", () => {
      if (chance(answers, 0.1)) socket.destroy();
      else void sendSplit(socket, answers, fuzzed(answers, "response"), chance(answers, 0.5));
    });
    socket.on("end", () => socket.end());
  });
  const short = { connect: "500ms", response: "100ms", idle: "100ms", total: "400ms", tunnel: "100ms" };
  const { port, proxy } = await startProxy(
    {
      routes: [{ pool: "apps", timeouts: short, outlier: false, compress: true }],
      timeouts: { head: "100ms", idle: "100ms", body: "100ms", write: "200ms" },
    },
    { apps: { backends: { a: backend, b: backend } } },
  );
  const statuses: Record<string, number> = {};
  return {
    async connection(seed) {
      const random = seededRandom(seed);
      answers = seededRandom(seed + 1);
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      let text = "";
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      socket.on("error", () => undefined);
      socket.on("data", (chunk: Buffer) => (text += text.length < 64 ? chunk.toString("latin1") : ""));
      socket.on("end", () => socket.destroy());
      const last = from(random);
      await sendSplit(socket, random, fuzzed(random, "request"), last === "end");
      if (last === "destroy") socket.destroy();
      const status = (await within(closed, 20_000)) ? (/^HTTP\/1\.1 (\d)/.exec(text)?.[1] ?? "none") : "hung";
      ok(status !== "hung", `seed ${seed}: the connection stays open for ever`);
      statuses[status] = (statuses[status] ?? 0) + 1;
    },
    async settled() {
      let gauges = proxy.metrics().gauges;
      for (let i = 0; i < 200; i++) {
        gauges = proxy.metrics().gauges;
        if (Object.values(gauges).every((value) => value === 0)) return undefined;
        await sleep(100);
      }
      return JSON.stringify(gauges);
    },
    statuses: () => statuses,
  };
}

const from = (random: Random): "end" | "destroy" | "stay" =>
  chance(random, 0.6) ? "end" : chance(random, 0.5) ? "destroy" : "stay";

/** The pieces one after another, some of them with a pause between. */
async function sendSplit(socket: Socket, random: Random, bytes: Uint8Array, end: boolean): Promise<void> {
  for (const piece of split(random, bytes)) {
    if (socket.destroyed) return;
    socket.write(piece);
    if (chance(random, 0.1)) await sleep(randomInt(random, 0, 2));
  }
  if (end && !socket.destroyed) socket.end();
}

const within = (what: Promise<void>, ms: number): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    void what.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });

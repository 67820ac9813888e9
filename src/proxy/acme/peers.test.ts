import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect } from "node:tls";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ip } from "../../base/addresses.ts";
import { seededRandom } from "../../base/random.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { type Clock, type MonotonicMs, addTime, seconds } from "../../base/time.ts";
import { VirtualClock } from "../../base/virtual-clock.ts";
import { acmeSchema } from "../../config/schema/tls.ts";
import { readSiteKeys } from "../../config/site-keys.ts";
import { listenForNodes } from "../../linux/site-tls.ts";
import { makeKeys } from "../../forwarding/flows/keys.ts";
import { cleanUp, makeCertificate, openssl } from "../testing/harness.ts";
import type { Challenge } from "./messages.ts";
import type { Order } from "./orders.ts";
import { CertificatePeers } from "./peers.ts";
import { CertificateKeeper } from "./service.ts";
import { DirectoryStore, accountName } from "./store.ts";

const settings = acmeSchema.parse({ names: ["shop.example"], acceptTerms: true });
const patient = { timeout: 20_000, interval: 20 };
const NODES = { a: "127.0.0.2", b: "127.0.0.3" } as const;
type Name = keyof typeof NODES;

let root: string;
let port: number;
let closing: (() => void)[];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "nines-peers-"));
  closing = [];
  await makeKeys(join(root, "keys"), "shop", ["a", "b", "stranger"]);
  await makeKeys(join(root, "other"), "shop", ["a", "b"]);
  // Free on the first address is free on the second: nobody else uses them.
  const probe = createServer().listen(0, NODES.a);
  await new Promise((resolve) => probe.once("listening", resolve));
  ({ port } = probe.address() as AddressInfo);
  await new Promise((resolve) => probe.close(resolve));
});
afterEach(async () => {
  for (const close of closing) close();
  rmSync(root, { recursive: true, force: true });
  await cleanUp();
});

const pemFor = (name = "shop.example"): string => {
  const files = makeCertificate(name);
  return readFileSync(files.key, "utf8") + readFileSync(files.certificate, "utf8");
};
/** Newer by its second, which is as precisely as certificates say it. */
const later = async (): Promise<string> => {
  await new Promise((resolve) => setTimeout(resolve, 1100));
  return pemFor();
};
const never: Order = () => Promise.reject(new Error("not to be ordered"));

async function startNode(
  node: Name,
  options: { here: boolean; order?: Order; keys?: string; open?: boolean; site?: string; clock?: Clock },
) {
  const clock = options.clock ?? new SystemClock();
  const events: { event: string; fields: Record<string, unknown> }[] = [];
  const published: (readonly Challenge[])[] = [];
  const changed: string[] = [];
  const directory = join(root, node);
  const notice = (event: string, fields: Record<string, unknown>) => void events.push({ event, fields });
  const keeper = new CertificateKeeper({
    clock,
    node,
    random: seededRandom(1),
    store: new DirectoryStore(directory),
    order: options.order ?? never,
    secret: () => Promise.resolve(""),
    publish: (challenges) => published.push(challenges),
    changed: (service) => changed.push(service),
    notice,
  });
  const other = node === "a" ? "b" : "a";
  const peers = new CertificatePeers({
    clock,
    site: options.site ?? "shop",
    node,
    listen: { address: ip(NODES[node]), port },
    peers: [{ node: other, address: ip(NODES[other]), services: ["web"] }],
    keys: await readSiteKeys(join(root, "site.yaml"), options.keys ?? "keys", node),
    host: keeper,
    notice,
  });
  closing.push(() => {
    peers.close();
    keeper.stop();
  });
  if (options.open !== false) await peers.open();
  keeper.share(peers);
  keeper.update([{ service: "web", settings, here: options.here }]);
  await keeper.look();
  const counter = (name: string, label: string): number =>
    [...peers.samples(), ...keeper.samples()].find(
      (sample) =>
        sample.name.endsWith(name) && (label === "" || Object.values(sample.labels).includes(label)),
    )?.value ?? -1;
  const told = (event: string) => events.filter((each) => each.event === event);
  return { keeper, peers, events, told, published, changed, directory, counter };
}
const fileOf = (node: Name): string => join(root, node, "certificates/web.pem");
/** Without the line that says where it was ordered. */
const read = (node: Name): string => readFileSync(fileOf(node), "utf8").replace(/^nines: .*\n/, "");

/** Says something to a node as whoever has these keys, and waits for the end. */
async function say(text: string, keys: ConnectionOptions, cut = false): Promise<string> {
  return await new Promise((resolve) => {
    let answer = "";
    const socket = connect({ host: NODES.b, port, rejectUnauthorized: false, ...keys });
    socket.on("data", (part: Buffer) => (answer += part.toString()));
    socket.on("error", (error) => (answer += `error ${error.message}`));
    socket.on("close", () => resolve(answer));
    if (cut) socket.end(text);
    else socket.write(text);
  });
}
const keysOf = async (node: string, directory = "keys"): Promise<ConnectionOptions> => {
  const keys = await readSiteKeys(join(root, "site.yaml"), directory, node);
  return { key: keys.key, cert: keys.certificate };
};
const post = (body: string, length = Buffer.byteLength(body)): string =>
  `POST /v1/certificates HTTP/1.1\r\nhost: nines\r\ncontent-length: ${length}\r\n\r\n${body}`;

describe.skipIf(!openssl)("certificates of a pair", () => {
  it("are ordered by one node and are at the other at once, with account and challenges, for its owner alone", async () => {
    const b = await startNode("b", { here: false });
    const pem = pemFor();
    const atOther: number[] = [];
    const a = await startNode("a", {
      here: true,
      order: async (_, host) => {
        await host.account({ key: "the account's key", url: "https://authority/1" });
        const challenge = { kind: "http-01", token: "t", answer: "t.a" } as const;
        await host.publish(challenge);
        atOther.push(b.published.at(-1)?.length ?? 0);
        host.withdraw(challenge);
        return pem;
      },
    });
    await vi.waitFor(() => expect(read("b")).toBe(pem), patient);
    // The authority may ask at the other node while the address moves.
    expect(atOther).toEqual([1]);
    await vi.waitFor(() => expect(b.published.at(-1)).toEqual([]), patient);
    expect(statSync(fileOf("b")).mode & 0o777).toBe(0o600);
    await vi.waitFor(() => expect(b.told("acme.received")).toHaveLength(1), patient);
    expect(b.changed).toEqual(["web"]);
    expect(a.told("acme.ordered")).toHaveLength(1);
    expect(b.told("acme.received")[0]?.fields).toMatchObject({ service: "web", from: "a" });
    expect(readFileSync(join(root, "b", accountName(settings.directory)), "utf8")).toContain("authority/1");
    expect(b.keeper.problems()).toEqual([]);
    // Nothing of a key is in what is told.
    expect(JSON.stringify([a.events, b.events])).not.toMatch(/PRIVATE KEY|account's key/);

    // Takeover: the other one finds it here, with its account, and orders nothing.
    b.keeper.update([{ service: "web", settings, here: true }]);
    await b.keeper.look();
    expect(b.told("acme.ordering")).toEqual([]);
  });

  it("come to a node that starts later, and to one that was away when they were renewed", async () => {
    const pem = pemFor();
    const a = await startNode("a", { here: true, order: () => Promise.resolve(pem) });
    const b = await startNode("b", { here: false });
    expect(read("b")).toBe(pem);
    b.peers.close();
    b.keeper.stop();
    const renewed = await later();
    writeFileSync(fileOf("a"), renewed);
    await a.keeper.look();
    await a.peers.tell(true);
    expect(read("b")).toBe(pem);
    // It asks when it starts; and where it could not be told, it is told again.
    const again = await startNode("b", { here: false });
    expect(read("b")).toBe(renewed);
    again.keeper.stop();
  });

  it("are told again to who could not be told", async () => {
    const b = await startNode("b", { here: false, open: false });
    const pem = pemFor();
    const a = await startNode("a", { here: true, order: () => Promise.resolve(pem) });
    expect(() => read("b")).toThrow(/ENOENT/);
    await b.peers.open();
    await a.peers.upkeep();
    await vi.waitFor(() => expect(read("b")).toBe(pem), patient);
  });

  it("are not ordered twice: two that may order, and do not hear each other as Active, leave it to the first", async () => {
    const pem = pemFor();
    let ordered = 0;
    const order: Order = () => {
      ordered++;
      return Promise.resolve(pem);
    };
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const a = startNode("a", {
      here: true,
      order: async (...input) => {
        await held;
        return await order(...input);
      },
    });
    await vi.waitFor(async () => {
      const seen = await say("GET /v1/certificates HTTP/1.1\r\nhost: nines\r\n\r\n", {
        ...(await keysOf("b")),
        host: NODES.a,
      });
      expect(seen).toContain('"ordering":["web"]');
    }, patient);
    const b = await startNode("b", { here: true, order });
    expect(b.told("acme.ordering")).toEqual([]);
    release();
    await a;
    await vi.waitFor(() => expect(read("b")).toBe(pem), patient);
    expect(ordered).toBe(1);
  });

  it("go to nobody who cannot show that it is a node of this site that runs the same services; each is counted", async () => {
    mkdirSync(join(root, "b/certificates"), { recursive: true });
    const pem = pemFor();
    writeFileSync(fileOf("b"), pem);
    const b = await startNode("b", { here: false });
    const get = "GET /v1/certificates HTTP/1.1\r\nhost: nines\r\nconnection: close\r\n\r\n";
    expect(await say(get, await keysOf("a"))).toContain("PRIVATE KEY");
    for (const keys of [{}, await keysOf("a", "other")])
      expect(await say(get, keys)).not.toContain("PRIVATE KEY");
    await vi.waitFor(() => expect(b.counter("refused_total", "tls")).toBe(2), patient);
    const stranger = await say(get, await keysOf("stranger"));
    expect(stranger).toMatch(/^HTTP\/1.1 403/);
    expect(stranger).not.toContain("PRIVATE KEY");
    expect(b.counter("refused_total", "not_a_peer")).toBe(1);
    expect(b.told("acme.peer_refused").map(({ fields }) => fields["kind"])).toEqual(["tls", "not_a_peer"]);
  });

  it("are not asked of whoever answers with another certificate than that node's", async () => {
    const b = await startNode("b", { here: false, keys: "other" });
    const a = await startNode("a", { here: true, order: () => Promise.resolve(pemFor()) });
    expect(a.told("acme.ordered")).toHaveLength(1);
    await vi.waitFor(() => expect(a.counter("refused_total", "tls")).toBeGreaterThan(0), patient);
    expect(() => read("b")).toThrow(/ENOENT/);
    expect(b.counter("received_total", "")).toBe(0);
  });

  it("go to a node that refuses them no more, and are a problem to be told while it does so for minutes", async () => {
    class MovedClock extends SystemClock {
      by = 0;
      override monotonic(): MonotonicMs {
        return addTime(super.monotonic(), seconds(this.by));
      }
    }
    const clock = new MovedClock();
    const other = await startNode("b", { here: false, site: "renamed" });
    const a = await startNode("a", { here: true, order: () => Promise.resolve(pemFor()), clock });
    expect(a.peers.problem()).toBe("");
    clock.by = 200;
    await a.peers.upkeep();
    expect(a.peers.problem()).toMatch(/^b: /);
    other.peers.close();
    // Not there is no refusal, and what was is not now.
    clock.by = 300;
    await a.peers.upkeep();
    expect(a.peers.problem()).toBe("");
    const b = await startNode("b", { here: false });
    await a.peers.upkeep();
    clock.by = 600;
    await a.peers.upkeep();
    expect([a.peers.problem(), b.peers.problem()]).toEqual(["", ""]);
    expect(read("b")).toBe(read("a"));
  });

  it("and what failed go to a node of the version before as it reads them, and to the next one as that does", async () => {
    const failing: Order = () => Promise.reject(new Error("rateLimited"));
    const old: string[] = [];
    const before = createTlsServer(
      listenForNodes(await readSiteKeys(join(root, "site.yaml"), "keys", "b")),
      (request, response) => {
        let text = "";
        request.on("data", (part: Buffer) => (text += part.toString()));
        request.on("end", () => {
          old.push(text);
          const { version = 1 } = (text === "" ? {} : JSON.parse(text)) as { version?: number };
          response.writeHead(version === 1 ? 200 : 400).end("{}");
        });
      },
    );
    await new Promise<void>((resolve) => before.listen(port, NODES.b, resolve));
    const a = await startNode("a", { here: true, order: failing });
    await vi.waitFor(() => expect(old.filter((text) => text !== "")).toHaveLength(1), patient);
    expect(JSON.parse(old.at(-1) ?? "")).toMatchObject({ version: 1, claims: [] });
    expect(old.at(-1)).not.toContain("troubles");
    const ended = new Promise((resolve) => before.close(resolve));
    before.closeAllConnections();
    await ended;
    const b = await startNode("b", { here: true, order: failing });
    expect(b.told("acme.ordering")).toEqual([]);
    expect((await b.keeper.state(["web"], false)).troubles["web"]).toMatchObject({ failures: 1, node: "a" });
    expect(a.told("acme.peer_refused").filter(({ fields }) => fields["kind"] !== "message")).toEqual([]);
  });

  it("stay as they are whatever else comes: cut off, too long, broken, older, another's, another service's", async () => {
    mkdirSync(join(root, "b/certificates"), { recursive: true });
    const own = pemFor();
    writeFileSync(fileOf("b"), own);
    const b = await startNode("b", { here: false });
    const keys = await keysOf("a");
    const state = (certificates: Record<string, string>, more: object = {}): string =>
      JSON.stringify({
        version: 1,
        site: "shop",
        node: "a",
        sequence: 1,
        certificates,
        accounts: {},
        challenges: [],
        claims: [],
        ordering: [],
        ...more,
      });
    const newer = pemFor();
    const body = state({ web: newer });
    const [key = "", chain = ""] = newer.split("-----BEGIN CERTIFICATE-----");
    const foreign = pemFor().split("-----BEGIN CERTIFICATE-----")[0] ?? "";
    const attempts: string[] = [
      post(body.slice(0, 100), Buffer.byteLength(body)),
      post(body.slice(0, -20)),
      post("x".repeat(5 * 1024 * 1024)),
      post("\u0000\u0001{"),
      post(state({ web: newer }, { node: "b" })),
      post(state({ web: newer }, { site: "another" })),
      post(state({ web: `${foreign}-----BEGIN CERTIFICATE-----${chain}` })),
      post(state({ web: key })),
      post(state({ web: pemFor("other.example") })),
      post(state({ "../../evil": newer, admin: newer })),
      "PUT /v1/certificates HTTP/1.1\r\nhost: nines\r\n\r\n",
      "\u0016\u0003\u0001",
    ];
    for (const [i, attempt] of attempts.entries()) {
      await say(attempt, keys, i === 0);
      expect(read("b")).toBe(own);
    }
    expect(b.counter("received_total", "")).toBe(0);
    expect(b.counter("refused_total", "message")).toBeGreaterThanOrEqual(6);
    expect(b.changed).toEqual(["web"]);
    // And what is right still comes.
    const renewed = await later();
    expect(await say(post(state({ web: renewed })), keys)).toContain("200");
    expect(read("b")).toBe(renewed);
  });

  it("bring challenges, which nothing older takes away or brings back, and which end with their node", async () => {
    const clock = new VirtualClock(0, new SystemClock().wall());
    const published: number[] = [];
    const keeper = new CertificateKeeper({
      clock,
      node: "b",
      random: seededRandom(1),
      store: new DirectoryStore(join(root, "b")),
      order: never,
      secret: () => Promise.resolve(""),
      publish: (challenges) => published.push(challenges.length),
      changed: () => undefined,
      notice: () => undefined,
    });
    closing.push(() => keeper.stop());
    keeper.update([{ service: "web", settings, here: false }]);
    const from = { node: "a", address: ip(NODES.a), services: ["web"] };
    const say = (sequence: number, ...names: string[]) =>
      keeper.accept(from, {
        version: 1,
        site: "shop",
        node: "a",
        sequence,
        certificates: {},
        accounts: {},
        challenges: names.map((name) => ({ kind: "tls-alpn-01", name, certificate: "c", key: "k" })),
        claims: [],
        ordering: [],
        troubles: {},
      });
    await say(5, "shop.example", "another.example");
    expect(published).toEqual([1]);
    await say(4);
    expect(published).toEqual([1]);
    await say(6);
    await say(5, "shop.example");
    expect(published).toEqual([1, 0]);
    await say(7, "shop.example");
    await keeper.look();
    clock.advance(seconds(361));
    // The first one began when its timer was due, long before the end.
    await keeper.look();
    await keeper.look();
    expect(published).toEqual([1, 0, 1, 0]);
  });
});

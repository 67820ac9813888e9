import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { ip } from "../../base/addresses.ts";
import { seconds } from "../../base/time.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { VirtualClock } from "../../base/virtual-clock.ts";
import { acmeSchema } from "../../config/schema/tls.ts";
import { makeCertificate, cleanUp, openssl } from "../testing/harness.ts";
import type { Challenge } from "./messages.ts";
import type { Order } from "./orders.ts";
import { pairOf, settingsKey } from "./kept.ts";
import { CertificateKeeper } from "./service.ts";
import { DirectoryStore, accountName } from "./store.ts";

const settings = acmeSchema.parse({ names: ["shop.example"], acceptTerms: true });
let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "nines-acme-"))));
afterEach(async () => {
  rmSync(directory, { recursive: true, force: true });
  await cleanUp();
});

function keeperWith(order: Order) {
  const clock = new VirtualClock(0, new SystemClock().wall());
  const events: string[] = [];
  const published: number[] = [];
  const changed: string[] = [];
  const keeper = new CertificateKeeper({
    clock,
    node: "a",
    random: seededRandom(1),
    store: new DirectoryStore(directory),
    order,
    secret: () => Promise.resolve("secret"),
    publish: (challenges: readonly Challenge[]) => published.push(challenges.length),
    changed: (service) => changed.push(service),
    notice: (event) => events.push(event),
  });
  return { clock, keeper, events, published, changed };
}
const failing: Order = () => Promise.reject(new Error("rateLimited"));
const wish = { service: "web", settings, here: true };

describe("certificates of a node", () => {
  it.skipIf(!openssl)("are ordered once, kept for their owner alone, and told to the workers", async () => {
    const files = makeCertificate("shop.example");
    const pem = readFileSync(files.key, "utf8") + readFileSync(files.certificate, "utf8");
    const asked: unknown[] = [];
    const { keeper, clock, events, published, changed } = keeperWith(async (request, host) => {
      asked.push(request.account);
      const challenge = { kind: "http-01", token: "t", answer: "a" } as const;
      await host.publish(challenge);
      await host.account({ key: "the account's key", url: "https://authority/1" });
      host.withdraw(challenge);
      return pem;
    });
    keeper.update([wish]);
    await keeper.look();
    await keeper.look();
    expect(asked).toEqual([undefined]);
    expect(published).toEqual([1, 0]);
    expect(changed).toEqual(["web"]);
    expect(events).toEqual(["acme.ordering", "acme.ordered"]);
    const file = join(directory, "certificates/web.pem");
    const ordered = `{"directory":"${settings.directory}","ordered":${clock.wall()}}`;
    expect(readFileSync(file, "utf8")).toBe(`nines: ${ordered}\n${pem}`);
    expect(pairOf(readFileSync(file, "utf8"))).toMatchObject({ names: ["shop.example"] });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "certificates")).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(directory, accountName(settings.directory)), "utf8")).toContain(
      "the account's key",
    );
    expect(keeper.problems()).toEqual([]);
    expect(keeper.samples().find(({ name }) => name.endsWith("_expiry_seconds"))?.value).toBeGreaterThan(0);
    keeper.stop();
  });

  it("that cannot be had are an alarm with the reason, and are not asked for again at once, nor after a restart", async () => {
    let orders = 0;
    const order: Order = (...input) => {
      orders++;
      return failing(...input);
    };
    const { keeper, clock } = keeperWith(order);
    keeper.update([wish]);
    await keeper.look();
    await keeper.look();
    expect(orders).toBe(1);
    expect(keeper.problems()).toEqual([
      { service: "web", critical: true, reason: "there is no certificate for shop.example: rateLimited" },
    ]);
    keeper.stop();
    const again = keeperWith(order);
    again.keeper.update([wish]);
    await again.keeper.look();
    expect(orders).toBe(1);
    again.clock.advance(seconds(200));
    await again.keeper.look();
    expect(orders).toBe(2);
    again.keeper.stop();
    void clock;
  });

  it.skipIf(!openssl)("are ordered anew where the site asks for another directory", async () => {
    const directories: string[] = [];
    const { keeper } = keeperWith((request) => {
      directories.push(request.directory);
      const files = makeCertificate("shop.example");
      return Promise.resolve(readFileSync(files.key, "utf8") + readFileSync(files.certificate, "utf8"));
    });
    keeper.update([wish]);
    await keeper.look();
    const another = { ...wish, settings: { ...settings, directory: "https://another.example/dir" } };
    keeper.update([another]);
    await keeper.look();
    await keeper.look();
    expect(directories).toEqual([settings.directory, another.settings.directory]);
    keeper.stop();
    // After a restart it is still known.
    const again = keeperWith(failing);
    again.keeper.update([another]);
    await again.keeper.look();
    again.keeper.update([wish]);
    await again.keeper.look();
    expect(again.events).toEqual(["acme.ordering", "acme.failed"]);
    again.keeper.stop();
  });

  it("are ordered at once where an operator has changed what is ordered, whatever failed before", async () => {
    const { keeper, events } = keeperWith(failing);
    keeper.update([wish]);
    await keeper.look();
    keeper.update([{ ...wish, settings: { ...settings, names: ["www.shop.example"] } }]);
    await keeper.look();
    expect(events).toEqual(["acme.ordering", "acme.failed", "acme.ordering", "acme.failed"]);
    expect(keeper.samples().find(({ name }) => name.endsWith("certificate_failures"))?.value).toBe(1);
    keeper.stop();
  });

  it("wait after another node's failures, too: the account is one", async () => {
    const { keeper, clock, events } = keeperWith(failing);
    keeper.update([{ ...wish, here: false }]);
    await keeper.look();
    const from = { node: "b", address: ip("127.0.0.3"), services: ["web"] };
    const troubles = (of: string) => ({
      web: { failures: 3, at: clock.wall() - 1000, reason: "rateLimited", of, node: "b" },
    });
    const nothing = { sequence: 1, certificates: {}, accounts: {}, challenges: [], claims: [], ordering: [] };
    const news = { version: 2, site: "shop", node: "b", ...nothing } as const;
    await keeper.accept(from, { ...news, troubles: troubles("of other settings") });
    expect((await keeper.state(["web"], false)).troubles).toEqual({});
    await keeper.accept(from, { ...news, troubles: troubles(settingsKey(settings)) });
    expect(await keeper.state(["web"], false)).toMatchObject({
      troubles: { web: { failures: 3, node: "b" } },
    });
    keeper.update([wish]);
    await keeper.look();
    expect(events).toEqual([]);
    expect((await keeper.state(["web"], false)).claims).toEqual(["web"]);
    clock.advance(seconds(8 * 60 * 1.25));
    await keeper.look();
    expect(events).toEqual(["acme.ordering", "acme.failed"]);
    expect(await keeper.state(["web"], false)).toMatchObject({
      claims: [],
      troubles: { web: { failures: 4, node: "a" } },
    });
    keeper.stop();
  });

  it("are not ordered where the authority would not find the node; another node's may be put there", async () => {
    const { keeper } = keeperWith(failing);
    keeper.update([{ ...wish, here: false }]);
    await keeper.look();
    expect(keeper.problems()).toMatchObject([{ service: "web", critical: false }]);
    expect(keeper.samples().find(({ labels }) => labels["result"] === "failed")?.value).toBe(0);
    keeper.stop();
  });
});

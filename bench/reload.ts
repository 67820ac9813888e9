// `npm run bench:reload`: reloads of the site under load, each with other routes, weights, pools and listeners. Writes
// bench/results/reload.json. 1,000 reloads under 500 requests a second with 200 WebSockets; behind --: --quick (50, 100,
// 20), --aims. As root: the node runs in a network namespace of its own.
import { RealNode } from "../src/daemon/testing/real-node.ts";
import { beginLoad, siteNumber } from "../src/daemon/testing/reload-drill.ts";
import { NetworkNamespace } from "../src/linux/namespace.ts";
import { has, report, rowOf } from "./support/results.ts";

const [reloads, rate, webSockets] = has("--quick") ? [50, 100, 20] : [1000, 500, 200];
const namespace = NetworkNamespace.create();
const node = new RealNode(namespace);
const begun = performance.now();
try {
  const load = await beginLoad(namespace, node, rate, webSockets);
  const workers = (): string =>
    node
      .processes()
      .flatMap(({ name, pid }) => (name === "proxy" ? [pid] : []))
      .join();
  const before = workers();
  const took: number[] = [];
  for (let number = 1; number <= reloads; number++) {
    node.write(siteNumber(number));
    const at = performance.now();
    const { ok, errors } = await node.ask<{ ok: boolean; errors: string[] }>("POST", "/v1/reload");
    if (!ok) throw new Error(errors.join("\n"));
    took.push(performance.now() - at);
    if (number % 100 === 0) console.log(`${number} reloads`);
  }
  const result = await load.end();
  const name = `${reloads} reloads`;
  const failed = Object.values(result.errors).reduce((sum, count) => sum + count, 0);
  console.log(result.errors);
  const row = (metric: string, unit: string, values: readonly number[]) =>
    rowOf(name, "nines", metric, unit, values);
  const seconds = (performance.now() - begun) / 1000;
  const aim = (metric: string, value: number) => ({ case: name, metric, against: "none", value, aim: 0 });
  report(
    "reload",
    [
      row("reload", "ms", took),
      row("requests", "count", [result.requests]),
      row("requests-failed", "count", [failed]),
      row("websockets", "count", [result.webSockets.opened]),
      row("websockets-lost", "count", [result.webSockets.lost]),
      row("slowest-request", "ms", [result.slowest]),
      row("workers-replaced", "count", [workers() === before ? 0 : 1]),
      row("duration", "s", [seconds]),
    ],
    [
      aim("requests-failed", failed),
      aim("websockets-lost", webSockets - result.webSockets.opened + result.webSockets.lost),
    ],
  );
} finally {
  await node.cleanUp();
  namespace.close();
}

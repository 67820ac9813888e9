import { join } from "node:path";
import { askNode } from "../api/client.ts";
import { messageOf } from "../base/errors.ts";
import { addTime, ms } from "../base/time.ts";
import { loadSite } from "../config/load.ts";
import type { NodeStatus } from "../contracts/api.ts";
import { Proxy } from "../proxy/proxy.ts";
import { runChild } from "./child.ts";
import { proxyServices } from "./proxy-wishes.ts";

/** How often a worker asks the brain for the backends' health and for a changed site. */
const ASK_EVERY = ms(500);

/**
 * One proxy worker. It reads the site by itself and keeps to it while the brain is silent: a brain that
 * restarts costs no request.
 */
runChild(async (context) => {
  const { clock, log, node, runtime, listeners } = context;
  const proxy = new Proxy({
    clock,
    descriptors: new Map(listeners.map(({ name, fd }) => [name, fd])),
    ownSockets: false,
    events: { notice: (event, fields) => log.warn({ event, ...fields }) },
  });
  let digest = "";
  let refused = "";

  const apply = async (): Promise<void> => {
    const loaded = await loadSite(context.site);
    await proxy.apply({ pools: loaded.site.pools, services: proxyServices(loaded.site, node) });
    if (digest !== "")
      log.info({ event: "proxy.reloaded", reason: "the site changed", digest: loaded.digest });
    digest = loaded.digest;
  };

  const ask = async (): Promise<void> => {
    const status = await askNode<NodeStatus>(join(runtime, "control.sock"), "GET", "/v1/status");
    for (const pool of status.pools) for (const backend of pool.backends) proxy.backendStatus(backend);
    // The brain accepts a site first; one that it refused is none for us either.
    if (status.digest !== digest && status.digest !== refused) {
      refused = status.digest;
      await apply();
    }
  };

  let stopped = false;
  let silent = false;
  const turn = async (): Promise<void> => {
    if (stopped) return;
    try {
      await ask();
      if (silent) log.info({ event: "proxy.brain_heard", reason: "the brain answers again" });
      silent = false;
    } catch (error) {
      if (!silent) log.warn({ event: "proxy.brain_silent", reason: messageOf(error) });
      silent = true;
    }
    clock.setTimer(addTime(clock.monotonic(), ASK_EVERY), () => void turn());
  };

  await apply();
  context.onStop((mode) => {
    stopped = true;
    // A successor has the sockets already: what is under way here may take its time.
    return proxy.close(mode === "leave" ? ms(30_000) : undefined);
  });
  void turn();
  context.ready();
});

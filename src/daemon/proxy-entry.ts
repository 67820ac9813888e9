import { messageOf } from "../base/errors.ts";
import { ms } from "../base/time.ts";
import { resetOnClose } from "../linux/listen.ts";
import { Proxy } from "../proxy/proxy.ts";
import { runChild } from "./child.ts";
import { AddressWatch } from "./proxy-addresses.ts";
import { ProxyLink } from "./proxy-link.ts";
import { workerSite } from "./proxy-site.ts";
import { proxyServices } from "./proxy-wishes.ts";

/** How long a worker that has a successor may take to finish. */
const LEAVE_WITHIN = ms(30_000);

/** One proxy worker. It reads the site by itself; the brain says when, and what the checks know. */
runChild(async (context) => {
  const { clock, log, node, listeners } = context;
  let digest = "";
  const proxy = new Proxy({
    clock,
    descriptors: new Map(listeners.map(({ name, fd }) => [name, fd])),
    ownSockets: false,
    resetOnClose,
    events: {
      notice: (event, fields) => {
        log.warn({ event, ...fields });
        link.report();
      },
    },
  });

  const apply = async (): Promise<void> => {
    const loaded = await workerSite(context.site, context.state, log);
    const services = proxyServices(loaded.site, node);
    await proxy.apply({ pools: loaded.site.pools, services });
    const virtual = Object.values(services).filter(({ on }) => on !== undefined);
    addresses?.watch(virtual.flatMap(({ listen }) => listen.map(({ address }) => address)));
    if (digest !== "")
      log.info({ event: "proxy.reloaded", reason: "the site was accepted", digest: loaded.digest });
    digest = loaded.digest;
    link.hello();
    link.report();
  };
  const watchAddresses = (): AddressWatch | undefined => {
    try {
      return new AddressWatch(clock, (address) => {
        const ended = proxy.addressLost(address);
        if (ended > 0)
          log.info({ event: "proxy.connections_reset", address, ended, reason: "the address has moved" });
      });
    } catch (error) {
      log.warn({ event: "proxy.addresses_not_watched", reason: messageOf(error) });
      return undefined;
    }
  };
  const link = new ProxyLink({
    context,
    proxy,
    who: () => ({ index: context.index, spare: false }),
    digest: () => digest,
    reload: apply,
  });

  const addresses = watchAddresses();
  await apply();
  context.onStop(async (mode) => {
    // Whoever checks this node shall stop sending before connections are refused.
    if (mode === "release") await proxy.announceEnd();
    addresses?.close();
    link.stop();
    // A successor has the sockets already: what is under way here may take its time.
    await proxy.close(mode === "leave" ? LEAVE_WITHIN : undefined);
    link.report();
    link.close();
  });
  link.start();
  context.ready();
});

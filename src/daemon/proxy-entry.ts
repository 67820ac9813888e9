import { messageOf } from "../base/errors.ts";
import { ms } from "../base/time.ts";
import { closeListener, resetOnClose } from "../linux/listen.ts";
import { Proxy } from "../proxy/proxy.ts";
import { certificateStore } from "./brain/certificates.ts";
import { stapleStore } from "./brain/staples.ts";
import { type ChildContext, runChild } from "./child.ts";
import { AddressWatch } from "./proxy-addresses.ts";
import { ProxyLink } from "./proxy-link.ts";
import { type WorkerSite, workerSite } from "./proxy-site.ts";
import { proxyServices } from "./proxy-services.ts";

/** How long a worker that has a successor may take to finish. */
const LEAVE_WITHIN = ms(30_000);

/**
 * One proxy worker. It reads the site by itself; the brain says when, and what the checks know. Until the parent tells
 * it to go it does everything but listen: one that cannot have its site replaces nobody, and a spare waits so for the
 * place of a worker that crashes.
 */
async function worker(context: ChildContext): Promise<void> {
  const { clock, log, node } = context;
  let { index } = context;
  let waiting = true;
  let current: WorkerSite | undefined;
  const descriptors = new Map<string, number | object>();
  /** What the parent has given, where it is to be put: into a map that the proxy does not see, until it may listen. */
  let given = new Map<string, number | object>(context.listeners.map(({ name, fd }) => [name, fd]));
  const proxy = new Proxy({
    clock,
    descriptors,
    ownSockets: false,
    resetOnClose,
    events: {
      notice: (event, fields) => {
        log.warn({ event, ...fields });
        link.report();
      },
      ejected: (ejection) => link.ejected(ejection),
    },
    acme: certificateStore(context.state),
    ocsp: stapleStore(context.state),
    ...(context.ticketSecret === undefined
      ? {}
      : { ticketSecret: Buffer.from(context.ticketSecret, "base64") }),
  });

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
  const addresses = watchAddresses();

  const apply = async (loaded: WorkerSite): Promise<void> => {
    const services = proxyServices(loaded.site, node);
    await proxy.apply({ pools: loaded.site.pools, services });
    current = loaded;
    const virtual = Object.values(services).filter(({ on }) => on !== undefined);
    addresses?.watch(virtual.flatMap(({ listen }) => listen.map(({ address }) => address)));
    link.hello();
    link.report();
  };
  // One after the other: two changes at once must not end with the first one's site.
  let turn: Promise<void> = Promise.resolve();
  const inTurn = (what: () => Promise<void>): Promise<void> => (turn = turn.catch(() => {}).then(what));

  const link = new ProxyLink({
    context,
    proxy,
    who: () => ({ index, spare: waiting }),
    digest: () => current?.digest ?? "",
    reload: () =>
      inTurn(async () => {
        await apply(await workerSite(context.site, context.state, log));
        log.info({ event: "proxy.reloaded", reason: "the site was accepted", digest: current?.digest });
      }),
  });
  context.onListener((name, handle) => {
    const before = given.get(name);
    given.delete(name);
    // One that is listened on ends with its listener; any other would stay open with nobody who accepts.
    if (before !== undefined && !proxy.listensOn(before)) close(before);
    if (handle === undefined) return;
    given.set(name, handle);
    // All of them are there when it is told to go.
    if (waiting) return;
    inTurn(async () => {
      if (current !== undefined) await apply(current);
    }).catch((error: unknown) => log.error({ event: "proxy.reload_failed", reason: messageOf(error) }));
  });
  context.onStop(async (mode) => {
    // Whoever checks this node shall stop sending before connections are refused.
    if (mode === "release" && !waiting) await proxy.announceEnd();
    addresses?.close();
    link.stop();
    // A successor has the sockets already: what is under way here may take its time.
    await proxy.close(mode === "leave" ? LEAVE_WITHIN : undefined);
    link.report();
    link.close();
  });

  await inTurn(async () => apply(await workerSite(context.site, context.state, log)));
  const spare = context.spare === true;
  if (spare) link.start();
  context.tell({ type: "warm" });
  index = (await context.taken) ?? index;
  waiting = false;
  for (const [name, at] of given) descriptors.set(name, at);
  given = descriptors;
  await inTurn(async () => {
    if (current !== undefined) await apply(current);
  });
  if (spare) log.info({ event: "proxy.spare_taken", index, reason: "a worker ended" });
  else link.start();
  context.ready();
}

function close(at: number | object): void {
  if (typeof at === "number") closeListener(at);
  else (at as { close(): void }).close();
}

runChild(worker, { prepares: true });

import { OperationalError } from "../base/errors.ts";
import type { Site } from "../contracts/site.ts";
import { Forwarder } from "../forwarding/service.ts";
import { missingCapabilities } from "../linux/capabilities.ts";
import type { ChildContext } from "./child.ts";
import { ClientsLink } from "./clients-link.ts";
import type { ForwarderPort } from "./ports.ts";

/** The forwarding room for the brain. */
export async function forwarderPort(
  context: Pick<ChildContext, "clock" | "log" | "node" | "runtime" | "successor">,
  site: Site,
): Promise<ForwarderPort> {
  const { clock, log, node } = context;
  let forwarder: Forwarder;
  let clients: ClientsLink | undefined;
  try {
    forwarder = await Forwarder.open({ clock, log, node, clientsLost: () => clients?.again() });
  } catch (error) {
    // A site that forwards nothing needs none of this, nor the rights for it.
    const needed = Object.values(site.services).some((service) => service.forward !== undefined);
    if (!(error instanceof OperationalError)) throw error;
    if (needed) throw explained(error);
    log.warn({ event: "forwarding.unavailable", reason: error.message });
    return without(error.message);
  }
  const served = forwarder;
  const link = await ClientsLink.open(context, (entries) => served.remember(entries));
  clients = link;
  return {
    apply: (wanted, backends) => forwarder.apply(wanted, backends),
    problem: () => forwarder.problem(),
    explain: () => forwarder.explain(),
    metrics: () => forwarder.metrics(),
    counters: () => forwarder.counters(),
    kill: async (pool, backend) => {
      // Before the tables know of it, a cut connection would only meet the same backend again.
      await forwarder.settled();
      return forwarder.kill(pool, backend);
    },
    stop: (remove) => {
      link.close();
      return forwarder.stop(remove);
    },
  };
}

/** A refusal of the kernel in the words of whoever has to mend it. */
function explained(error: OperationalError): OperationalError {
  const missing = error.code === "PERMISSION" ? missingCapabilities(["CAP_NET_ADMIN", "CAP_NET_RAW"]) : [];
  if (missing.length === 0) return error;
  const what = `this user lacks ${missing.join(", ")}; run as root, or with the unit packaging/nines@.service`;
  return new OperationalError("PERMISSION", what, { cause: error });
}

/** Where the kernel cannot be reached: fine until a reload asks for forwarding. */
function without(reason: string): ForwarderPort {
  let problem = "";
  return {
    apply: (site) => {
      problem = Object.values(site.services).some((service) => service.forward !== undefined) ? reason : "";
    },
    problem: () => problem,
    explain: () => [],
    metrics: () => Promise.resolve([]),
    counters: () => ({}),
    kill: () => Promise.reject(new OperationalError("PERMISSION", reason)),
    stop: () => Promise.resolve(),
  };
}

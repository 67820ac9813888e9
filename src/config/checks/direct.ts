/** Direct server return: what a packet that is not changed rules out. */
import { formatListen } from "./services.ts";
import type { Check } from "./context.ts";

export const direct: Check = ({ site, error }) => {
  for (const [name, { forward, listen }] of Object.entries(site.services)) {
    if (forward?.mode !== "direct") continue;
    const path = ["services", name, "forward"];
    const refuse = (key: string, reason: string, expected: string): void =>
      error([...path, key], `mode: direct is not possible with ${reason}`, expected);
    if (forward.scheduler !== "maglev" && forward.scheduler !== "source")
      refuse(
        "scheduler",
        `${forward.scheduler}: this node sees half a connection, and counts none`,
        "maglev or source",
      );
    if (forward.masquerade !== false)
      refuse(
        "masquerade",
        "masquerade: the client's address stays, and answers do not pass this node",
        "no masquerade",
      );
    if (forward.flows === "hashed")
      refuse(
        "flows",
        "flows: there is no connection to replicate, all nodes choose alike by themselves",
        "no flows",
      );
    if (forward.affinity !== undefined)
      refuse("affinity", "affinity, which is remembered where addresses are translated", "scheduler: source");
    if (forward.limits !== undefined)
      refuse(
        "limits",
        "limits, which count connections: this node sees half of each",
        "limits on the backends",
      );
    for (const [backend, { at }] of Object.entries(site.pools[forward.pool]?.backends ?? {})) {
      const other = listen.find(({ ports: [low, high] }) => at.port < low || at.port > high);
      if (other === undefined) continue;
      error(
        [...path, "mode"],
        `backend ${backend} is at port ${at.port}, but its packets come to the port of ${formatListen(other)}: mode: direct changes none`,
        "the same port on the backends",
      );
      break;
    }
  }
};

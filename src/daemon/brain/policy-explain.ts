/** Why things are as they are, in sentences, from what `nines status` knows. Pure. */
import { formatDuration } from "../../base/units.ts";
import { ms } from "../../base/time.ts";
import type { Explanation, NodeStatus } from "../../contracts/api.ts";
import type { BackendStatus, ForwardedService } from "../../contracts/forwarding.ts";
import { MAINTENANCE, type RouterStatus } from "../../contracts/redundancy.ts";
import type { Site } from "../../contracts/site.ts";

const ago = (span: number): string => {
  if (span < 1000) return `${Math.round(span)} ms`;
  const whole = ms(Math.round(span / 1000) * 1000);
  return span < 120_000 ? formatDuration(whole) : formatDuration(ms(Math.round(span / 60_000) * 60_000));
};

export function explainRouter(status: NodeStatus, site: Site, name: string): Explanation | undefined {
  const configured = site.virtualRouters[name];
  if (configured === undefined) return undefined;
  const about = `virtual router ${name} on ${status.node}`;
  if (configured.priorities[status.node] === undefined) {
    const nodes = Object.keys(configured.priorities).join(", ");
    return { about, sentences: [`${name} does not run on ${status.node}: its priorities name ${nodes}.`] };
  }
  const router = status.routers.find((each) => each.router === name);
  if (router === undefined || !status.redundancy.connected) {
    return {
      about,
      sentences: [
        "The redundancy process does not answer the brain, so its state is not known here.",
        "Addresses stay where they are meanwhile; the parent restarts the process if it has ended (nines status).",
      ],
    };
  }
  const preempt = configured.preempt !== false;
  return {
    about,
    sentences: [
      ...stateSentences(router, preempt, configured.interval),
      ...prioritySentences(router),
      ...outSentences(status),
    ],
  };
}

function stateSentences(router: RouterStatus, preempt: boolean, interval: number): string[] {
  const since = `for ${ago(router.since)}`;
  const who = router.active?.node ?? router.active?.address ?? "";
  switch (router.state) {
    case "active":
      return [
        `It is Active ${since}: ${router.reason}.`,
        `It holds ${router.addresses.join(", ") || "no address"}.`,
      ];
    case "backup": {
      const first = `It is Backup ${since}: ${router.reason}.`;
      if (router.active === undefined)
        return [
          first,
          `No advertisement is heard; it takes over after three intervals of ${interval} ms and its skew.`,
        ];
      const theirs = router.active.priority;
      const heard = `${who} is Active and advertises priority ${theirs}; ours is ${router.priority}.`;
      if (theirs >= router.priority)
        return [first, heard, "The higher priority stays; this node takes over when it falls silent."];
      return preempt
        ? [
            first,
            heard,
            "Ours is higher and preempt is on: this node takes over when the preempt delay has passed.",
          ]
        : [
            first,
            heard,
            "Ours is higher, but preempt is off: who is Active stays Active (nines switchover moves it).",
          ];
    }
    case "fault":
      return [
        `It is out of the election ${since}: ${router.reason}.`,
        "It comes back by itself when the cause is gone.",
      ];
    case "initialize":
      return [`It has not begun to take part, ${since}: ${router.reason}.`];
  }
}

function outSentences({ node, admin }: NodeStatus): string[] {
  if (admin.state === "enabled") return [];
  const how = admin.state === "drain" ? "drained" : "in maintenance";
  return [
    `${node} is ${how}: it serves only while no healthier node is heard (nines enable ${node} brings it back).`,
    ...admin.left.map((each) => `${each}.`),
  ];
}

function prioritySentences(router: RouterStatus): string[] {
  if (router.failing.length === 0) return [`Its priority is ${router.priority}; nothing lowers it.`];
  const causes = router.failing.map(({ name, reason, lower }) =>
    name === MAINTENANCE
      ? `It is lowered because ${reason}.`
      : lower === undefined
        ? `${name} fails (${reason}), which takes the router out of the election.`
        : `${name} fails (${reason}), which lowers the priority by ${lower}.`,
  );
  return [`Its priority is ${router.priority} instead of ${router.basePriority}.`, ...causes];
}

export function explainBackend(
  status: NodeStatus,
  site: Site,
  forwarded: readonly ForwardedService[],
  pool: string,
  backend: string,
): Explanation | undefined {
  const found = status.pools
    .find((each) => each.pool === pool)
    ?.backends.find((each) => each.backend === backend);
  const configured = site.pools[pool]?.backends[backend];
  if (configured === undefined) return undefined;
  const about = `backend ${pool}/${backend}`;
  if (found === undefined)
    return { about, sentences: ["It has not been looked at yet: the node has only just started."] };
  const sentences = [...ownSentences(found, configured.weight, site.pools[pool]?.check !== undefined)];
  const users = status.services.filter((each) => each.pool === pool);
  if (users.length === 0) sentences.push(`No service forwards to the pool ${pool}.`);
  for (const { service, router, here } of users) {
    if (here) sentences.push(`Service ${service} is served by this node.`);
    else sentences.push(`Service ${service} is not served by this node now: it is not Active for ${router}.`);
  }
  for (const each of forwarded) {
    const share = each.backends.find((one) => one.backend === backend && each.pool === pool);
    if (share === undefined) continue;
    sentences.push(
      `${each.service} sends it ${Math.round(share.share * 100)} % of its new connections: ${share.reason}.`,
    );
    sentences.push(...each.notes.map((note) => `${each.service}: ${note}`));
  }
  if (!status.forwarding.good)
    sentences.push(`The forwarding tables are not as they should be: ${status.forwarding.reason}.`);
  return { about, sentences };
}

function ownSentences(backend: BackendStatus, weight: number, checked: boolean): string[] {
  const takes = backend.effectiveWeight > 0;
  const head = takes
    ? `It takes new connections, with weight ${backend.effectiveWeight}.`
    : "It takes no new connections.";
  const sentences = [head];
  if (backend.admin === "drain")
    sentences.push(
      "It is drained by an operator: connections that exist go on (nines enable brings it back).",
    );
  if (backend.admin === "maintenance")
    sentences.push("It is in maintenance by an operator or the site file (nines enable brings it back).");
  if (weight === 0) sentences.push("Its weight in the site file is 0, which drains it.");
  if (!checked) sentences.push("Its pool has no check, so that it always counts as healthy.");
  else if (backend.health === "unknown")
    sentences.push(`Its checks have not decided yet: ${backend.reason}.`);
  else sentences.push(`Its checks say ${backend.health} for ${ago(backend.since)}: ${backend.reason}.`);
  if (takes && backend.health === "down")
    sentences.push(
      "It takes connections although it is down, because none of its pool is healthy (allDown).",
    );
  return sentences;
}

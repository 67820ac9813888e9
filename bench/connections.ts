// `npm run bench:connections`: established connections that each kind of failover costs: nines, and keepalived with
// conntrackd (FT-FW, its primary-backup script) in the same lab, in turn, A B A B. Half of the connections are
// server-first, over all backends of the two-tier example. Prints, and writes bench/results/connections.json.
// Beside them, connections come and go: of those lost at a crash it says how young they were, beside the replication's lag.
// Behind --: --variant preserved,masquerade,ipv6,active-active (preserved, where the client's address is), --repeat N (10),
// --connections N (2000), --arrivals N per second (100; 0: none), --only switchover,power-cut, --quick (2 repeats, 200),
// --subjects nines,conntrackd, --report, --aims. Each variant but the first has a file of its own.
import { loadSite } from "../src/config/load.ts";
import type { NodeStatus } from "../src/contracts/api.ts";
import type { DrillRun, LostConnection } from "../src/contracts/drills.ts";
import type { Drill } from "../src/lab/drills/drill.ts";
import { allDrills } from "../src/lab/drills/index.ts";
import type { Lab } from "../src/lab/lab.ts";
import { insideLab, repeatInLab, runtimeOf } from "../src/lab/outer.ts";
import type { StreamSpec } from "../src/lab/probe/stream.ts";
import { drillSession } from "../src/lab/session.ts";
import { askControl } from "../src/lab/subjects/control.ts";
import type { Subject } from "../src/lab/subjects/subject.ts";
import { has, numberAfter, report, rowOf } from "./support/results.ts";
import { VARIANTS, type Variant, variantFile } from "./support/variants.ts";

const DRILLS = [
  "switchover",
  "failback",
  "kill-all",
  "power-cut",
  "hang",
  "link-down-front",
  "partition",
  "brain-killed",
  "flows-killed",
  "rolling-upgrade",
  "ruleset-flushed",
  "backend-changed",
];
const listAfter = (flag: string): string[] | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : (process.argv[at + 1] ?? "").split(",");
};

const variants = (listAfter("--variant") ?? ["preserved"]) as Variant[];
for (const one of variants)
  if (!VARIANTS.includes(one)) {
    console.error(`no variant "${one}"; there are ${VARIANTS.join(", ")}`);
    process.exit(1);
  }
if (!insideLab()) {
  let worst = 0;
  for (const one of variants) {
    process.env["NINES_VARIANT"] = one;
    worst = Math.max(worst, await repeatInLab(`bench-connections-${one}`));
    if (worst > 128) break; // interrupted
  }
  process.exit(worst);
}
const variant = (process.env["NINES_VARIANT"] ?? "preserved") as Variant;

const connections = numberAfter("--connections") ?? (has("--quick") ? 200 : 2000);
const repeat = numberAfter("--repeat") ?? (has("--quick") ? 2 : 10);
const arrivals = numberAfter("--arrivals") ?? 100;
/** keepalived's script is primary-backup: it knows one Active. */
const usual = variant === "active-active" ? ["nines"] : ["nines", "conntrackd"];
const subjects = (listAfter("--subjects") ?? usual) as Subject["name"][];
const file = variantFile(variant);
const { site } = await loadSite(file);

/** Each connection carries a line every two seconds, however many there are. */
const PERIOD = 2000;
/** Those that come and go live for so long, in ms. */
const LIFE = 3000;
/** All routers together hold what was asked for. */
const routers = Object.keys(site.virtualRouters).length;
const held = (usual: readonly StreamSpec[]): StreamSpec[] =>
  usual.flatMap((spec): StreamSpec[] => {
    const coming: StreamSpec = {
      ...spec,
      stream: spec.stream.replace("connect", "arriving"),
      kind: "arriving",
      interval: (1000 * routers) / arrivals,
      connections: (LIFE * arrivals) / 1000 / routers,
    };
    if (spec.kind === "connect") return arrivals > 0 ? [spec, coming] : [spec];
    if (!spec.kind.startsWith("established")) return [spec];
    const count = Math.ceil(connections / 2 / routers);
    return [{ ...spec, connections: count, interval: PERIOD / count, deadline: 1000 }];
  });

/** Before each fault: from a change to its acknowledgement, in ms, the worst of the last samples. */
const lags = new Map<string, number[]>();
const LAG_SAMPLES = 20;
const LAG_EVERY = 50;
/** Asks all nodes until it is told to stop, which gives the worst of the last second. */
function watchLag(lab: Lab): () => number {
  const samples: number[] = [];
  const timer = setInterval(() => {
    for (const node of lab.nodes)
      askControl(`${runtimeOf(lab.work, node)}/${node}`, "GET", "/v1/status", undefined, 500).then(
        (answer) => {
          const { flows } = answer as NodeStatus;
          // Who tells nothing shows the lag of what it told last, perhaps over a partition.
          if (flows !== undefined && flows.own > 0) samples.push(...flows.peers.map(({ lag }) => lag));
        },
        () => {}, // it starts, or has no brain
      );
  }, LAG_EVERY);
  return () => {
    clearInterval(timer);
    return Math.max(0, ...samples.slice(-LAG_SAMPLES));
  };
}
function measured(drill: Drill): Drill {
  let stop = (): number => 0;
  return {
    ...drill,
    streams: (usual, lab) => {
      if (lab.subject.name === "nines") {
        stop();
        stop = watchLag(lab);
      }
      return held(drill.streams?.(usual, lab) ?? usual);
    },
    fault: (cast, lab) => {
      if (lab.subject.name === "nines") lags.set(drill.name, [...(lags.get(drill.name) ?? []), stop()]);
      return drill.fault(cast, lab);
    },
  };
}
const wanted = listAfter("--only") ?? DRILLS;
const drills = allDrills()
  .filter(({ name }) => wanted.includes(name))
  .map(measured);

const { runs } = await drillSession({
  site,
  siteFile: file,
  subjects,
  drills,
  repeat,
  directory: has("--report") ? `reports/connections-${variant}` : undefined,
  tell: (line) => console.log(line),
});

/** Connections that were established before the fault and did not live on. */
const holdings = (run: DrillRun) =>
  run.probes.flatMap(({ kind, established }) =>
    established === undefined || kind === "arriving" ? [] : [established],
  );
const lost = (run: DrillRun): number =>
  holdings(run).reduce((sum, { before, kept }) => sum + before - kept, 0);
const before = (run: DrillRun): number => holdings(run).reduce((sum, one) => sum + one.before, 0);
/** Of those that come and go. */
const young = (run: DrillRun): readonly LostConnection[] =>
  run.probes.flatMap(({ kind, established }) => (kind === "arriving" ? (established?.lost ?? []) : []));
const runsOf = (drill: string, subject: string): DrillRun[] =>
  runs.filter((run) => run.drill === drill && run.subject === subject && run.probes.length > 0);

const rows = drills.flatMap(({ name }) =>
  subjects.flatMap((subject) => {
    const these = runsOf(name, subject);
    if (these.length === 0) return [];
    const measuredLags = subject === "nines" ? (lags.get(name) ?? []) : [];
    return [
      rowOf(name, subject, "established", "connections", these.map(before)),
      rowOf(name, subject, "lost", "connections", these.map(lost)),
      ...(arrivals > 0
        ? [
            rowOf(
              name,
              subject,
              "lost-of-arriving",
              "connections",
              these.map((run) => young(run).length),
            ),
          ]
        : []),
      ...(measuredLags.length > 0 ? [rowOf(name, subject, "lag", "ms", measuredLags)] : []),
    ];
  }),
);
const perRepeat = drills.flatMap(({ name }) =>
  subjects.map((subject) => ({
    case: name,
    subject,
    lost: runsOf(name, subject).map(lost),
    /** ms before the fault (negative) or after it at which those that came and went, and were lost, were established. */
    young: runsOf(name, subject).map((run) =>
      young(run).map(({ established, error }) => ({ established, error })),
    ),
    lag: subject === "nines" ? (lags.get(name) ?? []) : undefined,
    skipped: runs.find((run) => run.drill === name && run.subject === subject && run.verdict === "skipped")
      ?.reason,
    notMeasured: runs.filter(
      (run) =>
        run.drill === name && run.subject === subject && run.verdict === "failed" && run.probes.length === 0,
    ).length,
  })),
);
const aims = perRepeat
  .filter(({ subject }) => subject === "nines")
  .map((one) => ({
    case: one.case,
    aim: "no established connection lost",
    met: one.lost.length === repeat && one.lost.every((count) => count === 0),
  }));
report(`connections${variant === "preserved" ? "" : `-${variant}`}`, rows, [], {
  variant,
  connections,
  arrivals,
  perRepeat,
  aims,
});
console.log("lost, repeat by repeat:");
for (const { case: name, subject, lost: counts, skipped, notMeasured, young: ages, lag } of perRepeat) {
  const missing = notMeasured > 0 ? `  (${notMeasured} not measured)` : "";
  console.log(
    `${name}  ${subject}  ${skipped === undefined ? counts.join(" ") : `skipped: ${skipped}`}${missing}`,
  );
  ages.forEach((list, i) => {
    if (list.length === 0) return;
    const instants = list.map(({ established, error }) => `${established} ms (${error})`).join(", ");
    const beside = lag?.[i] === undefined ? "" : `; the lag was ${Math.round(lag[i])} ms`;
    console.log(`  #${i + 1}: of those that come and go, lost were established at ${instants}${beside}`);
  });
}
if (has("--aims"))
  for (const { case: name, met } of aims)
    if (!met) {
      console.log(`aim missed: ${name}: an established connection was lost, or a run not measured`);
      process.exitCode = 1;
    }
process.exit();

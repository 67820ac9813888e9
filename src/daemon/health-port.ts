import { join } from "node:path";
import { systemRandom } from "../base/random.ts";
import { AdminStates } from "../health/admin.ts";
import { HealthMemory } from "../health/memory.ts";
import { HealthService } from "../health/service.ts";
import type { ChildContext } from "./child.ts";
import type { HealthPort } from "./ports.ts";

/**
 * The health room for the brain. What operators asked is kept in the state directory, what the checks know in
 * the runtime directory: the one outlives a reboot, the other only a restart of the brain.
 */
export async function healthPort(
  { clock, log, state, runtime }: Pick<ChildContext, "clock" | "log" | "state" | "runtime">,
  changed: () => void,
): Promise<HealthPort> {
  const admin = await AdminStates.open(join(state, "backends.json"));
  const memory = await HealthMemory.open(join(runtime, "health.json"), clock, log);
  const service = new HealthService({
    clock,
    random: systemRandom,
    log,
    admin,
    remembered: memory.recall,
    changed: () => {
      memory.keep(() => service.memory());
      changed();
    },
  });
  return {
    update: ({ pools }) => service.apply(pools),
    stop: () => {
      memory.stop();
      service.stop();
    },
    statuses: () => service.statuses(),
    setAdmin: (pool, backend, asked, persist) => service.setAdmin(pool, backend, asked, persist),
    metrics: () => service.metrics(),
    isolated: () => service.isolated(),
  };
}

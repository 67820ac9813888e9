import { OperationalError } from "../base/errors.ts";
import type { ParentPorts } from "./parent.ts";

/** What the parent asks of this host. */
export function hostPorts(): ParentPorts {
  return {
    realtime: (_priority, start) => start(),
    listen: (wish) => {
      throw new OperationalError("NATIVE_UNAVAILABLE", `cannot open ${wish.name}`);
    },
    notify: () => {},
    watchdog: undefined,
  };
}

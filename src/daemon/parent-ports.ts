import { Socket } from "node:net";
import { parseIp } from "../base/addresses.ts";
import { OperationalError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { closeListener, openListener } from "../linux/listen.ts";
import { realtime } from "../linux/realtime.ts";
import { serviceManager } from "../linux/systemd.ts";
import type { ParentPorts } from "./parent.ts";

/** What the parent asks of this host. */
export function hostPorts(): ParentPorts {
  const manager = serviceManager(process.env, process.pid);
  const told = new Set<string>();
  // Node sends handles to processes, not descriptors; such a handle owns its descriptor from then on.
  const handles = new Map<number, Socket>();
  return {
    realtime: (priority, start, log) => realtime(priority, start, (why) => refusedOnce(told, log, why)),
    listen: ({ address, port, protocol, freebind }) => {
      const parsed = parseIp(address);
      if (!parsed.ok) throw new OperationalError("MESSAGE_INVALID", parsed.error);
      const plan = { address: parsed.value, port, protocol, freebind };
      if (!freebind) return openListener(plan);
      try {
        // Connections to a virtual address end with a RST also when the address has moved: without
        // IP_TRANSPARENT the kernel sends nothing from an address that it does not have.
        return openListener({ ...plan, transparent: true });
      } catch {
        // Without CAP_NET_ADMIN clients learn it from the new owner of the address, at their next packet.
        return openListener(plan);
      }
    },
    closeListener: (fd) => {
      const handle = handles.get(fd);
      handles.delete(fd);
      if (handle === undefined) closeListener(fd);
      else handle.destroy();
    },
    listenerHandle: (fd) => {
      // Neither readable nor writable: it does nothing with the socket, least of all accept.
      const socket = handles.get(fd) ?? new Socket({ fd, readable: false, writable: false });
      handles.set(fd, socket);
      return (socket as Socket & { readonly _handle: object })._handle;
    },
    notify: (text) => void manager.notify(text),
    watchdog: manager.watchdog,
  };
}

/** Once, not at every restart of a child. */
function refusedOnce(told: Set<string>, log: Log, why: OperationalError): void {
  if (told.has(why.message)) return;
  told.add(why.message);
  log.warn({
    event: "child.not_realtime",
    reason: `${why.message}; a busy host may delay advertisements (nines doctor says what to do)`,
  });
}

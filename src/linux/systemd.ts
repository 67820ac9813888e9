import { AF, SOCK } from "./constants.ts";
import { Socket } from "./socket.ts";
import { unixAddress } from "./wire-sockaddr.ts";
import { utf8 } from "../base/utf8.ts";
import { type DurationMs, ms } from "../base/time.ts";

/** The service manager, as sd_notify(3) speaks to it. */
export interface ServiceManager {
  /** Sends lines such as `READY=1`; false where there is no manager or it does not listen. */
  notify(text: string): boolean;
  /** A sign of life (`WATCHDOG=1`) is expected this often at the latest; undefined for never. */
  readonly watchdog: DurationMs | undefined;
}

/** From the environment that systemd gives (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID). */
export function serviceManager(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): ServiceManager {
  const path = environment["NOTIFY_SOCKET"];
  const usec = Number(environment["WATCHDOG_USEC"]);
  const watched = environment["WATCHDOG_PID"] ?? String(pid);
  const watchdog = usec > 0 && watched === String(pid) ? ms(usec / 1000) : undefined;
  if (path === undefined || !/^[/@]/.test(path)) return { notify: () => false, watchdog };
  return {
    watchdog,
    notify: (text) => {
      // A socket for each message: they are rare, and the manager may have been restarted in between.
      const socket = Socket.open(AF.UNIX, SOCK.DGRAM, 0, "notify socket");
      try {
        return socket.send(utf8(text), unixAddress(path)) >= 0;
      } finally {
        socket.close();
      }
    },
  };
}

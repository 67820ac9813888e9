import type { ProxyService } from "../contracts/site.ts";

/** `address:port` of every port a service listens on. */
export function listenKeys(service: ProxyService): string[] {
  return service.listen.flatMap(({ address, ports: [low, high] }) =>
    Array.from(
      { length: high - low + 1 },
      (_, i) => `${address.includes(":") ? `[${address}]` : address}:${low + i}`,
    ),
  );
}

import { join } from "node:path";
import { systemRandom } from "../../base/random.ts";
import type { Site } from "../../contracts/site.ts";
import { certificateName } from "../../proxy/acme/store.ts";
import { askOverHttp } from "../../proxy/ocsp/ask.ts";
import { StapleKeeper } from "../../proxy/ocsp/service.ts";
import type { ChildContext } from "../child.ts";
import { proxyServices } from "../proxy-services.ts";
import { certificateStore } from "./certificates.ts";

/** Where a node keeps the OCSP responses that it fetched; the proxy workers read them there. */
export const stapleStore = (state: string): string => join(state, "ocsp");

/** OCSP responses for the certificates of this node's services, wherever the address is: a Backup has them ready. */
export function nodeStaples(context: Pick<ChildContext, "clock" | "log" | "state">): StapleKeeper {
  const { clock, log, state } = context;
  return new StapleKeeper({
    clock,
    random: systemRandom,
    directory: stapleStore(state),
    ask: askOverHttp(),
    notice: (event, fields) => {
      if (event === "ocsp.failed") log.warn({ event, ...fields });
      else log.info({ event, ...fields });
    },
  });
}

export const stapleWishes = (
  site: Site,
  node: string,
  state: string,
): { service: string; files: string[] }[] =>
  Object.entries(proxyServices(site, node)).flatMap(([service, { proxy }]) => {
    const { tls } = proxy;
    if (tls?.fetchOcsp !== true) return [];
    const given = tls.certificates.flatMap(({ certificate, ocsp }) =>
      ocsp === undefined ? [certificate] : [],
    );
    const ordered = tls.acme === undefined ? [] : [join(certificateStore(state), certificateName(service))];
    return [{ service, files: [...given, ...ordered] }];
  });

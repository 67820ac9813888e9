/** What operators and metrics are told of certificates. */
import type { AcmeSettings } from "../../config/schema/tls.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Kept, Trouble } from "./policy-renewal.ts";

/** A certificate that a service wants. */
export interface CertificateWish {
  readonly service: string;
  readonly settings: AcmeSettings;
  /** Whether the authority would find this node: the service's address is here. */
  readonly here: boolean;
}

/** What a node knows of one of them. */
export interface Known {
  kept: Kept | undefined;
  /** What the file held when it was read last. */
  text: string | undefined;
  trouble: Trouble | undefined;
  /** Drawn once, so that the day does not move with every look. */
  readonly chance: number;
  orders: number;
  failed: number;
  /** How often another node's was taken. */
  received: number;
}

/** A certificate that ends within this while orders fail is an alarm. */
const ALARM_WITHIN = 14 * 86_400_000;

export interface CertificateProblem {
  readonly service: string;
  readonly reason: string;
  readonly critical: boolean;
}

/** What an operator must know: a certificate that is missing or ends soon while it cannot be ordered. */
export function problemOf(
  { service, here, settings }: CertificateWish,
  { kept, trouble }: Known,
  now: number,
  shared: boolean,
): CertificateProblem | undefined {
  const left = kept === undefined ? 0 : kept.notAfter - now;
  const name = settings.names[0];
  const state =
    kept === undefined
      ? `there is no certificate for ${name}`
      : left <= 0
        ? `the certificate for ${name} has ended`
        : `the certificate for ${name} ends in ${Math.ceil(left / 86_400_000)} days`;
  if (trouble !== undefined && (trouble.failures > 0 || trouble.reason !== "") && left < ALARM_WITHIN)
    return { service, critical: left <= 0, reason: `${state}: ${trouble.reason}` };
  if (here || left > 0) return undefined;
  const then = shared
    ? "the node that has the address orders it and hands it over"
    : "it is ordered when the address comes, or put it into the store";
  const reason = `${state}, and the authority would not find this node: ${then}`;
  return { service, critical: false, reason };
}

export function samplesOf(
  service: string,
  { kept, trouble, orders, failed, received }: Known,
): MetricSample[] {
  const labels = { service };
  return [
    {
      name: "nines_proxy_certificate_expiry_seconds",
      help: "When an ordered certificate ends, in seconds since 1970; 0 while there is none.",
      kind: "gauge",
      labels,
      value: kept === undefined ? 0 : kept.notAfter / 1000,
    },
    {
      name: "nines_proxy_certificate_failures",
      help: "Orders that failed since the last good one; the alarm has the last reason.",
      kind: "gauge",
      labels,
      value: trouble?.failures ?? 0,
    },
    ...(["ordered", "failed"] as const).map((result): MetricSample => ({
      name: "nines_proxy_certificate_orders_total",
      help: "Certificates ordered, by result.",
      kind: "counter",
      labels: { ...labels, result },
      value: result === "failed" ? failed : orders - failed,
    })),
    {
      name: "nines_proxy_certificates_received_total",
      help: "Certificates taken from other nodes of the site.",
      kind: "counter",
      labels,
      value: received,
    },
  ];
}

/** What the service is made of: its options, and a node that it replicates with. */
import type { PeerCertificate, TLSSocket } from "node:tls";
import type { IpAddress } from "../../base/addresses.ts";
import type { Log } from "../../base/log.ts";
import type { Clock, DurationMs, Timer } from "../../base/time.ts";
import type { PeerMachine } from "./machine-peer.ts";

export interface FlowsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly site: string;
  readonly node: string;
  /** Random: of this process. */
  readonly instance: string;
  readonly listen: { readonly address: IpAddress; readonly port: number };
  readonly peers: readonly PeerAddress[];
  /** PEM texts: this node's, and the site's authority. */
  readonly tls: { readonly key: string; readonly certificate: string; readonly authority: string };
  /** How long a change may wait for others to travel with it. */
  readonly delay: DurationMs;
  /** A peer came, went, or is in sync now. */
  readonly changed?: () => void;
}

export interface PeerAddress {
  readonly node: string;
  readonly address: IpAddress;
  readonly port: number;
}
export interface Peer extends PeerAddress {
  readonly machine: PeerMachine;
  readonly dial: (() => TLSSocket) | undefined;
  socket: TLSSocket | undefined;
  gone: boolean;
  dialing: boolean;
  timer: Timer | undefined;
  retry: Timer | undefined;
  /** Nobody listens at its port: its process does not run. */
  absent: boolean;
}

/** The node that a certificate names; empty where it names none. */
export function commonName(certificate: PeerCertificate): string {
  const name: unknown = (certificate.subject as PeerCertificate["subject"] | undefined)?.CN;
  return typeof name === "string" ? name : "";
}

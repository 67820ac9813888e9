/**
 * How the nodes of a site know each other over TCP: TLS 1.3, both sides show a certificate that the site's own
 * authority has signed (`nines keys`), and a node is who its certificate's common name says. Shared by everything
 * in which nodes meet, so that there is one rule of whom to trust.
 */
import type { ConnectionOptions, PeerCertificate, TlsOptions } from "node:tls";

/** PEM texts: this node's, and the site's authority. */
export interface SiteKeys {
  readonly key: string;
  readonly certificate: string;
  readonly authority: string;
}

const common = ({ key, certificate, authority }: SiteKeys) =>
  ({ key, cert: certificate, ca: authority, minVersion: "TLSv1.3" }) as const;

/** For who waits for other nodes: a handshake without a certificate of the site does not come about. */
export const listenForNodes = (keys: SiteKeys): TlsOptions => ({ ...common(keys), requestCert: true });

/** For who asks a node; `at` is for the error. Nodes are named by their certificates, not by addresses. */
export const dialNode = (keys: SiteKeys, node: string, at: string): ConnectionOptions => ({
  ...common(keys),
  checkServerIdentity: (_host, certificate) => {
    const shown = nodeOf(certificate);
    return shown === node ? undefined : new Error(`the certificate at ${at} is that of "${shown}"`);
  },
});

/** The node that a certificate names; empty where it names none. */
export function nodeOf(certificate: PeerCertificate): string {
  const name: unknown = (certificate.subject as PeerCertificate["subject"] | undefined)?.CN;
  return typeof name === "string" ? name : "";
}

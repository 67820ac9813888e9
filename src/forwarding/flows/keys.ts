import { execFile } from "node:child_process";
import { mkdir, rename, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { PeerCertificate } from "node:tls";
import { promisify } from "node:util";
import { OperationalError, messageOf } from "../../base/errors.ts";

const run = promisify(execFile);

/**
 * The site's certificates, made by openssl: `ca.key` and `ca.crt` (keep the key off the nodes), and for each node
 * `NODE.key` and `NODE.crt`, whose subject is O=site, CN=node. P-256, ten years. What is there is kept, so that
 * a node can be added later. Answers the names of the files that were made.
 */
export async function makeKeys(directory: string, site: string, nodes: readonly string[]): Promise<string[]> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(directory, name);
  const made: string[] = [];
  const openssl = async (...args: string[]): Promise<void> => {
    try {
      await run("openssl", args);
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      const message = missing ? "openssl is not installed" : `openssl ${args[0]}: ${messageOf(error)}`;
      throw new OperationalError(missing ? "TOOL_MISSING" : "FILE_UNREADABLE", message, { cause: error });
    }
  };
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const subject = (name: string): string[] => ["-subj", `/O=${site.replaceAll("/", "\\/")}/CN=${name}`];
  if (!existsSync(at("ca.crt"))) {
    const files = ["-keyout", at("ca.key"), "-out", at("ca.crt.new")];
    await openssl("req", "-x509", ...curve, "-days", "3650", ...subject(`${site} authority`), ...files);
    await rename(at("ca.crt.new"), at("ca.crt"));
    made.push("ca.key", "ca.crt");
  }
  for (const node of nodes) {
    if (existsSync(at(`${node}.crt`))) continue;
    const request = at(`${node}.csr`);
    const ready = at(`${node}.crt.new`);
    await openssl("req", ...curve, ...subject(node), "-keyout", at(`${node}.key`), "-out", request);
    const authority = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial"];
    await openssl("x509", "-req", "-in", request, ...authority, "-days", "3650", "-out", ready);
    await rename(ready, at(`${node}.crt`));
    await rm(request);
    made.push(`${node}.key`, `${node}.crt`);
  }
  return made;
}

/** The node that a certificate names; empty where it names none. */
export function commonName(certificate: PeerCertificate): string {
  const name: unknown = (certificate.subject as PeerCertificate["subject"] | undefined)?.CN;
  return typeof name === "string" ? name : "";
}

import { existsSync, readFileSync, statSync } from "node:fs";
import {
  type SecureContext,
  type SecureContextOptions,
  type SecureVersion,
  createSecureContext,
} from "node:tls";
import { X509Certificate } from "node:crypto";
import { OperationalError, messageOf } from "../base/errors.ts";
import type { ProxySettings } from "../contracts/site.ts";
import { hostMatches } from "./routing/policy-match.ts";

type TlsSettings = NonNullable<ProxySettings["tls"]>;

interface Loaded {
  readonly names: readonly string[];
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
  /** The node's own making. */
  readonly own: boolean;
}

/** The certificates of a service, chosen by the client's server name and read again when their files change. */
export class Certificates {
  readonly settings: TlsSettings;
  /** PEM files with certificate and key; the last may be of the node's own making, and not there yet. */
  readonly #files: readonly { readonly certificate: string; readonly key: string; readonly own: boolean }[];
  #loaded: Loaded[] = [];
  #stamp = "";

  /** Throws an OperationalError where a file cannot be read or is not what it should be. */
  constructor(settings: TlsSettings, ordered?: string) {
    this.settings = settings;
    const own = ordered === undefined ? [] : [{ certificate: ordered, key: ordered, own: true }];
    this.#files = [...settings.certificates.map((one) => ({ ...one, own: false })), ...own];
    this.#stamp = this.#look();
    this.#loaded = this.#load();
  }

  /** The first certificate as options, for clients that name no server. */
  get firstFiles(): SecureContextOptions | undefined {
    return this.#loaded[0]?.options;
  }

  /** For clients that name a server that no certificate is for. */
  get first(): SecureContext | undefined {
    return this.#loaded[0]?.context;
  }

  /** Undefined while there is none at all: the handshake fails. */
  find(serverName: string): SecureContext | undefined {
    const name = serverName.toLowerCase();
    const exact = this.#loaded.find(({ names }) => names.includes(name));
    return (
      (exact ?? this.#loaded.find(({ names }) => names.some((one) => oneLabel(one, name))))?.context ??
      this.first
    );
  }

  /** Reads the files again where one of them changed; `problem` where that failed and the old ones stay. */
  refresh(): { changed: boolean; problem?: string } {
    try {
      const stamp = this.#look();
      if (stamp === this.#stamp) return { changed: false };
      const loaded = this.#load();
      this.#loaded = loaded;
      this.#stamp = stamp;
      return { changed: true };
    } catch (error) {
      return { changed: false, problem: messageOf(error) };
    }
  }

  #look(): string {
    return this.#files
      .flatMap(({ certificate, key }) => [certificate, key])
      .map((file) => {
        const { mtimeMs, size, ino } = statSync(file, { throwIfNoEntry: false }) ?? {
          mtimeMs: 0,
          size: 0,
          ino: 0,
        };
        return `${mtimeMs} ${size} ${ino}`;
      })
      .join(",");
  }

  #load(): Loaded[] {
    const { settings } = this;
    return this.#files.flatMap(({ certificate, key, own }): Loaded[] => {
      // One that somebody took away from the disk is served with until there is another.
      if (own && !existsSync(certificate)) return this.#loaded.filter((one) => one.own);
      try {
        const cert = readFileSync(certificate);
        const parsed = new X509Certificate(
          own ? cert.subarray(cert.indexOf("-----BEGIN CERTIFICATE-----")) : cert,
        );
        const names = (parsed.subjectAltName ?? "")
          .split(", ")
          .filter((one) => one.startsWith("DNS:"))
          .map((one) => one.slice(4).toLowerCase());
        const options: SecureContextOptions = {
          cert,
          key: readFileSync(key),
          minVersion: `TLSv${settings.minVersion}` as SecureVersion,
          ...(settings.ciphers === undefined ? {} : { ciphers: settings.ciphers }),
          ...(settings.clientAuthorities === undefined
            ? {}
            : { ca: readFileSync(settings.clientAuthorities) }),
        };
        return [{ names, options, context: createSecureContext(options), own }];
      } catch (error) {
        throw new OperationalError("FILE_UNREADABLE", `${certificate} and ${key}: ${messageOf(error)}`, {
          cause: error,
        });
      }
    });
  }
}

/** A wildcard in a certificate stands for one label (RFC 6125). */
const oneLabel = (pattern: string, name: string): boolean =>
  pattern.startsWith("*.") &&
  hostMatches(pattern, name) &&
  !name.slice(0, -(pattern.length - 1)).includes(".");

import { readFileSync, statSync } from "node:fs";
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
}

/** The certificates of a service, chosen by the client's server name and read again when their files change. */
export class Certificates {
  readonly settings: TlsSettings;
  #loaded: Loaded[] = [];
  #stamp = "";

  /** Throws an OperationalError where a file cannot be read or is not what it should be. */
  constructor(settings: TlsSettings) {
    this.settings = settings;
    this.#stamp = this.#look();
    this.#loaded = this.#load();
  }

  /** The first certificate as options, for clients that name no server. */
  get firstFiles(): SecureContextOptions {
    return this.#loaded[0]!.options;
  }

  /** For clients that name a server that no certificate is for. */
  get first(): SecureContext {
    return this.#loaded[0]!.context;
  }

  find(serverName: string): SecureContext {
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
    return this.settings.certificates
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
    return settings.certificates.map(({ certificate, key }) => {
      try {
        const cert = readFileSync(certificate);
        const parsed = new X509Certificate(cert);
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
        return { names, options, context: createSecureContext(options) };
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

import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import {
  type SecureContext,
  type SecureContextOptions,
  type SecureVersion,
  createSecureContext,
} from "node:tls";
import { X509Certificate } from "node:crypto";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { Clock } from "../../base/time.ts";
import type { ProxySettings } from "../../contracts/site.ts";
import { issuedOf, stapleName } from "../ocsp/answers.ts";
import { hostMatches } from "../routing/policy-match.ts";
import { Staple } from "./staples.ts";
import { TicketKeys, sessionContextOf } from "./tickets.ts";

export type TlsSettings = NonNullable<ProxySettings["tls"]>;

interface Loaded {
  readonly names: readonly string[];
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
  readonly certificate: X509Certificate;
  readonly staple: Staple | undefined;
  /** The node's own making. */
  readonly own: boolean;
}

interface Source {
  readonly certificate: string;
  readonly key: string;
  readonly ocsp?: string | undefined;
  readonly own: boolean;
}

/** Where a service's certificates come from, beside its settings. */
export interface CertificateSources {
  readonly clock: Pick<Clock, "wall">;
  readonly service: string;
  /** What keys of session tickets are made from. */
  readonly secret: Uint8Array;
  /** A PEM file with certificate and key of the node's own making, which may not be there yet. */
  readonly ordered?: string | undefined;
  /** The folder with fetched OCSP responses. */
  readonly fetched?: string | undefined;
}

/** The certificates of a service, chosen by the client's server name and read again when their files change. */
export class Certificates {
  readonly settings: TlsSettings;
  readonly tickets: TicketKeys;
  readonly #sources: CertificateSources;
  readonly #files: readonly Source[];
  #loaded: Loaded[] = [];
  #stamp = "";
  /** OCSP responses that could not be used, to be told with the next refresh. */
  #problems: string[] = [];

  /** Throws an OperationalError where a file cannot be read or is not what it should be. */
  constructor(settings: TlsSettings, sources: CertificateSources) {
    this.settings = settings;
    this.#sources = sources;
    const { clock, service, secret, ordered } = sources;
    this.tickets = new TicketKeys(clock, secret, service, settings.tickets.rotate);
    const own = ordered === undefined ? [] : [{ certificate: ordered, key: ordered, own: true }];
    this.#files = [...settings.certificates.map((one) => ({ ...one, own: false })), ...own];
    this.#stamp = this.#look();
    this.#loaded = this.#load();
    this.#refreshStaples();
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

  /** Whether any OCSP response may ever be stapled: a handshake with none costs nothing. */
  get staples(): boolean {
    return this.#loaded.some(({ staple }) => staple !== undefined);
  }

  /** The OCSP response for a certificate (DER) of these, where there is one that holds. */
  staple(certificate: Uint8Array): Buffer | undefined {
    const { clock } = this.#sources;
    const one = this.#loaded.find((each) => each.certificate.raw.equals(certificate));
    return one?.staple?.at(clock.wall());
  }

  /** Reads the files again where one of them changed; `problem` where that failed and the old ones stay. */
  refresh(): { changed: boolean; problem?: string; ocsp: readonly string[] } {
    const reload = this.#reload();
    this.#refreshStaples();
    return { ...reload, ocsp: this.#problems.splice(0) };
  }

  #reload(): { changed: boolean; problem?: string } {
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

  #refreshStaples(): void {
    const wall = this.#sources.clock.wall();
    for (const { staple } of this.#loaded) {
      const problem = staple?.refresh(wall);
      if (problem !== undefined) this.#problems.push(problem);
    }
  }

  #look(): string {
    const { clientAuthorities } = this.settings;
    return this.#files
      .flatMap(({ certificate, key }) => [certificate, key])
      .concat(clientAuthorities ?? [])
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
    const common = this.#common();
    return this.#files.flatMap((source): Loaded[] => {
      const { certificate: file, key, own } = source;
      // One that somebody took away from the disk is served with until there is another.
      if (own && !existsSync(file)) return this.#loaded.filter((one) => one.own);
      try {
        const cert = readFileSync(file);
        const pem = own ? cert.subarray(cert.indexOf("-----BEGIN CERTIFICATE-----")) : cert;
        const certificate = new X509Certificate(pem);
        const names = (certificate.subjectAltName ?? "")
          .split(", ")
          .filter((one) => one.startsWith("DNS:"))
          .map((one) => one.slice(4).toLowerCase());
        const options: SecureContextOptions = { ...common, cert, key: readFileSync(key) };
        const context = createSecureContext(options);
        return [
          { names, options, context, certificate, staple: this.#stapleOf(source, certificate, pem), own },
        ];
      } catch (error) {
        throw new OperationalError("FILE_UNREADABLE", `${file} and ${key}: ${messageOf(error)}`, {
          cause: error,
        });
      }
    });
  }

  /** What is the same for all certificates. */
  #common(): SecureContextOptions {
    const { minVersion, ciphers, clientAuthorities, clientOptional, tickets } = this.settings;
    let ca: Buffer | undefined;
    try {
      ca = clientAuthorities === undefined ? undefined : readFileSync(clientAuthorities);
    } catch (error) {
      throw new OperationalError("FILE_UNREADABLE", `${clientAuthorities}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    return {
      minVersion: `TLSv${minVersion}` as SecureVersion,
      ...(ciphers === undefined ? {} : { ciphers }),
      ...(ca === undefined ? {} : { ca }),
      // Who resumes is not asked for a certificate again: a session holds for the authorities that it was made under.
      sessionIdContext: sessionContextOf(this.#sources.service, ca, clientOptional ? "optional" : ""),
      sessionTimeout: Math.round(tickets.lifetime / 1000),
    };
  }

  #stapleOf(source: Source, certificate: X509Certificate, pem: Buffer): Staple | undefined {
    const { fetched } = this.#sources;
    const file =
      source.ocsp ??
      (this.settings.fetchOcsp && fetched !== undefined ? join(fetched, stapleName(certificate)) : undefined);
    return file === undefined ? undefined : new Staple(file, issuedOf(pem.toString("latin1")));
  }
}

/** A wildcard in a certificate stands for one label (RFC 6125). */
const oneLabel = (pattern: string, name: string): boolean =>
  pattern.startsWith("*.") &&
  hostMatches(pattern, name) &&
  !name.slice(0, -(pattern.length - 1)).includes(".");

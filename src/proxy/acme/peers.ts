/**
 * Certificates, accounts and challenges between the nodes of a site, over HTTPS with the site's own certificates on
 * both sides. A node asks the others when it starts and before it orders; what is new is told to them at once, and
 * again until they have it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server } from "node:https";
import type { PeerCertificate, TLSSocket } from "node:tls";
import { type IpAddress, formatIpPort } from "../../base/addresses.ts";
import { messageOf } from "../../base/errors.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import {
  type Clock,
  type MonotonicMs,
  type Timer,
  addTime,
  instant,
  seconds,
  timeSince,
} from "../../base/time.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import { type SiteKeys, dialNode, listenForNodes, nodeOf } from "../../linux/site-tls.ts";
import type { PeerAnswer } from "./policy-peers.ts";
import {
  PEER_STATE_BYTES,
  PEER_VERSION,
  type PeerNews,
  type PeerState,
  type PeerVersion,
  VERSION_HEADER,
  decodePeerState,
  encodePeerState,
  versionWith,
} from "./wire-peers.ts";

export interface CertificatePeer {
  readonly node: string;
  readonly address: IpAddress;
  /** The services with an ordered certificate that run there, too: it hears of no other. */
  readonly services: readonly string[];
}

/** The keeper's side: what there is to tell, and what becomes of what is told. */
export interface PeerHost {
  /** `keys`: with certificates and accounts, not only with challenges. */
  state(services: readonly string[], keys: boolean): Promise<PeerNews>;
  accept(from: CertificatePeer, state: PeerState): Promise<void>;
}

export interface PeersOptions {
  readonly clock: Clock;
  readonly site: string;
  readonly node: string;
  readonly listen: { readonly address: IpAddress; readonly port: number };
  readonly peers: readonly CertificatePeer[];
  readonly keys: SiteKeys;
  readonly host: PeerHost;
  readonly notice: (event: string, fields: Record<string, unknown>) => void;
}

interface Known extends CertificatePeer {
  /** When it has last answered a question; undefined before it has. */
  answeredAt: MonotonicMs | undefined;
  /** What it reads, as far as it has said; it may be replaced by an older or newer program at any time. */
  version: PeerVersion;
  /** Since when, until when and why it and this node refuse each other; undefined where they do not. */
  refused: { readonly since: MonotonicMs; readonly last: MonotonicMs; readonly reason: string } | undefined;
  /** It has not yet been told of the newest certificates. */
  behind: boolean;
  /** News go to one node one after the other, so that an older one never comes last; the next one says all. */
  telling: Promise<void>;
  next: Promise<void> | undefined;
}

const WITHIN_MS = 2000;
/** Without any news the others are asked again all the same. */
const ASK_EVERY = seconds(3600);
/** The address may not be there yet, or still be a predecessor's. */
const RETRY = seconds(2);
/** A node talks to each other one now and then. */
const CONNECTIONS = 32;
/** Strangers must not fill the log. */
const TELL_EVERY = seconds(10);
/** Nodes that are reloaded or upgraded one after the other may refuse each other for a moment. */
const APART_AFTER = seconds(180);
/** A refusal is found again at every look; an older one says nothing of now. */
const APART_FRESH = seconds(60);
const PATH = "/v1/certificates";

export const PEER_REFUSALS = ["tls", "too_many", "not_a_peer", "message"] as const;
type Refusal = (typeof PEER_REFUSALS)[number];

export class CertificatePeers {
  readonly #options: PeersOptions;
  readonly #peers: Known[];
  #server: Server | undefined;
  #problem = "";
  #timer: Timer | undefined;
  #closed = false;
  readonly #refused = new Map<Refusal, number>();
  readonly #toldAt = new Map<Refusal, MonotonicMs>();
  readonly #exchanges = { ok: 0, failed: 0 };

  constructor(options: PeersOptions) {
    this.#options = options;
    const fresh = { answeredAt: undefined, version: 1, refused: undefined, behind: false } as const;
    const turn = { telling: Promise.resolve(), next: undefined };
    this.#peers = options.peers.map((peer) => ({ ...peer, ...fresh, ...turn }));
  }

  /** Listens; tried again until it can. */
  async open(): Promise<void> {
    const { clock, listen, keys, notice } = this.#options;
    // Loaded where a site asks for it only: an idle node pays for TLS otherwise.
    const { createServer } = await import("node:https");
    if (this.#closed) return;
    const limits = {
      handshakeTimeout: 5000,
      headersTimeout: 5000,
      requestTimeout: 5000,
      connectionsCheckingInterval: 1000,
    };
    try {
      const server = createServer({ ...listenForNodes(keys), ...limits }, (request, response) => {
        void this.#answer(request, response);
      });
      server.maxConnections = CONNECTIONS;
      server.on("tlsClientError", (error) => this.#refuse("tls", "?", messageOf(error)));
      server.on("drop", () =>
        this.#refuse("too_many", "?", `more than ${CONNECTIONS} connections at a time`),
      );
      await new Promise<void>((done, failed) => {
        server.once("error", failed);
        server.listen({ host: listen.address, port: listen.port }, () => {
          server.off("error", failed);
          server.on("error", (error) => (this.#problem = messageOf(error)));
          done();
        });
      });
      if (this.#closed) {
        server.close();
        return;
      }
      this.#server = server;
      this.#problem = "";
      const others = this.#peers.map(({ node }) => node);
      notice("acme.peers_listening", {
        ...listen,
        peers: others,
        reason: "TLS, both sides with a certificate",
      });
    } catch (error) {
      const problem = `${formatIpPort(listen)}: ${messageOf(error)}`;
      if (problem !== this.#problem) notice("acme.peers_not_listening", { reason: problem });
      this.#problem = problem;
      if (this.#closed) return;
      this.#timer = clock.setTimer(addTime(clock.monotonic(), RETRY), () => void this.open());
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#server?.close();
    this.#server?.closeAllConnections();
  }

  /** Why certificates do not go to the others, or not from them; empty where they do, or a node is just not there. */
  problem(): string {
    if (this.#problem !== "") return this.#problem;
    const now = this.#options.clock.monotonic();
    const apart = this.#peers.flatMap(({ node, refused }) =>
      refused !== undefined &&
      timeSince(now, refused.since) >= APART_AFTER &&
      timeSince(now, refused.last) < APART_FRESH
        ? [`${node}: ${refused.reason}`]
        : [],
    );
    return apart.join("; ");
  }

  // Asking and telling -----------------------------------------------------------------------------------

  /** Asks all of them at once; what they have is accepted before this settles. Who is silent is left out. */
  async ask(peers: readonly Known[] = this.#peers): Promise<PeerAnswer[]> {
    const answers = await Promise.all(peers.map((peer) => this.#ask(peer)));
    return answers.flatMap((answer) => answer ?? []);
  }

  /** Something is new: `keys` where it is a certificate or an account, which is told until they have it. */
  async tell(keys: boolean): Promise<void> {
    if (keys) for (const peer of this.#peers) peer.behind = true;
    await Promise.all(this.#peers.map((peer) => this.#inTurn(peer)));
  }
  #inTurn(peer: Known): Promise<void> {
    peer.next ??= peer.telling.then(() => {
      peer.next = undefined;
      return this.#tell(peer);
    });
    peer.telling = peer.next;
    return peer.next;
  }

  /** Now and then: whoever could not be asked or told is tried again. */
  async upkeep(): Promise<void> {
    const now = this.#options.clock.monotonic();
    const due = ({ answeredAt }: Known): boolean =>
      answeredAt === undefined || timeSince(now, answeredAt) > ASK_EVERY;
    await Promise.all([
      this.ask(this.#peers.filter(due)),
      ...this.#peers.filter(({ behind }) => behind).map((peer) => this.#inTurn(peer)),
    ]);
  }

  async #ask(peer: Known): Promise<PeerAnswer | undefined> {
    const answer = await this.#exchange(peer, "GET", undefined);
    if (!answer.ok) return undefined;
    const state = this.#checked(peer, answer.value);
    if (state === undefined) return undefined;
    try {
      await this.#options.host.accept(peer, state);
    } catch (error) {
      // A disk that is full: what the others have is asked for again.
      this.#options.notice("acme.peers_failed", { peer: peer.node, reason: messageOf(error) });
      return undefined;
    }
    peer.answeredAt = this.#options.clock.monotonic();
    peer.refused = undefined;
    return { node: peer.node, claims: state.claims, ordering: state.ordering };
  }

  async #tell(peer: Known): Promise<void> {
    const keys = peer.behind;
    // What comes new while this one is under way makes it behind again.
    peer.behind = false;
    let failed: string | undefined;
    try {
      const { host, site } = this.#options;
      const news = await host.state(peer.services, keys);
      const say = () => this.#exchange(peer, "POST", encodePeerState(news, site, peer.version));
      const { version } = peer;
      let answer = await say();
      // An older program has taken its place, and refuses what it does not know.
      if (!answer.ok && peer.version < version) answer = await say();
      if (!answer.ok) failed = answer.error;
    } catch (error) {
      failed = messageOf(error);
      this.#options.notice("acme.peers_failed", { peer: peer.node, reason: failed });
    }
    if (failed !== undefined && keys) peer.behind = true;
  }

  async #exchange(peer: Known, method: "GET" | "POST", body: string | undefined): Promise<Result<string>> {
    const { keys, listen } = this.#options;
    const { request } = await import("node:https");
    const at = { address: peer.address, port: listen.port };
    const result = await new Promise<Result<string>>((settle) => {
      const signal = AbortSignal.timeout(WITHIN_MS);
      const outgoing = request(
        {
          ...dialNode(keys, peer.node, formatIpPort(at)),
          host: at.address,
          port: at.port,
          method,
          path: PATH,
          agent: false,
          signal,
          headers: {
            host: "nines",
            [VERSION_HEADER]: PEER_VERSION,
            ...(body === undefined
              ? {}
              : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
          },
        },
        (response) => {
          peer.version = versionWith(response.headers[VERSION_HEADER]);
          const { statusCode = 0 } = response;
          if (statusCode === 400 || statusCode === 403)
            this.#apart(peer, `it refuses this node (status ${statusCode}), and its log says why`);
          readAll(response).then(
            (text) => settle(statusCode === 200 ? ok(text) : fail(`status ${statusCode}`)),
            (error: unknown) => settle(fail(messageOf(error))),
          );
        },
      );
      outgoing.on("error", (error: NodeJS.ErrnoException) => {
        // Not being there is no news; another's certificate is.
        const absent = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ECONNRESET", "ABORT_ERR"];
        if (!absent.includes(error.code ?? "") && !this.#closed) {
          this.#refuse("tls", peer.node, error.message);
          this.#apart(peer, error.message);
        }
        settle(fail(messageOf(error)));
      });
      outgoing.end(body);
    });
    this.#exchanges[result.ok ? "ok" : "failed"]++;
    return result;
  }

  // Being asked and told ---------------------------------------------------------------------------------

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const end = (status: number, text = ""): void => {
      response
        .writeHead(status, {
          connection: "close",
          "content-length": Buffer.byteLength(text),
          [VERSION_HEADER]: PEER_VERSION,
        })
        .end(text);
    };
    try {
      const { certificate, authorized } = shownBy(request);
      const shown = nodeOf(certificate);
      const peer = this.#peers.find(({ node }) => node === shown);
      if (!authorized || peer === undefined) {
        this.#refuse("not_a_peer", shown, "no node that runs the same services");
        end(403);
      } else if (request.url !== PATH || !["GET", "POST"].includes(request.method ?? "")) {
        this.#refuse("message", shown, "another request than the agreed ones");
        end(404);
      } else if (request.method === "GET") {
        const news = await this.#options.host.state(peer.services, true);
        end(200, encodePeerState(news, this.#options.site, versionWith(request.headers[VERSION_HEADER])));
      } else {
        const state = this.#checked(peer, await readAll(request));
        if (state !== undefined) await this.#options.host.accept(peer, state);
        end(state === undefined ? 400 : 200);
      }
    } catch (error) {
      // Cut off, too long, or the disk is full: nothing has been changed, and it is told again.
      this.#refuse("message", "?", messageOf(error));
      if (response.headersSent) response.destroy();
      else end(400);
    }
  }

  #checked(peer: Known, text: string): PeerState | undefined {
    const { site } = this.#options;
    const decoded = decodePeerState(text);
    const wrong = !decoded.ok
      ? decoded.error
      : decoded.value.site !== site || decoded.value.node !== peer.node
        ? "it is of another site or node"
        : undefined;
    if (decoded.ok && wrong === undefined) return decoded.value;
    this.#refuse("message", peer.node, wrong ?? "");
    this.#apart(peer, wrong ?? "");
    return undefined;
  }

  /** It is asked at every look until it answers well. */
  #apart(peer: Known, reason: string): void {
    const now = this.#options.clock.monotonic();
    peer.answeredAt = undefined;
    peer.refused = { since: peer.refused?.since ?? now, last: now, reason };
  }

  #refuse(kind: Refusal, node: string, reason: string): void {
    const { clock, notice } = this.#options;
    this.#refused.set(kind, (this.#refused.get(kind) ?? 0) + 1);
    const now = clock.monotonic();
    if (timeSince(now, this.#toldAt.get(kind) ?? instant(-Infinity)) < TELL_EVERY) return;
    this.#toldAt.set(kind, now);
    notice("acme.peer_refused", { peer: node.slice(0, 253), kind, reason });
  }

  samples(): MetricSample[] {
    return [
      ...PEER_REFUSALS.map((reason): MetricSample => ({
        name: "nines_proxy_certificate_peers_refused_total",
        help: "Connections and messages about certificates from or to other nodes that were refused, by reason.",
        kind: "counter",
        labels: { reason },
        value: this.#refused.get(reason) ?? 0,
      })),
      ...(["ok", "failed"] as const).map((result): MetricSample => ({
        name: "nines_proxy_certificate_exchanges_total",
        help: "Questions and news about certificates to other nodes, by result.",
        kind: "counter",
        labels: { result },
        value: this.#exchanges[result],
      })),
    ];
  }
}

/** By the handshake, not by anything in the request. */
function shownBy(request: IncomingMessage): { certificate: PeerCertificate; authorized: boolean } {
  const socket = request.socket as TLSSocket;
  return { certificate: socket.getPeerCertificate(), authorized: socket.authorized };
}

/** Bounded; throws where it is too long or ends before its announced length. */
async function readAll(message: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of message as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > PEER_STATE_BYTES) throw new Error("a message of more than 4 MiB");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onCleanUp } from "./harness.ts";

const run = (...args: string[]): void => {
  execFileSync("openssl", args, { stdio: "ignore" });
};
const CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A free port of loopback; free a moment ago. */
export const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

/** A certificate authority of OpenSSL's with a responder for OCSP. */
export class Authority {
  readonly directory = mkdtempSync(join(tmpdir(), "nines-ca-"));
  readonly certificate = join(this.directory, "ca.pem");
  readonly #key = join(this.directory, "ca.key");
  readonly #index = join(this.directory, "index.txt");
  readonly #port: number;
  readonly #responder: string;
  readonly #signer: readonly [certificate: string, key: string];
  #serial = 0x1000;

  /**
   * `port` of its responder; `delegated`: answers are signed by another certificate that the authority made for that;
   * `responder`: where certificates say that it is.
   */
  constructor(port: number, delegated = false, responder = `http://127.0.0.1:${port}/`) {
    onCleanUp(() => rmSync(this.directory, { recursive: true, force: true }));
    this.#port = port;
    this.#responder = responder;
    const constraint = ["-addext", "basicConstraints=critical,CA:TRUE"];
    const files = ["-keyout", this.#key, "-out", this.certificate];
    run("req", "-x509", ...CURVE, "-days", "3", "-subj", "/O=Test CA/CN=Authority", ...constraint, ...files);
    writeFileSync(this.#index, "");
    if (!delegated) this.#signer = [this.certificate, this.#key];
    else {
      const { certificate, key } = this.issue("responder", "extendedKeyUsage=OCSPSigning");
      this.#signer = [certificate, key];
    }
  }

  /** A certificate with its chain, and its key. */
  issue(name: string, more = ""): { certificate: string; key: string } {
    const serial = (this.#serial++).toString(16).toUpperCase();
    const [request, leaf, key, extensions, whole] = ["csr", "leaf", "key", "ext", "pem"].map((end) =>
      join(this.directory, `${name}-${serial}.${end}`),
    ) as [string, string, string, string, string];
    run("req", "-new", ...CURVE, "-subj", `/CN=${name}`, "-keyout", key, "-out", request);
    writeFileSync(
      extensions,
      `subjectAltName=DNS:${name}\nauthorityInfoAccess=OCSP;URI:${this.#responder}\n${more}\n`,
    );
    const signer = ["-CA", this.certificate, "-CAkey", this.#key, "-set_serial", `0x${serial}`];
    run("x509", "-req", "-in", request, "-days", "2", ...signer, "-extfile", extensions, "-out", leaf);
    writeFileSync(whole, readFileSync(leaf, "utf8") + readFileSync(this.certificate, "utf8"));
    this.#list("V", serial, name);
    return { certificate: whole, key };
  }

  #list(state: string, serial: string, name: string): void {
    const line = `${state}\t391231235959Z\t${state === "R" ? "250101000000Z" : ""}\t${serial}\tunknown\t/CN=${name}\n`;
    const others = readFileSync(this.#index, "utf8")
      .split("\n")
      .filter((one) => one !== "" && !one.includes(`\t${serial}\t`));
    writeFileSync(this.#index, [...others, line].join("\n"));
  }

  revoke(certificate: string): void {
    const [, name, serial] = /([^/]+)-([0-9A-F]+)\.pem$/.exec(certificate) ?? [];
    this.#list("R", serial ?? "", name ?? "");
  }

  #answering([signer, key] = this.#signer): string[] {
    const who = ["-CA", this.certificate, "-rsigner", signer, "-rkey", key, "-rmd", "sha256"];
    return ["ocsp", "-index", this.#index, ...who];
  }

  /** A response for a certificate, as DER; `hours` is how long it holds, `by` another signer than the right one. */
  respond(certificate: string, hours = 24, by?: { certificate: string; key: string }): Buffer {
    const out = join(this.directory, "response.der");
    const request = join(this.directory, "request.der");
    const leaf = certificate.replace(/pem$/, "leaf");
    run("ocsp", "-issuer", this.certificate, "-cert", leaf, "-no_nonce", "-reqout", request);
    const signer = by === undefined ? this.#signer : ([by.certificate, by.key] as const);
    run(...this.#answering(signer), "-reqin", request, "-respout", out, "-nmin", String(hours * 60));
    return readFileSync(out);
  }

  /** The responder itself, on its port. */
  async start(): Promise<ChildProcess> {
    const args = [...this.#answering(), "-port", String(this.#port), "-nmin", "60"];
    const child = spawn("openssl", args, { stdio: ["ignore", "pipe", "pipe"] });
    onCleanUp(() => {
      child.kill("SIGKILL");
    });
    // It says so when it waits.
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("openssl ocsp does not start")), 10_000);
      const heard = (): void => {
        clearTimeout(timer);
        resolve();
      };
      child.stderr.once("data", heard);
      child.stdout.once("data", heard);
    });
    return child;
  }
}

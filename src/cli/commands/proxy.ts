import type { Command } from "commander";
import { OperationalError } from "../../base/errors.ts";

interface QuickFlags {
  to: string[];
  listen: string;
  scheduler: string;
  log: boolean;
  metrics?: string;
}

const collect = (value: string, before: string[] = []): string[] => [...before, value];

export function registerProxy(program: Command): void {
  const proxy = program
    .command("proxy")
    .description("a layer-7 proxy: without a site file for a first try, or questions about one")
    .option("--to <port|address:port>", "a backend; may be given several times", collect)
    .option("--listen <port|address:port>", "where to listen", "8080")
    .option(
      "--scheduler <name>",
      "round-robin, least-requests, p2c, peak-ewma, maglev or bounded",
      "round-robin",
    )
    .option("--metrics <port|address:port>", "serve Prometheus metrics there, at /metrics")
    .option("--no-log", "no access log on the standard output")
    .action(async (flags: Partial<QuickFlags>) => {
      if (flags.to === undefined) {
        throw new OperationalError("NOT_FOUND", "where to? nines proxy --to 3000 --to 3001 --listen 8080");
      }
      await runQuick(flags as QuickFlags);
    });
  proxy
    .command("explain")
    .description("what would happen to one request, and why; nothing is sent")
    .argument("<site>", "the site file")
    .argument("<url>", "such as https://shop.example/cart?x=1")
    .option("-X, --method <method>", "the request's method", "GET")
    .option("-H, --header <line>", "a header, 'Name: value'; may be given several times", collect)
    .option("--service <name>", "the service; default: the only proxy service")
    .option("--client <address>", "the client's address", "127.0.0.1")
    .option("--json", "as JSON")
    .action(explain);
}

async function runQuick(flags: QuickFlags): Promise<void> {
  const [{ Proxy }, { parseEmbeddedSite }, standalone, { SystemClock }, { formatMetrics }] =
    await Promise.all([
      import("../../proxy/proxy.ts"),
      import("../../proxy/embed.ts"),
      import("../../proxy/standalone.ts"),
      import("../../base/system-clock.ts"),
      import("../../proxy/engine/metrics.ts"),
    ]);
  const say = (text: string): void => console.error(`nines: ${text}`);
  const site = parseEmbeddedSite(standalone.quickSite(flags));
  const proxy = new Proxy({
    events: { notice: (event, fields) => say(`${event} ${JSON.stringify(fields)}`) },
  });
  await proxy.apply(site);
  const endChecks = standalone.checkByConnecting(proxy, site, new SystemClock(), (backend, up, reason) =>
    say(`${backend} is ${up ? "up" : "down"}: ${reason}`),
  );
  if (flags.metrics !== undefined) {
    const { createServer } = await import("node:http");
    const at = standalone.expandAddress(flags.metrics, "127.0.0.1");
    const colon = at.lastIndexOf(":");
    createServer((_, response) => {
      response.setHeader("content-type", "text/plain; version=0.0.4");
      response.end(formatMetrics(proxy.metrics()));
    }).listen(Number(at.slice(colon + 1)), at.slice(0, colon).replaceAll(/[[\]]/g, ""));
  }
  const to = flags.to.map((one) => standalone.expandAddress(one, "127.0.0.1")).join(", ");
  say(`listening on ${standalone.expandAddress(flags.listen, "0.0.0.0")}, to ${to}`);
  await new Promise<void>((resolve) => {
    let asked = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        // The second signal is impatient.
        if (asked) process.exit(1);
        asked = true;
        say("finishing what is under way");
        endChecks();
        void proxy.close().then(resolve);
      });
    }
  });
  process.exit(0);
}

async function explain(
  file: string,
  url: string,
  options: { method: string; header?: string[]; service?: string; client: string; json?: boolean },
): Promise<void> {
  const [{ loadSite }, { Proxy }] = await Promise.all([
    import("../../config/load.ts"),
    import("../../proxy/proxy.ts"),
  ]);
  if (!URL.canParse(url))
    throw new OperationalError("NOT_FOUND", `"${url}" is not a URL such as https://shop.example/cart`);
  const { host, pathname, search } = new URL(url);
  const { site } = await loadSite(file);
  const names = Object.entries(site.services).flatMap(([name, service]) => (service.proxy ? [name] : []));
  const service = options.service ?? (names.length === 1 ? names[0] : undefined);
  if (service === undefined) {
    throw new OperationalError(
      "NOT_FOUND",
      `which service? --service with one of: ${names.join(", ") || "(there is none)"}`,
    );
  }
  const headers = Object.fromEntries(
    (options.header ?? []).map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  const proxy = new Proxy();
  try {
    proxy.prepare(site);
    const told = proxy.explain(service, {
      method: options.method,
      target: pathname + search,
      host,
      headers,
      client: options.client,
    });
    if (options.json) {
      console.log(JSON.stringify(told, undefined, 2));
      return;
    }
    for (const { route, failed } of told.tried) {
      console.log(`${route}: ${failed === undefined ? "takes it" : `no, wanted: ${failed}`}`);
    }
    if (told.refused !== undefined) console.log(`refused, ${told.refused}`);
    if (told.action !== undefined) console.log(told.action);
    if (told.target !== undefined) console.log(`the backend gets ${options.method} ${told.target}`);
    if (told.sticky !== undefined) console.log(`sticky: ${told.sticky}`);
    for (const { backend, share, reason } of told.backends ?? [])
      console.log(`  ${backend}: share ${share}, ${reason}`);
  } finally {
    await proxy.close(0);
  }
}

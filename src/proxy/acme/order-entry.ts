// Orders one certificate and ends. A process of its own, so that the library and what it brings (an HTTP client,
// ASN.1) are neither in the memory nor in the rights of the processes that serve.
import { Agent } from "node:https";
import { rootCertificates } from "node:tls";
import acme from "acme-client";
import { messageOf } from "../../base/errors.ts";
import type { Challenge, FromOrder, OrderRequest, ToOrder } from "./messages.ts";

/** Debian's nobody and nogroup. */
const NOBODY = 65_534;

const tell = (message: FromOrder): void => {
  process.send?.(message);
};
const waiting = new Map<number, () => void>();
let count = 0;

/** Resolves when the authority can find it. */
const publish = (id: number, challenge: Challenge): Promise<void> =>
  new Promise((resolve) => {
    waiting.set(id, resolve);
    tell({ type: "challenge", id, challenge });
  });

async function order(request: OrderRequest): Promise<string> {
  const { directory, names, email, externalAccount, authorities } = request;
  if (authorities !== undefined)
    acme.axios.defaults.httpsAgent = new Agent({ ca: [...rootCertificates, authorities] });
  const accountKey = request.account?.key ?? (await acme.crypto.createPrivateEcdsaKey()).toString();
  const client = new acme.Client({
    directoryUrl: directory,
    accountKey,
    ...(request.account === undefined ? {} : { accountUrl: request.account.url }),
    ...(externalAccount === undefined
      ? {}
      : { externalAccountBinding: { kid: externalAccount.id, hmacKey: externalAccount.key } }),
  });
  if (request.account === undefined) {
    await client.createAccount({
      termsOfServiceAgreed: true,
      ...(email === undefined ? {} : { contact: [`mailto:${email}`] }),
    });
    tell({ type: "account", account: { key: accountKey, url: client.getAccountUrl() } });
  }
  const key = await acme.crypto.createPrivateEcdsaKey();
  const [, csr] = await acme.crypto.createCsr({ altNames: [...names] }, key);
  const ids = new Map<string, number>();
  const chain = await client.auto({
    csr,
    skipChallengeVerification: true,
    challengePriority: [request.challenge],
    challengeCreateFn: async (authorization, challenge, answer) => {
      const name = authorization.identifier.value;
      if (challenge.type !== request.challenge)
        throw new Error(`the authority offers ${challenge.type} for ${name}, not ${request.challenge}`);
      const id = ++count;
      ids.set(challenge.url, id);
      if (request.challenge === "http-01") {
        await publish(id, { kind: "http-01", token: challenge.token, answer });
        return;
      }
      const [proofKey, proof] = await acme.crypto.createAlpnCertificate(authorization, answer);
      await publish(id, {
        kind: "tls-alpn-01",
        name,
        certificate: proof.toString(),
        key: proofKey.toString(),
      });
    },
    challengeRemoveFn: async (_authorization, challenge) => {
      const id = ids.get(challenge.url);
      if (id !== undefined) tell({ type: "over", id });
      await Promise.resolve();
    },
  });
  return `${key.toString().trim()}\n${chain.trim()}\n`;
}

// Everything is loaded: from here on it needs nothing but the network and its channel.
if (process.getuid?.() === 0) {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
process.on("disconnect", () => process.exit(0));
process.on("message", (message: ToOrder) => {
  if (message.type === "published") {
    waiting.get(message.id)?.();
    waiting.delete(message.id);
    return;
  }
  order(message.request).then(
    (pem) => tell({ type: "ordered", pem }),
    (error: unknown) => tell({ type: "failed", reason: messageOf(error) }),
  );
});

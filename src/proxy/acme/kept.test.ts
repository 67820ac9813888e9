import { describe, expect, it } from "vitest";
import { accountOf, readAccount } from "./kept.ts";
import { accountName, oldAccountName } from "./store.ts";

const one = "https://ca.example/acme/one/directory";
const two = "https://ca.example/acme/two/directory";
const account = (url: string): string => JSON.stringify({ key: "k", url, made: 5 });
const reader = (files: Record<string, string>) => ({ read: (name: string) => Promise.resolve(files[name]) });

describe("the account of a directory", () => {
  it("has a file of its own, also where two directories are of one host", () => {
    expect(accountName(one)).toMatch(/^accounts\/ca\.example-[0-9a-f]{8}\.json$/);
    expect(accountName(one)).not.toBe(accountName(two));
    expect(oldAccountName(one)).toBe("accounts/ca.example.json");
  });
  it("is read under its old name where it is of this directory, and only while there is no new one", async () => {
    const old = { "accounts/ca.example.json": account("https://ca.example/acme/one/account/7") };
    expect(accountOf(await readAccount(reader(old), one))?.url).toBe("https://ca.example/acme/one/account/7");
    expect(await readAccount(reader(old), two)).toBeUndefined();
    expect(await readAccount(reader({ ...old, [accountName(one)]: "{}" }), one)).toBe("{}");
  });
  it("of Let's Encrypt is read under its old name", async () => {
    const old = account("https://acme-v02.api.letsencrypt.org/acme/acct/123");
    const files = reader({ "accounts/acme-v02.api.letsencrypt.org.json": old });
    expect(await readAccount(files, "https://acme-v02.api.letsencrypt.org/directory")).toBe(old);
  });
});

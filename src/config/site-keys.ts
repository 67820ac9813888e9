import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { OperationalError, messageOf } from "../base/errors.ts";

/**
 * This node's certificate and key and the site's authority, as `nines keys` made them, as PEM. `directory` is relative
 * to the site file. Throws FILE_UNREADABLE, with the command that makes them.
 */
export async function readSiteKeys(
  siteFile: string,
  directory: string,
  node: string,
): Promise<{ readonly key: string; readonly certificate: string; readonly authority: string }> {
  const folder = resolve(dirname(siteFile), directory);
  const pem = async (name: string): Promise<string> => {
    try {
      return await readFile(join(folder, name), "utf8");
    } catch (error) {
      const hint = `make it with: nines keys ${siteFile} ${folder}`;
      throw new OperationalError("FILE_UNREADABLE", `${messageOf(error)}; ${hint}`, { cause: error });
    }
  };
  return {
    key: await pem(`${node}.key`),
    certificate: await pem(`${node}.crt`),
    authority: await pem("ca.crt"),
  };
}

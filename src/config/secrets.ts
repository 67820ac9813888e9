import { readFile } from "node:fs/promises";
import { OperationalError } from "../base/errors.ts";
import type { SecretReference } from "./schema/common.ts";

/** A secret is a line or a key, not a file of another kind that was named by mistake. */
const LIMIT = 64 * 1024;

/**
 * The secret that the site file refers to. Read it when it is needed and do not keep it in anything that is
 * printed; errors name the file or the variable and never what is in it.
 */
export async function readSecret(
  reference: SecretReference,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string> {
  if ("env" in reference) {
    const value = environment[reference.env];
    if (value === undefined || value === "")
      throw new OperationalError("NOT_FOUND", `the environment variable ${reference.env} holds no secret`);
    return value;
  }
  let text: string;
  try {
    text = await readFile(reference.file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OperationalError(
      "FILE_UNREADABLE",
      `the secret ${reference.file} cannot be read (${code ?? "unknown"})`,
    );
  }
  if (text.length > LIMIT)
    throw new OperationalError("FILE_UNREADABLE", `the secret ${reference.file} is larger than 64 KiB`);
  const secret = text.replace(/\r?\n$/, "");
  if (secret === "") throw new OperationalError("FILE_UNREADABLE", `the secret ${reference.file} is empty`);
  return secret;
}

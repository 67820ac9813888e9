/**
 * The path that is matched and sent on (RFC 3986 6.2.2): escapes of unreserved characters decoded, `.` and
 * `..` resolved, so that /x/%2e%2e/admin meets the route of /admin and the backend sees the same path.
 */
export function normalPath(path: string): string {
  let text = path;
  if (text.includes("%")) {
    text = text.replaceAll(/%([0-9a-fA-F]{2})/g, (whole, hex: string) => {
      const code = Number.parseInt(hex, 16);
      const char = String.fromCharCode(code);
      return /[A-Za-z0-9\-._~]/.test(char) ? char : whole.toUpperCase();
    });
  }
  if (!text.includes("/.")) return text;
  const out: string[] = [];
  const parts = text.split("/");
  for (let i = 1; i < parts.length; i++) {
    const part = parts[i]!;
    const last = i === parts.length - 1;
    if (part === "..") out.pop();
    else if (part !== ".") out.push(part);
    if (last && (part === "." || part === "..")) out.push("");
  }
  return `/${out.join("/")}`;
}

/** What is matched: //admin is /admin to many a backend, and must not pass by its route. It is sent on as it came. */
export const mergedSlashes = (path: string): string =>
  path.includes("//") ? path.replaceAll(/\/{2,}/g, "/") : path;

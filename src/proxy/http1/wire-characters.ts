/** Which bytes may stand where in an HTTP/1.1 head (RFC 9110 5.6.2, 5.5; RFC 9112 3). */

const table = (allowed: (byte: number) => boolean): Uint8Array =>
  Uint8Array.from({ length: 256 }, (_, byte) => (allowed(byte) ? 1 : 0));

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;
const isAlpha = (byte: number): boolean => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
const oneOf = (text: string): ((byte: number) => boolean) => {
  const bytes = new Set(Array.from(text, (c) => c.charCodeAt(0)));
  return (byte) => bytes.has(byte);
};
const isMark = oneOf("!#$%&'*+-.^_`|~");

/** tchar: methods and names of fields. */
export const TOKEN = table((byte) => isDigit(byte) || isAlpha(byte) || isMark(byte));

/** field-vchar, obs-text, space and tab: everything that may stand in a field's value. */
export const VALUE = table((byte) => byte === 0x09 || (byte >= 0x20 && byte !== 0x7f));

/**
 * A request target: visible ASCII without `#`. Wider than RFC 3986 by `"<>\^`{|}`, which browsers send;
 * a fragment never belongs there, and bytes above 0x7f are read differently by different backends.
 */
export const TARGET = table((byte) => byte > 0x20 && byte < 0x7f && byte !== 0x23);

/** Bytes of a host name or an IPv4 address. */
export const HOST = table((byte) => isDigit(byte) || isAlpha(byte) || oneOf("-._~")(byte));

/** Lower case, and `_` as `-`: so that `Content_Length` is found to look like `content-length`. */
export const FOLD = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte >= 0x41 && byte <= 0x5a) return byte | 0x20;
  return byte === 0x5f ? 0x2d : byte;
});

/** The value of a hexadecimal digit, 255 for any other byte. */
export const HEX = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (isDigit(byte)) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : 255;
});

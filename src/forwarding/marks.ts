/**
 * The part of a connection's mark that is ours: `0x4e` in the highest byte says "nines", the lowest 12 bits
 * are the service's number. The bits between belong to others and are kept.
 */
export const MARK_MASK = 0xff000fff;
export const MARK_SIGNATURE = 0x4e000000;
export const SIGNATURE_MASK = 0xff000000;
export const LAST_SERVICE = 0xfff;
export const serviceMark = (id: number): number => MARK_SIGNATURE + id;

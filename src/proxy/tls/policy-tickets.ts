/**
 * Which keys session tickets are made and read with (RFC 5077, RFC 8446 4.6.1). Time is cut into epochs of
 * `rotate` each, counted from 1970, so that nodes with the same secret agree without a word: new tickets get
 * the key of this epoch. Those of the one before are read, and those of the next, since clocks differ.
 */

/** The number of the epoch in which this instant lies; both in milliseconds. */
export const epochAt = (wall: number, rotate: number): number => Math.floor(wall / rotate);

/** The epochs whose tickets are read, the one that makes new ones first. */
export const readableEpochs = (epoch: number): readonly number[] => [epoch, epoch - 1, epoch + 1];

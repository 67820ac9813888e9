/**
 * Whose word on a flow is the later one. Each time a node becomes Active for a virtual router it takes a term above all
 * that it has heard of, and what it says of its flows counts as of that term: a third node that hears two of them in
 * any order keeps the later one's. Pure.
 *
 * After a split the one that stays Active may be the one with the earlier term. It learns so from the other's or from a
 * third node's announcement, and takes the next term.
 */
export interface RouterTerm {
  readonly router: string;
  /** Of the node that announces it, when it was Active last; 0 where it never was. */
  readonly term: number;
  /** The latest one that it knows of. */
  readonly seen: number;
  readonly active: boolean;
}
/** What a peer says: its term of a router, and whether it is Active now. */
export type Word = Pick<RouterTerm, "term" | "active">;

export const NO_WORD: Word = { term: 0, active: false };

/** Terms are unsigned 32-bit numbers on the wire. */
const LAST = 0xffff_ffff;

export class Terms {
  readonly #node: string;
  #of = new Map<string, RouterTerm>();
  /** Whose the latest term of a router is, where it was that node that said so. */
  readonly #by = new Map<string, string>();
  /** Replaced with every change. */
  #announced: readonly RouterTerm[] = [];

  constructor(node: string) {
    this.#node = node;
  }
  get announced(): readonly RouterTerm[] {
    return this.#announced;
  }
  own(router: string): number {
    return this.#of.get(router)?.term ?? 0;
  }

  setActive(routers: ReadonlySet<string>): void {
    for (const router of new Set([...routers, ...this.#of.keys()])) {
      const before = this.#get(router);
      const active = routers.has(router);
      if (active && !before.active) this.#take(router);
      else if (active !== before.active) this.#set({ ...before, active });
    }
  }

  /**
   * A peer's announcement. Answers the routers for which this node is Active and has taken the next term at once, since
   * the one that has a later term is Active no more: all its flows must be said anew.
   */
  hear(peer: string, announced: Iterable<RouterTerm>): string[] {
    const again: string[] = [];
    for (const { router, term, seen, active } of announced) {
      const known = this.#get(router);
      // Two that were elected at once: the one whose name comes first takes the next term.
      const tie = known.active && term === known.term && peer > this.#node;
      const theirs = Math.min(LAST, term + (tie ? 1 : 0));
      const latest = Math.max(known.seen, theirs, seen);
      if (latest > known.seen) {
        this.#set({ ...known, seen: latest });
        this.#by.set(router, seen > term ? "" : peer);
      } else if (term > 0 && term === known.seen && term !== known.term) this.#claimed(router, peer, known);
      // Of what it has only heard of, the one who said it may be Active: `insist` is slow enough for two of those.
      if (!known.active || active || theirs <= known.term) continue;
      this.#take(router);
      again.push(router);
    }
    return again;
  }
  /**
   * Active still, though another was elected later: takes the next term, and answers for which routers. Not where that
   * other is `to`, which follows us.
   */
  insist(to?: string): string[] {
    const outbid = this.#announced.filter(
      ({ router, active, term, seen }) =>
        active && seen > term && (to === undefined || this.#by.get(router) !== to),
    );
    for (const { router } of outbid) this.#take(router);
    return outbid.map(({ router }) => router);
  }
  /**
   * Whether another node than this one says that it has been Active since: what was said in that term is the last word.
   * Not of a term that nobody told (0), nor by hearsay.
   */
  isOver(owner: string, term: number, router: string): boolean {
    const { seen } = this.#get(router);
    const by = this.#by.get(router) ?? "";
    return term > 0 && seen > term && by !== "" && by !== owner;
  }
  /** Whether a peer's word on a flow is later than ours. */
  later(peer: string, word: Word, router: string): boolean {
    const own = this.own(router);
    return word.term > own || (word.term === own && peer > this.#node);
  }

  /**
   * A peer says that the latest term is its own. Two that were elected at once may never hear of each other, where one of
   * them dies: a third node says for them that there is a later one, and whoever is Active takes the next.
   */
  #claimed(router: string, peer: string, known: RouterTerm): void {
    const by = this.#by.get(router) ?? "";
    if (by === "") this.#by.set(router, peer);
    else if (by !== peer && known.seen < LAST) {
      this.#set({ ...known, seen: known.seen + 1 });
      this.#by.set(router, "");
    }
  }
  #get(router: string): RouterTerm {
    return this.#of.get(router) ?? { router, term: 0, seen: 0, active: false };
  }
  #take(router: string): void {
    const term = Math.min(LAST, this.#get(router).seen + 1);
    this.#set({ router, term, seen: term, active: true });
  }
  #set(term: RouterTerm): void {
    this.#of.set(term.router, term);
    this.#announced = [...this.#of.values()];
  }
}

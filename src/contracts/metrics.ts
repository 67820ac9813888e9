/** What rooms tell for /metrics. Names are `nines_<room>_<noun>_<unit>`; counters end in `_total`. */
export interface MetricSample {
  readonly name: string;
  readonly help: string;
  readonly kind: "gauge" | "counter" | "histogram";
  /** Never a client's address: the number of series stays bounded. */
  readonly labels: Readonly<Record<string, string>>;
  /** Of a histogram: the sum of what was observed. */
  readonly value: number;
  /** Of a histogram: observations per bucket, each with its upper bound; the last one's is Infinity. */
  readonly buckets?: readonly { readonly to: number; readonly count: number }[];
}

/** What rooms tell for /metrics. Names are `nines_<room>_<noun>_<unit>`; counters end in `_total`. */
export interface MetricSample {
  readonly name: string;
  readonly help: string;
  readonly kind: "gauge" | "counter";
  /** Never a client's address: the number of series stays bounded. */
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/**
 * What the big clouds promise. Data with date and source: these change, and a promise is the threshold of a
 * credit, not the availability to expect.
 */
export interface CloudPromise {
  readonly provider: string;
  readonly what: string;
  /** Per cent of a month. */
  readonly percent: number;
  /** Below which per cent which share of the bill comes back. */
  readonly credits: readonly { readonly below: number; readonly credit: number }[];
  readonly source: string;
  /** When the text was current, as far as known. */
  readonly date: string;
}

const aws = [
  { below: 99, credit: 30 },
  { below: 95, credit: 100 },
];
const google = (target: number) => [
  { below: target, credit: 10 },
  { below: 99, credit: 25 },
  { below: 95, credit: 50 },
];
const azure = (target: number) => [
  { below: target, credit: 10 },
  { below: 99, credit: 25 },
  { below: 95, credit: 100 },
];
const compute = "AWS Compute Service Level Agreement, version of 2022-05-05";
const engine = "Google Compute Engine SLA, from a quoted copy";
const machines = "Microsoft Online Services SLA, Virtual Machines, from a quoted copy";

export const CLOUD_PROMISES: Readonly<Record<string, CloudPromise>> = {
  "aws-compute-region": {
    provider: "AWS",
    what: "compute in two or more zones",
    percent: 99.99,
    credits: [{ below: 99.99, credit: 10 }, ...aws],
    source: compute,
    date: "2022-05-05",
  },
  "aws-compute-instance": {
    provider: "AWS",
    what: "a single instance",
    percent: 99.5,
    credits: [{ below: 99.5, credit: 10 }, ...aws],
    source: compute,
    date: "2022-05-05",
  },
  "google-compute-zones": {
    provider: "Google",
    what: "instances in several zones",
    percent: 99.99,
    credits: google(99.99),
    source: engine,
    date: "undated",
  },
  "google-compute-instance": {
    provider: "Google",
    what: "a single instance",
    percent: 99.9,
    credits: google(99.9),
    source: engine,
    date: "undated",
  },
  "google-load-balancing": {
    provider: "Google",
    what: "load balancing",
    percent: 99.99,
    credits: google(99.99),
    source: engine,
    date: "undated",
  },
  "azure-vm-zones": {
    provider: "Azure",
    what: "machines in two or more zones",
    percent: 99.99,
    credits: azure(99.99),
    source: machines,
    date: "undated",
  },
  "azure-vm-set": {
    provider: "Azure",
    what: "machines in an availability set",
    percent: 99.95,
    credits: azure(99.95),
    source: machines,
    date: "undated",
  },
  "azure-vm-premium": {
    provider: "Azure",
    what: "a single machine, Premium SSD",
    percent: 99.9,
    credits: azure(99.9),
    source: machines,
    date: "undated",
  },
  "azure-vm-standard": {
    provider: "Azure",
    what: "a single machine, Standard SSD",
    percent: 99.5,
    credits: azure(99.5),
    source: machines,
    date: "undated",
  },
  "azure-vm-hdd": {
    provider: "Azure",
    what: "a single machine, HDD",
    percent: 95,
    credits: azure(95),
    source: machines,
    date: "undated",
  },
};

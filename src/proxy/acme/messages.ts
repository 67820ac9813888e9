/** What the process that orders a certificate and whoever started it say to each other, over Node's channel. */

/** What the authority will look for, and where. */
export type Challenge =
  | { readonly kind: "http-01"; readonly token: string; readonly answer: string }
  | {
      readonly kind: "tls-alpn-01";
      readonly name: string;
      readonly certificate: string;
      readonly key: string;
    };

export interface Account {
  /** PEM. */
  readonly key: string;
  readonly url: string;
}

export interface OrderRequest {
  readonly directory: string;
  readonly names: readonly string[];
  readonly challenge: Challenge["kind"];
  readonly email?: string | undefined;
  readonly externalAccount?: { readonly id: string; readonly key: string } | undefined;
  /** PEM of what signs the directory's certificate, beside the usual authorities. */
  readonly authorities?: string | undefined;
  /** Without one a new account is made. */
  readonly account?: Account | undefined;
}

export type ToOrder =
  | { readonly type: "order"; readonly request: OrderRequest }
  /** The challenge with this number can be found by the authority. */
  | { readonly type: "published"; readonly id: number };

export type FromOrder =
  | { readonly type: "challenge"; readonly id: number; readonly challenge: Challenge }
  /** The challenge with this number is over. */
  | { readonly type: "over"; readonly id: number }
  /** A new one. */
  | { readonly type: "account"; readonly account: Account }
  /** `pem`: the key, then the chain. */
  | { readonly type: "ordered"; readonly pem: string }
  | { readonly type: "failed"; readonly reason: string };

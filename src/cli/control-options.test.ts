import { describe, expect, it } from "vitest";
import { parseControl } from "./control-options.ts";

const token = { NINES_CONTROL_TOKEN: "secret" };

describe("--control", () => {
  it("is a host with or without a port, in either family", () => {
    const at = (control: string) => {
      const found = parseControl({ control }, token);
      return [found?.host, found?.port];
    };
    expect(at("lb1")).toEqual(["lb1", 7410]);
    expect(at("10.1.0.2:99")).toEqual(["10.1.0.2", 99]);
    expect(at("[2001:db8::1]:99")).toEqual(["2001:db8::1", 99]);
    expect(at("[2001:db8::1]")).toEqual(["2001:db8::1", 7410]);
    for (const wrong of ["2001:db8::1", "lb1:0", "lb1:70000", "lb1:x", "https://lb1"])
      expect(() => at(wrong)).toThrow(`--control ${wrong}: expected`);
  });
  it("takes the environment where no option says otherwise, and the token from nowhere else than file or environment", () => {
    expect(parseControl({}, {})).toBeUndefined();
    expect(() => parseControl({ control: "lb1" }, {})).toThrow("--control-token-file FILE");
    const environment = { NINES_CONTROL: "lb1", NINES_CONTROL_NAME: "a", NINES_CONTROL_CA: "ca", ...token };
    expect(parseControl({}, environment)).toEqual({
      host: "lb1",
      port: 7410,
      name: "a",
      caFile: "ca",
      tokenFile: "",
      token: "secret",
    });
    expect(parseControl({ control: "lb2", controlTokenFile: "t" }, environment)).toMatchObject({
      host: "lb2",
      tokenFile: "t",
      token: undefined,
    });
  });
});

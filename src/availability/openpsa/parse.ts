/** The elements of a model as they stand in the file, names not yet resolved. */
import type { ConfigIssue } from "../../base/errors.ts";
import {
  type Deviate,
  type Expression,
  type Operation,
  inputsOf,
  isDeviate,
  isOperation,
} from "../engine/expression.ts";
import type { GateKind } from "../engine/tree.ts";
import { type XmlOpen, XmlReader } from "./xml.ts";

export interface Formula {
  readonly op: GateKind;
  readonly atLeast: number;
  readonly inputs: readonly (Formula | Reference | boolean)[];
}
export interface Reference {
  readonly reference: string;
  /** "event" where the file leaves open which. */
  readonly kind: string;
  readonly line: number;
}

export interface Definition {
  readonly kind: "gate" | "basic-event" | "house-event" | "parameter";
  readonly name: string;
  readonly file: string;
  readonly line: number;
  /** Dotted path of the fault tree and components around it. */
  readonly base: string;
  formula?: Formula;
  /** Parameters in it are placeholders that carry the name used. */
  expression?: Expression | undefined;
  value?: boolean;
}

export interface GroupDefinition {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly base: string;
  readonly model: string;
  members: string[];
  distribution: Expression;
  factors: Expression[];
}

const GATES: Readonly<Record<string, GateKind>> = {
  and: "and",
  or: "or",
  not: "not",
  xor: "xor",
  nand: "nand",
  nor: "nor",
  atleast: "atleast",
};
const CCF_MODELS = new Set(["beta-factor", "MGL", "alpha-factor", "phi-factor"]);
const REFERENCES = new Set(["event", "gate", "basic-event", "house-event"]);
/** Known, without influence on the fault trees, and not analysed here. */
const IGNORED: Readonly<Record<string, string>> = {
  "define-event-tree": "event trees",
  "define-initiating-event": "initiating events",
  "define-rule": "rules",
  "define-alignment": "alignments",
};
const MAX_TEXT = 256 * 1024 * 1024;

export class ModelParser {
  name = "";
  file = "";
  readonly definitions: Definition[] = [];
  readonly groups: GroupDefinition[] = [];
  readonly issues: ConfigIssue[] = [];
  readonly ignored = new Set<string>();
  /** By container and name; "" holds the public names of all. Gates and events share one space. */
  readonly #events = new Map<string, Map<string, Definition>>();
  readonly #parameters = new Map<string, Map<string, Definition>>();
  #reader = new XmlReader("");

  /** Throws an XmlError where the file is not well formed or not a model. */
  parse(file: string, text: string): void {
    this.file = file;
    this.#reader = new XmlReader(text);
    if (text.length > MAX_TEXT) throw this.#reader.error(`the file is larger than ${MAX_TEXT >> 20} MiB`);
    const root = this.#child();
    if (root?.name !== "opsa-mef")
      throw this.#reader.error(
        `the root is <${root?.name ?? ""}>; expected <opsa-mef> (Open-PSA Model Exchange)`,
      );
    this.name ||= root.attributes.get("name") ?? "";
    this.#container("", false);
    this.#reader.next();
    this.#reader = new XmlReader("");
  }

  /** Up the enclosing containers, then the public names. */
  lookUp(reference: string, base: string, kind: string): Definition | undefined {
    const space = kind === "parameter" ? this.#parameters : this.#events;
    for (let scope = base; ; scope = scope.slice(0, Math.max(0, scope.lastIndexOf(".")))) {
      const found = this.#inScope(space, scope, reference);
      if (found && (kind === "parameter" || kind === "event" || found.kind === kind)) return found;
      if (scope === "") return undefined;
    }
  }
  /** By its name there, or by the path to it from there. */
  #inScope(
    space: ReadonlyMap<string, ReadonlyMap<string, Definition>>,
    scope: string,
    reference: string,
  ): Definition | undefined {
    const found = space.get(scope)?.get(reference);
    const dot = reference.lastIndexOf(".");
    if (found || dot < 0) return found;
    const inner = reference.slice(0, dot);
    return space.get(scope === "" ? inner : `${scope}.${inner}`)?.get(reference.slice(dot + 1));
  }

  /** The members of a group are defined by being named there, unless they are defined elsewhere as well. */
  member(name: string, group: GroupDefinition): Definition {
    const { file, line, base } = group;
    return (
      this.lookUp(name, base, "basic-event") ??
      this.#add({ kind: "basic-event", name, file, line, base }, false)
    );
  }

  /** The next child element of the one that was opened last; undefined at its end. */
  #child(): XmlOpen | undefined {
    for (;;) {
      const token = this.#reader.next();
      if (token === undefined || token.kind === "close") return undefined;
      if (token.kind === "open") return token;
      if (token.text.trim() !== "")
        throw this.#reader.error(`text "${token.text.trim().slice(0, 40)}" where an element is due`);
    }
  }
  /** Passes over the rest of an element. */
  #skip(): void {
    for (let depth = 1; depth > 0;) {
      const token = this.#reader.next();
      if (token === undefined) return;
      if (token.kind === "open") depth++;
      else if (token.kind === "close") depth--;
    }
  }
  #nameOf(element: XmlOpen): string {
    const name = element.attributes.get("name");
    if (name === undefined || name === "") throw this.#reader.error(`<${element.name}> has no name`);
    return name;
  }

  #container(base: string, isPrivate: boolean): void {
    for (let element = this.#child(); element; element = this.#child()) {
      const current = element;
      const inner = (): string => (base === "" ? this.#nameOf(current) : `${base}.${this.#nameOf(current)}`);
      const hidden =
        element.attributes.get("role") === "private" ||
        (isPrivate && element.attributes.get("role") !== "public");
      switch (element.name) {
        case "label":
        case "attributes":
          this.#skip();
          break;
        case "model-data":
          this.#container(base, isPrivate);
          break;
        case "define-fault-tree":
        case "define-component":
          this.#container(inner(), hidden);
          break;
        case "define-gate":
          this.#gate(element, base, hidden);
          break;
        case "define-house-event":
        case "define-basic-event":
        case "define-parameter":
          this.#leaf(element, base, hidden);
          break;
        case "define-CCF-group":
          this.#group(element, base);
          break;
        default: {
          const what = IGNORED[element.name];
          if (what === undefined)
            throw this.#reader.error(
              element.name === "define-substitution"
                ? "substitutions change the result and are not supported"
                : `<${element.name}> is not known here`,
            );
          this.ignored.add(what);
          this.#skip();
        }
      }
    }
  }

  #add(definition: Definition, hidden: boolean): Definition {
    const space = definition.kind === "parameter" ? this.#parameters : this.#events;
    const { name, base } = definition;
    for (const scope of hidden || base === "" ? [base] : [base, ""]) {
      let names = space.get(scope);
      if (names === undefined) space.set(scope, (names = new Map()));
      const other = names.get(name);
      if (other !== undefined && other !== definition) {
        const { file, line } = definition;
        const message = `"${name}" is defined twice, first at ${other.file}:${other.line}`;
        if (this.issues.length < 100) this.issues.push({ file, line, column: 1, path: name, message });
        break;
      }
      names.set(name, definition);
    }
    this.definitions.push(definition);
    return definition;
  }

  /** Children but for labels and attributes. */
  #content(): XmlOpen | undefined {
    for (;;) {
      const element = this.#child();
      if (element?.name !== "label" && element?.name !== "attributes") return element;
      this.#skip();
    }
  }

  #gate(element: XmlOpen, base: string, hidden: boolean): void {
    const name = this.#nameOf(element);
    const { line } = element;
    const definition = this.#add({ kind: "gate", name, file: this.file, line, base }, hidden);
    const body = this.#content();
    if (!body) throw this.#reader.error(`the gate "${name}" has no formula`);
    const formula = this.#formula(body);
    definition.formula =
      typeof formula === "object" && "op" in formula ? formula : { op: "is", atLeast: 0, inputs: [formula] };
    if (this.#content()) throw this.#reader.error(`the gate "${name}" has more than one formula`);
  }

  #formula(element: XmlOpen): Formula | Reference | boolean {
    if (REFERENCES.has(element.name)) {
      const kind = element.attributes.get("type") ?? element.name;
      const reference: Reference = { reference: this.#nameOf(element), kind, line: element.line };
      this.#skip();
      return reference;
    }
    if (element.name === "constant") return this.#boolean(element);
    const op = Object.hasOwn(GATES, element.name) ? GATES[element.name] : undefined;
    if (op === undefined)
      throw this.#reader.error(
        `<${element.name}> is no formula; expected one of ${Object.keys(GATES).join(", ")} or an event`,
      );
    const inputs: (Formula | Reference | boolean)[] = [];
    for (let child = this.#child(); child; child = this.#child()) inputs.push(this.#formula(child));
    const atLeast = op === "atleast" ? Number(element.attributes.get("min") ?? Number.NaN) : 0;
    if (!Number.isInteger(atLeast) || atLeast < 0)
      throw this.#reader.error("<atleast> needs min, a whole number");
    if (inputs.length === 0 || (op === "not" && inputs.length !== 1))
      throw this.#reader.error(`<${element.name}> has ${inputs.length} inputs`);
    if (op === "atleast" && atLeast > inputs.length)
      throw this.#reader.error(`<atleast min="${atLeast}"> has only ${inputs.length} inputs`);
    return { op, atLeast, inputs };
  }

  #boolean(element: XmlOpen): boolean {
    const value = element.attributes.get("value");
    if (value !== "true" && value !== "false" && value !== "0" && value !== "1")
      throw this.#reader.error(`a constant is true or false, not "${value ?? ""}"`);
    this.#skip();
    return value === "true" || value === "1";
  }

  #leaf(element: XmlOpen, base: string, hidden: boolean): void {
    const kind = element.name.slice("define-".length) as "house-event" | "basic-event" | "parameter";
    const definition = this.#add(
      { kind, name: this.#nameOf(element), file: this.file, line: element.line, base },
      hidden,
    );
    for (let child = this.#content(); child; child = this.#content()) {
      if (kind === "house-event") definition.value = this.#boolean(child);
      else if (definition.expression)
        throw this.#reader.error(`"${definition.name}" has more than one value`);
      else definition.expression = this.#expression(child);
    }
    if (kind === "parameter" && !definition.expression)
      throw this.#reader.error(`the parameter "${definition.name}" has no value`);
  }

  #expression(element: XmlOpen): Expression {
    const { name } = element;
    if (name === "float" || name === "int" || name === "bool") return this.#constant(element);
    if (name === "parameter") {
      const parameter = { name: this.#nameOf(element), expression: { kind: "constant", value: 0 } as const };
      this.#skip();
      return { kind: "parameter", parameter };
    }
    if (name === "system-mission-time") {
      this.#skip();
      return { kind: "missionTime" };
    }
    if (name === "histogram") return { kind: "histogram", inputs: this.#inputs(name, 3, 1000) };
    if (name === "switch") return this.#switch();
    const deviate = name.endsWith("-deviate") ? name.slice(0, -"-deviate".length) : "";
    if (isDeviate(deviate)) {
      const inputs = this.#inputs(name, ...inputsOf(deviate));
      this.#checkDeviate(deviate, inputs);
      return { kind: "deviate", deviate, inputs };
    }
    if (!isOperation(name)) throw this.#reader.error(`<${name}> is no expression that is known here`);
    const operation: Operation = name;
    return { kind: "operation", operation, inputs: this.#inputs(name, ...inputsOf(operation)) };
  }

  #constant(element: XmlOpen): Expression {
    const text = element.attributes.get("value") ?? "";
    this.#skip();
    if (element.name === "bool" && (text === "true" || text === "false"))
      return { kind: "constant", value: text === "true" ? 1 : 0 };
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) throw this.#reader.error(`"${text}" is not a number`);
    return { kind: "constant", value };
  }

  #inputs(name: string, least: number, most: number): Expression[] {
    const inputs: Expression[] = [];
    for (let child = this.#child(); child; child = this.#child()) {
      if (child.name === "bin") inputs.push(...this.#inputs("bin", 2, 2));
      else inputs.push(this.#expression(child));
    }
    if (inputs.length < least || inputs.length > most)
      throw this.#reader.error(
        `<${name}> has ${inputs.length} inputs; expected ${least === most ? least : `${least} to ${most}`}`,
      );
    return inputs;
  }

  #switch(): Expression {
    const cases: Expression[][] = [];
    let otherwise: Expression | undefined;
    for (let child = this.#child(); child; child = this.#child()) {
      if (child.name === "case") cases.push(this.#inputs("case", 2, 2));
      else otherwise = this.#expression(child);
    }
    if (!otherwise) throw this.#reader.error("<switch> needs a last expression for all other cases");
    return cases.reduceRight<Expression>(
      (rest, one) => ({ kind: "operation", operation: "ite", inputs: [...one, rest] }),
      otherwise,
    );
  }

  #checkDeviate(deviate: Deviate, inputs: readonly Expression[]): void {
    const constants = inputs.map((input) => (input.kind === "constant" ? input.value : undefined));
    const [a, b] = constants;
    const wrong =
      (deviate === "uniform" &&
        a !== undefined &&
        b !== undefined &&
        a >= b &&
        "the upper end is not above the lower") ||
      (deviate === "normal" && b !== undefined && b <= 0 && "the deviation is not positive") ||
      (deviate === "lognormal" &&
        inputs.length === 3 &&
        b !== undefined &&
        b <= 1 &&
        "the error factor is not above 1") ||
      ((deviate === "gamma" || deviate === "beta") &&
        constants.some((c) => c !== undefined && c <= 0) &&
        "a parameter is not positive");
    if (wrong) throw this.#reader.error(`<${deviate}-deviate>: ${wrong}`);
  }

  #group(element: XmlOpen, base: string): void {
    const model = element.attributes.get("model") ?? "";
    if (!CCF_MODELS.has(model))
      throw this.#reader.error(
        `"${model}" is no common-cause model; expected one of ${[...CCF_MODELS].join(", ")}`,
      );
    const group: GroupDefinition = {
      name: this.#nameOf(element),
      file: this.file,
      line: element.line,
      base,
      model,
      members: [],
      distribution: { kind: "constant", value: Number.NaN },
      factors: [],
    };
    for (let child = this.#content(); child; child = this.#content()) {
      if (child.name === "members") {
        for (let member = this.#child(); member; member = this.#child()) {
          group.members.push(this.#nameOf(member));
          this.#skip();
        }
      } else if (child.name === "distribution")
        [group.distribution] = this.#inputs("distribution", 1, 1) as [Expression];
      else if (child.name === "factor") this.#factor(group, child);
      else if (child.name === "factors")
        for (let factor = this.#child(); factor; factor = this.#child()) this.#factor(group, factor);
      else throw this.#reader.error(`<${child.name}> in a common-cause group`);
    }
    if (group.factors.includes(undefined as never) || group.factors.length === 0)
      throw this.#reader.error(`the factors of the group "${group.name}" have gaps or are missing`);
    this.groups.push(group);
  }

  #factor(group: GroupDefinition, element: XmlOpen): void {
    const first = group.model === "MGL" ? 2 : 1;
    const level = Number(element.attributes.get("level") ?? group.factors.length + first);
    const [value] = this.#inputs("factor", 1, 1);
    // A beta factor's level is the size of the group, and it has only the one.
    const at = group.model === "beta-factor" ? group.factors.length : level - first;
    if (!Number.isInteger(at) || at < 0 || at > 64) throw this.#reader.error(`a factor of level ${level}`);
    group.factors[at] = value!;
  }
}

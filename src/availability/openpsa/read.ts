/**
 * Open-PSA Model Exchange files to a fault tree: fault trees and components with public and private names,
 * house events, parameters and expressions, common-cause groups. All mistakes of a file at once, with lines.
 */
import { ConfigError, type ConfigIssue } from "../../base/errors.ts";
import { type CommonCauseModel, applyCommonCause, jointProbabilities } from "../engine/common-cause.ts";
import { type Expression, ExpressionContext, type Parameter, isUncertain } from "../engine/expression.ts";
import { FALSE, FaultTree, type Literal, TRUE } from "../engine/tree.ts";
import { ModelParser, type Definition, type Formula, type GroupDefinition } from "./parse.ts";
import { XmlError } from "./xml.ts";

export interface OpenPsaFile {
  readonly file: string;
  readonly text: string;
}

export interface OpenPsaModel {
  readonly name: string;
  readonly tree: FaultTree;
  /** Gates that no other gate uses, in the order of the file: each is a top to analyse. */
  readonly tops: readonly Literal[];
  /** Per tree node of a basic event whose probability is uncertain: the expression that it came from. */
  readonly expressions: ReadonlyMap<number, Expression>;
  /** Whether a Monte Carlo run would tell more than the point values. */
  readonly uncertain: boolean;
  /** What the files contain and this program does not analyse, e.g. event trees. */
  readonly ignored: readonly string[];
}

export interface ReadOptions {
  /** Hours; 8760 unless told. */
  readonly missionTime?: number | undefined;
  /** Whether common-cause groups count. Default true. */
  readonly commonCause?: boolean | undefined;
}

const MAX_ISSUES = 20;

/** Throws a ConfigError that lists up to 20 mistakes. */
export function readOpenPsa(files: readonly OpenPsaFile[], options: ReadOptions = {}): OpenPsaModel {
  const parser = new ModelParser();
  for (const { file, text } of files) {
    try {
      parser.parse(file, text);
    } catch (thrown) {
      if (!(thrown instanceof XmlError)) throw thrown;
      const { line, column, message } = thrown;
      throw new ConfigError([{ file, line, column, path: "", message }]);
    }
  }
  return new Resolver(parser, options).resolve();
}

class Resolver {
  readonly #parser: ModelParser;
  readonly #options: ReadOptions;
  readonly #tree = new FaultTree();
  readonly #issues: ConfigIssue[] = [];
  readonly #literals = new Map<Definition, Literal>();
  readonly #parameters = new Map<Definition, Parameter>();
  readonly #used = new Set<Definition>();
  readonly #context: ExpressionContext;

  constructor(parser: ModelParser, options: ReadOptions) {
    this.#parser = parser;
    this.#options = options;
    this.#context = new ExpressionContext(options.missionTime ?? 8760);
  }

  resolve(): OpenPsaModel {
    const { definitions, groups } = this.#parser;
    this.#issues.push(...this.#parser.issues);
    for (const definition of definitions)
      if (definition.kind === "parameter")
        this.#parameters.set(definition, {
          name: definition.name,
          expression: { kind: "constant", value: 0 },
        });
    for (const definition of definitions)
      if (definition.kind === "parameter" && definition.expression)
        this.#parameters.get(definition)!.expression = this.#expression(definition.expression, definition);
    this.#checkParameterCycles();
    this.#stopIfWrong();
    const grouped = new Set<Definition>();
    const groupsWithMembers = groups.map((group) => {
      const members = group.members.map((name) => this.#parser.member(name, group));
      for (const member of members) grouped.add(member);
      return { group, members };
    });
    const expressions = new Map<number, Expression>();
    for (const definition of definitions) this.#declare(definition, grouped, expressions);
    for (const definition of definitions)
      if (definition.kind === "gate" && definition.formula) {
        const { formula } = definition;
        const inputs = this.#inputs(formula, definition);
        this.#tree.define(this.#literals.get(definition)!, formula.op, inputs, formula.atLeast);
      }
    this.#stopIfWrong();
    for (const { group, members } of groupsWithMembers) this.#group(group, members, expressions);
    this.#stopIfWrong();
    const tops = definitions
      .filter((definition) => definition.kind === "gate" && !this.#used.has(definition))
      .map((definition) => this.#literals.get(definition)!);
    this.#checkCycles(tops);
    this.#stopIfWrong();
    return {
      name: this.#parser.name,
      tree: this.#tree,
      tops,
      expressions,
      uncertain: expressions.size > 0,
      ignored: [...this.#parser.ignored],
    };
  }

  #issue(definition: { file: string; line: number }, path: string, message: string, hint?: string): void {
    const { file, line } = definition;
    this.#issues.push({ file, line, column: 1, path, message, ...(hint === undefined ? {} : { hint }) });
  }
  #stopIfWrong(): void {
    if (this.#issues.length === 0) return;
    const more = this.#issues.length - MAX_ISSUES;
    const shown = this.#issues.slice(0, MAX_ISSUES);
    if (more > 0) shown.push({ ...shown[0]!, message: `and ${more} more mistakes in this model` });
    throw new ConfigError(shown);
  }

  #declare(
    definition: Definition,
    grouped: ReadonlySet<Definition>,
    expressions: Map<number, Expression>,
  ): void {
    const tree = this.#tree;
    if (definition.kind === "gate") this.#literals.set(definition, tree.declare(definition.name));
    else if (definition.kind === "house-event")
      this.#literals.set(definition, definition.value === true ? TRUE : FALSE);
    else if (definition.kind === "basic-event") {
      let probability = 0;
      if (definition.expression) {
        const expression = this.#expression(definition.expression, definition);
        probability = this.#probability(expression, definition);
        if (isUncertain(expression)) expressions.set(tree.nodes.length, expression);
      } else if (!grouped.has(definition))
        this.#issue(
          definition,
          definition.name,
          "the basic event has no probability",
          'e.g. <float value="0.01"/> inside <define-basic-event>',
        );
      this.#literals.set(definition, tree.event(definition.name, probability));
    }
  }

  #probability(expression: Expression, definition: Definition): number {
    const value = this.#context.value(expression);
    if (value >= 0 && value <= 1) return value;
    this.#issue(definition, definition.name, `the probability is ${value}`, "expected a number from 0 to 1");
    return 0;
  }

  /** References inside an expression become parameters. */
  #expression(expression: Expression, owner: Definition | GroupDefinition): Expression {
    if (expression.kind === "parameter") {
      const found = this.#find(expression.parameter.name, owner, "parameter");
      const parameter = found && this.#parameters.get(found);
      return parameter ? { kind: "parameter", parameter } : { kind: "constant", value: 0 };
    }
    if (expression.kind === "operation" || expression.kind === "deviate" || expression.kind === "histogram")
      return { ...expression, inputs: expression.inputs.map((input) => this.#expression(input, owner)) };
    return expression;
  }

  #find(
    reference: string,
    from: { file: string; line: number; base: string; name: string },
    kind: string,
  ): Definition | undefined {
    const found = this.#parser.lookUp(reference, from.base, kind);
    if (found) return found;
    const what = kind === "event" ? "event" : kind.replace("-", " ");
    this.#issue(from, from.name, `the ${what} "${reference}" is not defined`);
    return undefined;
  }

  #inputs(formula: Formula, owner: Definition): Literal[] {
    const inputs: Literal[] = [];
    for (const input of formula.inputs) {
      if (typeof input === "boolean") inputs.push(input ? TRUE : FALSE);
      else if ("op" in input) {
        const anonymous = this.#tree.declare(`${owner.name}/${input.op}`);
        this.#tree.define(anonymous, input.op, this.#inputs(input, owner), input.atLeast);
        inputs.push(anonymous);
      } else {
        const found = this.#find(input.reference, { ...owner, line: input.line }, input.kind);
        if (!found) continue;
        if (found.kind === "gate" && found !== owner) this.#used.add(found);
        inputs.push(this.#literals.get(found) ?? FALSE);
      }
    }
    return inputs;
  }

  #group(group: GroupDefinition, members: readonly Definition[], expressions: Map<number, Expression>): void {
    const distribution = this.#expression(group.distribution, group);
    const q = this.#context.value(distribution);
    if (!(q >= 0 && q <= 1)) {
      this.#issue(group, group.name, `the group's probability is ${q}`, "expected a number from 0 to 1");
      return;
    }
    const literals = members.map((member) => this.#literals.get(member)!);
    for (const literal of literals) {
      const node = this.#tree.nodes[literal >> 1];
      if (node?.kind === "event") node.probability = q;
      if (isUncertain(distribution)) expressions.set(literal >> 1, distribution);
    }
    if (this.#options.commonCause === false) return;
    const factors = group.factors.map((factor) => this.#context.value(this.#expression(factor, group)));
    const joint = jointProbabilities(group.model as CommonCauseModel, members.length, q, factors);
    const applied = joint.ok ? applyCommonCause(this.#tree, group.name, literals, joint.value) : joint;
    if (!applied.ok) return this.#issue(group, group.name, applied.error);
    if (!isUncertain(distribution)) return;
    for (const { event, size } of applied.value) {
      const share = q === 0 ? 0 : (joint.ok ? joint.value[size]! : 0) / q;
      const inputs: Expression[] = [distribution, { kind: "constant", value: share }];
      expressions.set(event >> 1, { kind: "operation", operation: "mul", inputs });
    }
  }

  /** From every gate: a model that is all cycle has no top. */
  #checkCycles(tops: readonly Literal[]): void {
    const tree = this.#tree;
    const gates = [...this.#literals].filter(([definition]) => definition.kind === "gate");
    const all = tree.declare("all gates");
    tree.define(
      all,
      "or",
      gates.map(([, literal]) => literal),
    );
    tree.top = all;
    const order = tree.order();
    tree.nodes.pop();
    if (!order.ok) {
      const at = gates.find(([definition]) => definition.name === order.error.node)?.[0] ?? gates[0]![0];
      this.#issue(at, at.name, order.error.message);
    } else if (tops.length === 0) {
      const first = this.#parser.definitions[0];
      this.#issue(
        first ?? { file: this.#parser.file, line: 1 },
        "",
        "the model has no gate, so there is nothing to analyse",
      );
    }
    tree.top = tops[0] ?? FALSE;
  }

  #checkParameterCycles(): void {
    const state = new Map<Parameter, 1 | 2>();
    const lineOf = new Map([...this.#parameters].map(([definition, parameter]) => [parameter, definition]));
    const next = (expression: Expression): Parameter[] =>
      expression.kind === "parameter"
        ? [expression.parameter]
        : "inputs" in expression
          ? expression.inputs.flatMap(next)
          : [];
    for (const start of lineOf.keys()) {
      const path: { parameter: Parameter; rest: Parameter[] }[] = [];
      const enter = (parameter: Parameter): void => {
        state.set(parameter, 1);
        path.push({ parameter, rest: next(parameter.expression) });
      };
      if (!state.has(start)) enter(start);
      while (path.length > 0) {
        const top = path.at(-1)!;
        const child = top.rest.pop();
        if (child === undefined) {
          state.set(top.parameter, 2);
          path.pop();
        } else if (state.get(child) === 1) {
          const names = path
            .slice(path.findIndex((step) => step.parameter === child))
            .map((s) => s.parameter.name);
          const at = lineOf.get(child)!;
          this.#issue(at, child.name, `the parameter is cyclic: ${[...names, child.name].join(" -> ")}`);
          return;
        } else if (!state.has(child)) {
          if (path.length > 1000) {
            this.#issue(lineOf.get(child)!, child.name, "parameters refer to each other more than 1000 deep");
            return;
          }
          enter(child);
        }
      }
    }
  }
}

import { type Command, Argument } from "commander";

type Shell = "bash" | "zsh" | "fish";

export function registerCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a completion script for your shell: source <(nines completion bash)")
    .addArgument(new Argument("<shell>", "which shell").choices(["bash", "zsh", "fish"]))
    .action((shell: Shell) => {
      console.log(script[shell](program));
    });
}

const flags = (command: Command): string[] =>
  command.options.flatMap((option) => option.long ?? option.short ?? []);

const quote = (text: string): string => text.replaceAll("'", "").replaceAll(":", "");

const script: Readonly<Record<Shell, (program: Command) => string>> = {
  bash: (program) => {
    const names = program.commands.map((command) => command.name());
    const cases = program.commands.map(
      (command) =>
        `    ${command.name()}) words="${[...flags(command), ...command.commands.map((sub) => sub.name())].join(" ")}" ;;`,
    );
    return `_nines() {
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names.join(" ")}" -- "\${COMP_WORDS[1]}"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}") $(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _nines nines`;
  },
  zsh: (program) => {
    const names = program.commands.map(
      (command) => `    '${command.name()}:${quote(command.description())}'`,
    );
    const cases = program.commands.map((command) => {
      const options = command.options.map((option) => `'${option.long ?? ""}[${quote(option.description)}]'`);
      return `    ${command.name()}) _arguments ${[...options, "'*:file:_files'"].join(" ")} ;;`;
    });
    return `#compdef nines
_nines() {
  local -a commands=(
${names.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join("\n")}
  esac
}
compdef _nines nines`;
  },
  fish: (program) => {
    const lines = program.commands.flatMap((command) => [
      `complete -c nines -n __fish_use_subcommand -a ${command.name()} -d '${quote(command.description())}'`,
      ...command.options
        .filter((option) => option.long !== undefined)
        .map(
          (option) =>
            `complete -c nines -n '__fish_seen_subcommand_from ${command.name()}' -l ${(option.long ?? "").slice(2)}${option.required ? " -r" : ""} -d '${quote(option.description)}'`,
        ),
    ]);
    return lines.join("\n");
  },
};
